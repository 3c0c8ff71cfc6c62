"""Patience with a server: asked again where it is busy, fails or breaks off, and left alone by all when it asks for a pause.

429, or a pause named with 5xx     nobody asks until the pause is over, and then half as many at once
500, 502, 503, 529, broken off     who was refused asks again after 2, 4, 8 seconds
refused connection, too slow       not asked again: nobody is there
"""

from __future__ import annotations

import http.client
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from urllib.parse import urlsplit

from afina.core.errors import ServiceError
from afina.core.translation import _

TRIES = 4
LONGEST_WAIT_S = 60.0
BROKEN = 0  # in the place of a status: the connection broke before the answer was whole
BUSY = (http.client.TOO_MANY_REQUESTS, 500, 502, 503, 529)
_LOST = (http.client.IncompleteRead, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


@dataclass(frozen=True)
class Reply:
    """Status, the seconds that the server asks to wait, and what it says."""

    status: int
    wait_s: float | None
    content: bytes


class Turnstile:
    """Before one server: all who ask it pass here."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside = 0
        self._most = math.inf
        self._closed_until = 0.0

    @contextmanager
    def passage(self) -> Iterator[None]:
        """Waits for room, and until a pause is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._most)
            self._inside += 1
        try:
            self._wait()
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self, seconds: float) -> None:
        """Nobody passes for so long, and from then on half as many as are inside now."""
        with self._changed:
            self._closed_until = max(self._closed_until, time.monotonic() + seconds)
            self._most = max(1, self._inside // 2)

    def _wait(self) -> None:
        """A pause may be lengthened while one waits."""
        waited_until = 0.0
        while (until := self._closed_until) != waited_until and (left := until - time.monotonic()) > 0:
            time.sleep(left)
            waited_until = until


def persist(turnstile: Turnstile, ask: Callable[[], Reply]) -> Reply:
    """The reply of ``ask``, which is called up to TRIES times; the last one may still be BUSY or BROKEN."""
    for tried in range(1, TRIES):
        with turnstile.passage():
            reply = ask()
            again = reply.status == BROKEN or reply.status in BUSY
            wait = min(LONGEST_WAIT_S, 2.0**tried if reply.wait_s is None else reply.wait_s)
            for_all = reply.status == http.client.TOO_MANY_REQUESTS or reply.wait_s is not None
            if again and for_all:
                turnstile.close(wait)
        if not again:
            return reply
        if not for_all:
            time.sleep(wait)
    with turnstile.passage():
        return ask()


def broken_off(address: str) -> ServiceError:
    """The error of a server whose last reply was BROKEN too."""
    return ServiceError(
        _("{address} breaks off its answer, {count} times").format(address=address, count=TRIES),
        fix=_("look at the server's log; the same command goes on from here"),
    )


def exchange(address: str, method: str, path: str, data: bytes | None, headers: dict[str, str], timeout_s: float) -> Reply:
    """One request to ``address``. A connection that is lost is a BROKEN reply; any other failure an OSError or HTTPException."""
    place = urlsplit(address)
    kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
    connection = kind(place.hostname or "127.0.0.1", place.port, timeout=timeout_s)
    try:
        connection.request(method, place.path.rstrip("/") + path, data, headers)
        response = connection.getresponse()
        wait = response.getheader("Retry-After") or ""
        return Reply(response.status, float(wait) if wait.isdigit() else None, response.read())
    except _LOST:  # RemoteDisconnected is a ConnectionResetError
        return Reply(BROKEN, None, b"")
    finally:
        connection.close()
