"""Ctrl-C as a wish and not as an accident: long work ends its step, keeps what it has, and then stops."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopWish:
    """True once the user (Ctrl-C) or the system (SIGTERM) asked to stop; the second time it raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self._asked = False

    def __bool__(self) -> bool:
        return self._asked

    def ask(self, _signal: int = signal.SIGINT, _frame: FrameType | None = None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


@contextmanager
def stop_wish() -> Iterator[StopWish]:
    """Takes over SIGINT and SIGTERM while the block runs (in the main thread; elsewhere nothing is taken over)."""
    wish = StopWish()
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {number: signal.signal(number, wish.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def was_interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C stands behind ``error``: native code that it hits may make another exception of it (numpy: SystemError)."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        if isinstance(link, KeyboardInterrupt):
            return True
        seen.add(id(link))
        link = link.__cause__ or link.__context__
    return False
