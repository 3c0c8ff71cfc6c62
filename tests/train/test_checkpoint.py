"""Checkpoints that are damaged, tampered with, of another training, too many, or larger than the disk."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from afina.core.errors import DataError, ResourceError
from afina.core.events import Event
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora
from afina.recipe.recipe import Adapter, Train
from afina.train.checkpoint import Checkpoints, Counters, State
from afina.train.loop import CHECKPOINTS
from afina.train.optimize import build_optimizer, build_scaler
from afina.train.trainee import adapter_on
from tests.fakes.models import write_model
from tests.fakes.training import CPU, Killed, assert_bit_equal, kill_after, run_training, steps_in, warnings_in


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def alone(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    run_training(base, folder, max_steps=7)
    return folder


@pytest.fixture
def stopped(base: Path, tmp_path: Path) -> Path:
    """A training killed after step 5, with the checkpoints of steps 2 and 4."""
    with pytest.raises(Killed):
        run_training(base, tmp_path, kill_after(5), max_steps=7)
    assert names(tmp_path) == ["step-00000002", "step-00000004"]
    return tmp_path


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / CHECKPOINTS).iterdir())


def rewrite(path: Path, change: Any) -> None:
    """Opens a checkpoint, lets ``change`` do something to its tensors and its record, and writes it as a whole file again."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    record = json.loads(metadata["state"])
    change(tensors, record)
    save_file(tensors, path, metadata={**metadata, "state": json.dumps(record)})


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def change_a_counter(path: Path) -> None:
    rewrite(path, lambda _tensors, record: record["counters"].update(best_loss=0.0))


def change_a_moment(path: Path) -> None:
    rewrite(path, lambda tensors, _record: next(t for name, t in tensors.items() if "exp_avg/" in name).zero_())


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [cut, flip_a_bit, change_a_counter, change_a_moment, make_empty])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_taken(damage: Any, base: Path, alone: Path, stopped: Path) -> None:
    damage(stopped / CHECKPOINTS / "step-00000004.safetensors")
    seen: list[Event] = []
    run_training(base, stopped, seen.append, max_steps=7)
    assert [text for text in warnings_in(seen) if "step-00000004.safetensors is damaged" in text]
    assert steps_in(seen)[0].step == 3
    assert_bit_equal(stopped, alone)


def test_without_any_whole_checkpoint_the_training_does_not_start_anew_in_silence(base: Path, stopped: Path) -> None:
    for path in (stopped / CHECKPOINTS).iterdir():
        flip_a_bit(path)
    with pytest.raises(DataError, match=r"step-00000002.safetensors is damaged: its content is not what was written") as caught:
        run_training(base, stopped, max_steps=7)
    assert "delete" in caught.value.fix


def test_a_checkpoint_of_another_adapter_is_refused(base: Path, stopped: Path) -> None:
    with pytest.raises(DataError, match="it is of another training"):
        run_training(base, stopped, adapter=Adapter(rank=8), max_steps=7)


def test_what_a_killed_write_left_is_taken_away(base: Path, alone: Path, stopped: Path) -> None:
    (stopped / CHECKPOINTS / ".step-00000006.safetensors.99.part").write_bytes(b"half")
    run_training(base, stopped, max_steps=7)
    assert_bit_equal(stopped, alone)
    assert not list((stopped / CHECKPOINTS).glob(".*"))


def test_the_newest_are_kept_and_for_good_those_of_every_so_many_steps(base: Path, tmp_path: Path) -> None:
    run_training(base, tmp_path, max_steps=7, save_every=1, keep=1, keep_every=2)
    last = int(names(tmp_path)[-1].removeprefix("step-"))
    assert names(tmp_path) == [f"step-{step:08d}" for step in sorted({*range(2, last, 2), last})]
    Checkpoints(tmp_path / CHECKPOINTS, 1, 1, 2).clear()
    assert names(tmp_path) == [f"step-{step:08d}" for step in range(2, last + 1, 2)]
    Checkpoints(tmp_path / CHECKPOINTS, 1, 1, None).clear()
    assert not (tmp_path / CHECKPOINTS).exists()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """As on a disk with so little room: the system refuses what goes beyond."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_in_the_middle_of_a_checkpoint_leaves_the_one_before(base: Path, alone: Path, stopped: Path) -> None:
    size = (stopped / CHECKPOINTS / "step-00000004.safetensors").stat().st_size
    with (
        largest_file(size // 2),
        pytest.raises(ResourceError, match=r"the checkpoint of step 6 needs .*the disk is full.*that of step 4 stays") as caught,
    ):
        run_training(base, stopped, evaluate_every=100, max_steps=7)
    assert caught.value.exit_code == 4
    assert "the same command goes on" in caught.value.fix
    assert names(stopped) == ["step-00000002", "step-00000004"]
    run_training(base, stopped, max_steps=7)
    assert_bit_equal(stopped, alone)


def test_8_bit_moments_come_back_as_they_were(base: Path, tmp_path: Path) -> None:
    def fresh() -> State:
        model = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU)
        add_lora(model, Adapter(rank=64), 1)
        parameters = adapter_on(model, Adapter(rank=64), "base").parameters
        settings = Train(optimizer="adamw_8bit", learning_rate=1e-2)
        return State(parameters, build_optimizer(model, parameters, settings), build_scaler(torch.float32, CPU))

    def step(state: State, number: int) -> None:
        torch.manual_seed(number)
        for parameter in state.parameters.values():
            parameter.grad = torch.randn_like(parameter)
        state.optimizer.step()

    checkpoints = Checkpoints(tmp_path, 1, 2, None)
    ours, theirs = fresh(), fresh()
    step(ours, 1)
    checkpoints.save(ours, Counters(step=1))
    step(ours, 2)
    assert checkpoints.load(theirs, print) == Counters(step=1)
    step(theirs, 2)
    assert all(torch.equal(parameter, theirs.parameters[name]) for name, parameter in ours.parameters.items())
