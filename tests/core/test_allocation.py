"""Memory that was freed and is still held."""

from __future__ import annotations

import ctypes
import time
from pathlib import Path

import pytest

from afina.core import allocation, hardware


@pytest.mark.skipif(allocation._trim is None or not Path("/proc/self/statm").is_file(), reason="only with glibc, on Linux")
def test_what_lies_free_between_what_is_used_goes_back_to_the_system() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    size, count = 100_000, 1000
    pieces = [libc.malloc(ctypes.c_size_t(size)) for _each in range(count)]
    for piece in pieces:
        ctypes.memset(piece, 1, size)
    for piece in pieces[::2]:
        libc.free(ctypes.c_void_p(piece))
    before = hardware.resident_bytes()
    freed = allocation.FreedMemory()
    freed.give_back()
    assert before - hardware.resident_bytes() > 0.8 * size * count / 2
    for piece in pieces[1::2]:
        libc.free(ctypes.c_void_p(piece))


def test_giving_back_takes_a_hundredth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    calls: list[float] = []

    def takes_two_seconds(_keep: int) -> int:
        calls.append(clock[0])
        clock[0] += 2
        return 1

    monkeypatch.setattr(allocation, "_trim", takes_two_seconds)
    monkeypatch.setattr(hardware, "resident_bytes", lambda: 0)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    freed = allocation.FreedMemory()
    for _micro_batch in range(1000):
        clock[0] += 1
        freed.give_back()
    assert calls == [101.0, 303.0, 505.0, 707.0, 909.0]
    monkeypatch.setattr(allocation, "_trim", None)
    allocation.FreedMemory().give_back()


def test_what_it_takes_to_get_pages_anew_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte given back takes nearly half a second when it is wanted again: so it is done every forty."""
    clock = [100.0]
    calls: list[float] = []
    held = iter([2**30, 0] * 1000)
    monkeypatch.setattr(allocation, "_trim", lambda _keep: calls.append(clock[0]))
    monkeypatch.setattr(hardware, "resident_bytes", lambda: next(held))
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    freed = allocation.FreedMemory()
    for _micro_batch in range(100):
        clock[0] += 1
        freed.give_back()
    assert calls == [101.0, 141.0, 181.0]
