"""Python's garbage collector where many objects are made and few of them in rings."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_ALLOCATIONS = 50_000  # objects made before the youngest are looked through; Python's own is 700


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Inside, the collector passes over everything that was there before, and looks through the new less often.

    It otherwise goes through all loaded modules again and again while rows are read, which takes a sixth of the time.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
