"""Where torch places its tensors in RAM."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afina.core import allocation

NAME = "THP_MEM_ALLOC_ENABLE"


@pytest.mark.parametrize("said", [None, "0"])
def test_large_tensors_are_aligned_unless_the_environment_says_otherwise(
    said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(allocation, "_HUGE_PAGES", tmp_path / "enabled")
    (tmp_path / "enabled").write_text("always [madvise] never", encoding="ascii")
    monkeypatch.delenv(NAME, raising=False)
    if said is not None:
        monkeypatch.setenv(NAME, said)
    allocation.align_large_tensors()
    assert os.environ[NAME] == (said or "1")


def test_nothing_is_set_where_the_system_has_no_huge_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(allocation, "_HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setenv(NAME, "")  # so that it is put back
    monkeypatch.delenv(NAME)
    allocation.align_large_tensors()
    assert NAME not in os.environ


@pytest.mark.skipif(not allocation._HUGE_PAGES.is_file(), reason="this system has no huge pages")
def test_a_command_makes_torch_begin_large_tensors_at_a_page() -> None:
    """Torch reads the variable at its first tensor; this fails where it is loaded before, or no longer knows the variable."""
    code = (
        "from afina.cli.main import main; main([]); import torch; from mmap import PAGESIZE;"
        "assert all(torch.empty(1 << 20).data_ptr() % PAGESIZE == 0 for _each in range(3))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    environment.pop(NAME, None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("said", [None, "7"])
def test_few_kernels_are_kept_unless_the_environment_says_otherwise(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, "")  # so that it is put back
    monkeypatch.delenv(name)
    if said is not None:
        monkeypatch.setenv(name, said)
    allocation.keep_few_kernels()
    assert os.environ[name] == (said or "96")


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


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
    before = resident_bytes()
    freed = allocation.FreedMemory()
    freed.give_back()
    assert before - resident_bytes() > 0.8 * size * count / 2
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
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    freed = allocation.FreedMemory()
    for _micro_batch in range(1000):
        clock[0] += 1
        freed.give_back()
    assert calls == [101.0, 303.0, 505.0, 707.0, 909.0]
    monkeypatch.setattr(allocation, "_trim", None)
    allocation.FreedMemory().give_back()
