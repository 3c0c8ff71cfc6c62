"""Memory that another program takes, that runs out, and a card that goes away."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch

from afina.core import hardware
from afina.core.errors import ResourceError
from afina.core.events import Event, Events
from afina.core.units import GIB
from afina.train import memory
from afina.train.checkpoint import Checkpoints
from afina.train.memory import MemoryWatch, device_failures_told, held_bytes, judge, peak_bytes
from tests.fakes.models import write_model
from tests.fakes.training import CPU, run_training, warnings_in


def test_what_is_held_is_less_than_the_peak_and_grows_with_what_is_held() -> None:
    before = held_bytes(CPU)
    pages = mmap.mmap(-1, 2**26)  # from the system, where an allocator may have kept enough from earlier tests
    block = torch.frombuffer(pages, dtype=torch.float32).fill_(1)
    assert before + 2**25 < held_bytes(CPU) < 1.01 * peak_bytes(CPU)  # the system counts the two in different ways
    assert len(block) == 2**24


@pytest.mark.parametrize(
    ("free", "needed", "spills", "room"),
    [
        (11, 10, False, "enough"),
        (10, 10, False, "little"),
        (10, 10, True, "none"),
        (11, 10, True, "enough"),
        (0, 0, True, "enough"),
    ],
)
def test_a_step_fits_with_a_tenth_to_spare(free: int, needed: int, spills: bool, room: str) -> None:
    assert judge(free, needed, spills=spills) == room


def test_memory_that_another_program_takes_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    monkeypatch.setattr(memory, "_WATCH_SECONDS", 0.0)
    monkeypatch.setattr(memory, "peak_bytes", lambda _device: held_bytes(CPU) + GIB)
    monkeypatch.setattr(hardware, "memory", lambda: hardware.Memory(8 * GIB, GIB // 2))
    seen: list[Event] = []
    run_training(base, tmp_path / "run", seen.append, max_steps=4)
    (text,) = warnings_in(seen)
    assert "a step needs 1.0 GiB more than is held now and 512 MiB of memory are free" in text


def test_where_memory_spills_the_run_stops_with_a_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    monkeypatch.setattr(MemoryWatch, "_free_and_needed", lambda _self: (GIB, 2 * GIB))
    monkeypatch.setattr(memory, "judge", lambda free, needed, *, spills: judge(free, needed, spills=True))
    with pytest.raises(ResourceError, match="stopped before the GPU goes on in RAM, the checkpoint of step 1 is kept"):
        run_training(base, tmp_path / "run", max_steps=4)
    assert Checkpoints(tmp_path / "run" / "checkpoints", 1, 1, None).last_step() == 1


def test_memory_is_not_asked_for_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(hardware, "memory", lambda: asked.append(1))
    watch = MemoryWatch(CPU)
    with Events() as events:
        assert [watch.is_full(events, "train") for _step in range(50)] == [False] * 50
    assert len(asked) == 1


def failing(error: Exception, folder: Path) -> None:
    with device_failures_told(Checkpoints(folder, 1, 1, None)):
        raise error


def test_a_card_that_fails_is_told_with_the_last_checkpoint(tmp_path: Path) -> None:
    lost = torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")
    with pytest.raises(ResourceError, match=r"the GPU failed or went away \(CUDA error: .* failure\); no checkpoint was made"):
        failing(lost, tmp_path)
    (tmp_path / "step-00000012.safetensors").write_bytes(b"")
    with pytest.raises(ResourceError, match="the checkpoint of step 12 is kept"):
        failing(lost, tmp_path)
    with pytest.raises(ResourceError, match="the GPU's memory ran out") as caught:
        failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), tmp_path)
    assert "train.micro_tokens" in caught.value.fix


def test_memory_that_runs_out_is_told_and_a_mistake_of_ours_is_not_hidden(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, 1, 1, None)
    with pytest.raises(ResourceError, match=r"the memory ran out \(can't allocate memory"), device_failures_told(checkpoints):
        torch.empty(10**15)
    with pytest.raises(RuntimeError, match="shapes"), device_failures_told(checkpoints):
        torch.ones(2, 3) @ torch.ones(2, 3)
