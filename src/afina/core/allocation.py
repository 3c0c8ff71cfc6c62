"""Memory that was freed and is still held."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

from afina.core import hardware

_SHARE = 0.01  # of the time
_BYTE_S = 1.5e-6 / 4096  # to get one anew: pages of 4 KiB, filled with zeros; measured in a virtual machine


class FreedMemory:
    """What was freed and the C library keeps, for the next time that something of its size is wanted.

    Micro-batches of ever other sizes leave gaps that the next ones do not fit into: in bfloat16 a training held a third more than
    at its start, and held ever more.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def give_back(self) -> None:
        """Returns it to the system; now and then, so that this, and to get it anew, take a hundredth of the time at most.

        Does nothing where the C library is not glibc.
        """
        began = time.monotonic()
        if _trim is None or began < self._next:
            return
        before = hardware.resident_bytes()
        _trim(0)
        given = max(0, before - hardware.resident_bytes())
        ended = time.monotonic()
        self._next = ended + (ended - began + given * _BYTE_S) / _SHARE


def _find_trim() -> Callable[[int], int] | None:
    """glibc's ``malloc_trim``."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # of another C library; of Windows
        return None
    return trim


_trim = _find_trim()
