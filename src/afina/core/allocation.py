"""Where torch places its tensors in RAM. To be settled before torch allocates the first, when it reads this once."""

from __future__ import annotations

import os
from pathlib import Path

_HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def align_large_tensors() -> None:
    """Tensors of 2 MiB and more begin at a page, in huge pages where the system has them, unless the environment says otherwise.

    To align to 64 bytes, as torch otherwise does, glibc cuts a tensor out of a larger piece and gives the cuttings to small
    objects, which stay: the room of a freed tensor is then too small for the next of its size. Where layers are computed again,
    two thirds more than the tensors was held so, and a quarter at a page's bounds. Nothing is set where Linux has no huge pages.
    """
    if _HUGE_PAGES.is_file():
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
