"""A Python process beside this one that answers requests: lists of bytes through its pipes, no pickles.

It is the same on every system, needs nothing of the program that started it, and ends with its standard input, so it never
outlives this process. What crashes there (native code that calls ``abort``) is an error here and no more.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import IO, Any, TypeVar

Parts = Sequence[bytes]
T = TypeVar("T")

_LENGTH = struct.Struct("<Q")
_NEW_GROUP: int = vars(subprocess).get("CREATE_NEW_PROCESS_GROUP", 0)
_LAST_WORDS = 2000  # bytes


class Child:
    """A process that runs ``code``, which ends in ``serve``; asked one thing at a time. Close it, after ``kill`` or not."""

    def __init__(self, code: str, environment: Mapping[str, str]) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment},
            start_new_session=True,  # Ctrl-C is for this process, which then ends the others
            creationflags=_NEW_GROUP,  # the same on Windows
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, parts: Parts) -> list[bytes]:
        """The answer. Raises OSError or EOFError where the process has ended; ``exit_code`` and ``last_words`` tell more."""
        _send(self._requests, parts)
        return _receive(self._answers)

    def exit_code(self) -> int:
        return self._process.wait()

    def last_words(self) -> str:
        """The end of what it wrote on standard error."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _LAST_WORDS))
        return self._said.read().decode("utf-8", "replace").strip()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        """Waits for its end, which comes with that of its input."""
        with suppress(BrokenPipeError):  # of what it was being told when it was ended
            self._requests.close()
        self._process.wait()
        self._answers.close()
        self._said.close()


def serve(answer: Callable[[list[bytes]], Parts]) -> None:
    """In the other process: answers requests until nobody asks any more."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that a library prints gets between the answers
    with suppress(EOFError, BrokenPipeError):
        while True:
            _send(answers, answer(_receive(requests)))


def result_of(future: Future[T]) -> T:
    """The future's result; Ctrl-C is heard while it is waited for, on Windows too."""
    while True:
        try:
            return future.result(timeout=0.5)
        except TimeoutError:
            continue


def as_bytes(value: Any) -> bytes:
    """JSON for a pipe; half a surrogate pair, of which texts may be full, goes through as it is."""
    return json.dumps(value, ensure_ascii=False, check_circular=False).encode("utf-8", "surrogatepass")


def from_bytes(data: bytes) -> Any:
    """What ``as_bytes`` wrote."""
    return json.loads(data.decode("utf-8", "surrogatepass"))


def _send(stream: IO[bytes], parts: Parts) -> None:
    stream.write(_LENGTH.pack(len(parts)) + b"".join(_LENGTH.pack(len(part)) for part in parts))
    stream.writelines(parts)
    stream.flush()


def _receive(stream: IO[bytes]) -> list[bytes]:
    """The parts that were sent. Raises EOFError where the other side has ended."""
    count = _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0]
    lengths = [_LENGTH.unpack(_exactly(stream, _LENGTH.size))[0] for _part in range(count)]
    return [_exactly(stream, length) for length in lengths]


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data
