"""Micro-batches side by side: the same numbers as one after another, whichever is ready first."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from afina.data.pack import micro_batches
from afina.model.base import resolve_base
from afina.model.load import load_model, torch_threads
from afina.model.lora import add_lora
from afina.recipe.recipe import Adapter, Train
from afina.train.gradient import Gradient
from afina.train.lanes import Lanes, most_lanes
from afina.train.noise import EmbeddingNoise
from afina.train.optimize import build_optimizer, build_scaler
from afina.train.saving import Saving, apply_saving
from afina.train.step import mean_loss, prepare
from afina.train.trainee import Trainee, adapter_on, whole_model
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.training import (
    ALL_WEIGHTS,
    CPU,
    PLAIN,
    Killed,
    assert_bit_equal,
    kill_after,
    made_up_rows,
    run_training,
    steps_in,
    weights_of,
)
from tests.train.test_dry import setup_of

TWO = Lanes(2)


@pytest.mark.parametrize("count", [2, 5])
def test_results_come_in_order_whoever_is_ready_first(count: int) -> None:
    ready: list[int] = []
    second = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            assert second.wait(30)
        ready.append(number)
        if number == 1:
            second.set()
        return number

    assert list(Lanes(count).in_order(work, range(40))) == list(range(40))
    assert ready.index(1) < ready.index(0)


def test_no_lane_is_far_ahead_of_the_order() -> None:
    """What waits for the first result holds gradients: at most two for each lane."""
    started: list[int] = []
    first = threading.Event()

    def work(number: int) -> int:
        started.append(number)
        if number == 0:
            first.wait(30)
        return number

    results = TWO.in_order(work, range(40))
    threading.Timer(0.2, first.set).start()
    assert next(results) == 0
    assert len(started) <= 5


def test_an_error_of_one_lane_is_raised_and_leaves_no_thread_behind() -> None:
    def work(number: int) -> int:
        if number == 3:
            raise RuntimeError("lane")
        return number

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="lane"):
        list(TWO.in_order(work, range(40)))
    assert threading.active_count() == before


def test_the_threads_of_lanes_are_their_own() -> None:
    with torch_threads(2):
        assert set(Lanes(3, threads=1).in_order(lambda _number: torch.get_num_threads(), range(9))) == {1}
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_those_of_one_lane_bit_for_bit(family: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path, family)
    assert_same_gradients(folder, PLAIN)


@pytest.mark.parametrize(
    ("adapter", "saving"),
    [
        (PLAIN, Saving("selective", 16)),
        (PLAIN, Saving("full", 16)),
        (ALL_WEIGHTS, Saving()),
        (Adapter(rank=4, dora=True), Saving()),
        (Adapter(rank=4, quantize="int8"), Saving()),
        (Adapter(rank=4, quantize="nf4"), Saving("full")),
    ],
    ids=str,
)
def test_so_they_are_for_every_way_to_train(adapter: Adapter, saving: Saving, tmp_path: Path) -> None:
    assert_same_gradients(write_model(tmp_path), adapter, saving)


def assert_same_gradients(folder: Path, adapter: Adapter, saving: Saving | None = None) -> None:
    base = resolve_base(str(folder))
    model = load_model(base, dtype=torch.float32, device=CPU, quantize=adapter.quantize)
    if adapter.method == "full":
        trainee: Trainee = whole_model(model, base, torch.float32)
    else:
        add_lora(model, adapter, 0)
        trainee = adapter_on(model, adapter, "base")
        for name, parameter in trainee.parameters.items():  # B is zero at the start, and so would be the gradient of A
            parameter.data += 0.01 if "lora_B" in name else 0.0
    prepare(model)
    apply_saving(model, saving or Saving())
    batches = micro_batches(made_up_rows(24), 200)
    assert len(batches) > 4
    with torch_threads(1):
        one, loss, norm = gradients_of(model, trainee, batches, Lanes(1))
        for count in (2, 3):
            others, their_loss, their_norm = gradients_of(model, trainee, batches, Lanes(count))
            assert (their_loss, their_norm) == (loss, norm)
            assert norm > 0
            assert all(torch.equal(one[name], others[name]) for name in one)


def gradients_of(model: Any, trainee: Trainee, batches: Any, lanes: Lanes) -> tuple[dict[str, torch.Tensor], float, float]:
    settings = Train(clip=100.0)
    optimizer = build_optimizer(model, trainee.parameters, settings)
    gradient = Gradient(model, trainee, build_scaler(model.dtype, CPU), EmbeddingNoise(model, 0.0), settings, lanes=lanes)
    loss, norm = gradient.of_step(optimizer, batches, 0)
    found = {name: parameter.grad for name, parameter in trainee.parameters.items() if parameter.grad is not None}
    for parameter in trainee.parameters.values():
        parameter.grad = None
    assert found.keys() == trainee.parameters.keys()
    return found, loss, norm


def test_the_held_out_loss_is_that_of_one_lane(tmp_path: Path) -> None:
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU)
    prepare(model)
    rows = made_up_rows(11)
    assert mean_loss(model, rows, 100, lanes=TWO) == pytest.approx(mean_loss(model, rows, 100), rel=1e-6)


def test_a_training_learns_the_same_in_two_lanes_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    seen: list[Any] = []
    with torch_threads(1):
        run_training(base, tmp_path / "one", adapter=PLAIN)
        run_training(base, tmp_path / "two", seen.append, adapter=PLAIN, lanes=TWO)
        with pytest.raises(Killed):
            run_training(base, tmp_path / "again", kill_after(3), adapter=PLAIN, lanes=TWO)
        run_training(base, tmp_path / "again", adapter=PLAIN, lanes=TWO)
    assert all(step.values["gradient_norm"] > 0 for step in steps_in(seen))
    assert_bit_equal(tmp_path / "again", tmp_path / "two")
    ours, theirs = weights_of(tmp_path / "two"), weights_of(tmp_path / "one")
    assert all((ours[name] - theirs[name]).abs().max() < 2e-4 for name in ours)  # micro-batches are cut differently


@pytest.mark.parametrize(
    ("changes", "lanes"),
    [
        ({}, 4),
        ({"threads": 2}, 2),
        ({"threads": 3}, 3),
        ({"threads": 5}, 4),
        ({"threads": 6}, 3),
        ({"threads": 10}, 2),
        ({"threads": 1}, 1),
        ({"kind": "cuda"}, 1),
        ({"tokens": 2 * 4096}, 2),  # 64 wide
        ({"tokens": 2 * 4096 - 1}, 1),
        ({"dtype": torch.bfloat16}, 4),
        ({"dtype": torch.float16}, 1),
        ({"adapter": ALL_WEIGHTS}, 4),
        ({"adapter": ALL_WEIGHTS, "dtype": torch.bfloat16}, 1),
        ({"adapter": Adapter(dropout=0.1)}, 1),
        ({"settings": Train(neftune=5)}, 1),
        ({"settings": Train(compile=True)}, 1),
        ({"rotation": {"rope_type": "longrope"}}, 1),
        ({"rotation": {"full_attention": {"rope_type": "dynamic"}, "sliding_attention": {"rope_type": "default"}}}, 1),
        ({"rotation": {"rope_type": "llama3"}}, 4),
    ],
    ids=str,
)
def test_micro_batches_go_side_by_side_where_nothing_is_shared(changes: dict[str, Any], lanes: int) -> None:
    config = setup_of("llama", 2).config
    if rotation := changes.pop("rotation", None):
        config.rope_parameters = rotation
    known = {"dtype": torch.float32, "adapter": PLAIN, "settings": Train(), "kind": "cpu", "threads": 16, "tokens": 10**6}
    assert most_lanes(config, **{**known, **changes}) == lanes
