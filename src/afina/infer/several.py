"""Several requests at once, their results in the order in which they were asked for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, wait
from threading import Event, Semaphore, Thread
from typing import TypeVar

from afina.infer.openai import is_local

AT_ONCE = 4  # requests to a provider, which hold its smallest limits
AT_ONCE_HERE = 2  # to a server on this machine: one is read while another is written, and more would wait in its queue
_AHEAD = 2  # times as many may be begun before the first of them has ended

Item = TypeVar("Item")
Result = TypeVar("Result")


def at_once(address: str) -> int:
    """How many requests a server at ``address`` gets at a time."""
    return AT_ONCE_HERE if is_local(address) else AT_ONCE


def several(work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
    """``work`` done on each item, at most ``most`` at a time in threads; the results in the order of the items.

    Where one fails no other is begun; those under way end, and then its error is raised, in its place. Ctrl-C waits for nobody.
    """
    slots, failed = Semaphore(most), Event()
    begun: deque[Future[Result]] = deque()
    try:
        for item in items:
            begun.append(_begin(work, item, slots, failed))
            if len(begun) >= _AHEAD * most:
                yield _first(begun)
        while begun:
            yield _first(begun)
    finally:
        failed.set()


def _begin(work: Callable[[Item], Result], item: Item, slots: Semaphore, failed: Event) -> Future[Result]:
    future: Future[Result] = Future()

    def run() -> None:
        with slots:
            if failed.is_set():
                future.set_exception(CancelledError())
                return
            try:
                future.set_result(work(item))
            except BaseException as error:  # noqa: BLE001 -- raised again where the result is taken
                failed.set()
                future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future


def _first(begun: deque[Future[Result]]) -> Result:
    """The result of the first of them. Raises, once all have ended, the error of the first that failed."""
    future = begun.popleft()
    if future.exception() is None:
        return future.result()
    wait(begun)
    errors = [one.exception() for one in (future, *begun)]
    raise next(error for error in errors if error is not None and not isinstance(error, CancelledError))
