"""What the environment says to torch and the libraries below it, which read it once, when they are loaded.

Whatever the user has set there stays as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_LOOKS = 1000  # a few microseconds; only GNU's OpenMP, which torch has on Linux, reads it
_KERNELS = 96  # a layer and its backward pass take about forty


def settle_environment() -> None:
    """To be called before torch is loaded."""
    _let_threads_sleep()
    _align_large_tensors()
    _keep_few_kernels()


def _let_threads_sleep() -> None:
    """Threads that wait leave their core to others, but for a thousand looks first.

    By default OpenMP's spin for milliseconds: on a machine that does something else too, they then hold the very core that the
    thread they wait for needs. Asleep at once, they have to be woken between any two small operations. A model 256 wide, on two
    cores, milliseconds a token: asleep 0.40, a thousand looks 0.34, ten thousand 0.33; with another program on one of them 0.59,
    0.66 and 1.31.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(_LOOKS))


def _align_large_tensors() -> None:
    """Tensors of 2 MiB and more begin at a page, in huge pages where the system has them.

    To align to 64 bytes, as torch otherwise does, glibc cuts a tensor out of a larger piece and gives the cuttings to small
    objects, which stay: the room of a freed tensor is then too small for the next of its size. Where layers are computed again,
    two thirds more than the tensors was held so, and a quarter at a page's bounds. Nothing is set where Linux has no huge pages.
    """
    if _HUGE_PAGES.is_file():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def _keep_few_kernels() -> None:
    """oneDNN, which multiplies bfloat16 on a CPU, keeps the kernels that it makes for the latest shapes, of about 400 KB each;
    torch keeps another list of them, which holds on to those that oneDNN would let go.

    Either keeps 1,024 of them. Every micro-batch has shapes of its own, so no more than those of one are of use; to make them
    takes a hundredth of what a micro-batch does, and to find them in oneDNN's list nothing that can be measured. With both lists
    short, a training of 135 million parameters takes 1.0 GiB where it took 1.4, and no less time.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_KERNELS))
    os.environ.setdefault("LRU_CACHE_CAPACITY", "1")
