"""How much RAM torch holds beside its tensors. The first two are settled before torch is loaded, which reads them once."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from pathlib import Path

_STATM = Path("/proc/self/statm")
_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_KERNELS = 96  # a layer and its backward pass take about forty
_SHARE = 0.01  # of the time
_PAGE_S = 1.5e-6  # that it takes to get one anew, filled with zeros; measured in a virtual machine


def align_large_tensors() -> None:
    """Tensors of 2 MiB and more begin at a page, in huge pages where the system has them, unless the environment says otherwise.

    To align to 64 bytes, as torch otherwise does, glibc cuts a tensor out of a larger piece and gives the cuttings to small
    objects, which stay: the room of a freed tensor is then too small for the next of its size. Where layers are computed again,
    two thirds more than the tensors was held so, and a quarter at a page's bounds. Nothing is set where Linux has no huge pages.
    """
    if _HUGE_PAGES.is_file():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_few_kernels() -> None:
    """oneDNN, which multiplies bfloat16 on a CPU, keeps the kernels that it makes for the latest shapes, of about 400 KB each.

    It keeps 1,024 of them unless the environment says otherwise. Every micro-batch has shapes of its own, so no more than those
    of one are of use; to make them takes a hundredth of what a micro-batch does.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS))


class FreedMemory:
    """What was freed and the C library keeps, for the next time that something of its size is wanted.

    Micro-batches of ever other sizes leave gaps that the next ones do not fit into: in bfloat16 a training held a third more than
    at its start, and held ever more.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def give_back(self) -> None:
        """Returns it to the system; now and then, so that this, and to get it anew, take no more than a hundredth of the time. Does
        nothing where the C library is not glibc.
        """
        began = time.monotonic()
        if _trim is None or began < self._next:
            return
        before = _resident_pages()
        _trim(0)
        given = max(0, before - _resident_pages())
        ended = time.monotonic()
        self._next = ended + (ended - began + given * _PAGE_S) / _SHARE


def _resident_pages() -> int:
    """0 where the system does not tell."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) if _STATM.is_file() else 0


def _find_trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # of another C library; of Windows
        return None
    return trim


_trim = _find_trim()
