"""The loop: the same run however it is cut, stopped or resumed; and what stops it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from afina.core.errors import QualityError
from afina.core.events import Event, Events, Metric
from afina.data.pack import planned_steps
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora, lora_layers
from afina.recipe.recipe import Train
from afina.train import loop
from afina.train.saving import Saving
from afina.train.step import prepare
from afina.train.trainee import adapter_on
from tests.fakes.models import write_model
from tests.fakes.training import (
    ADAPTER,
    CPU,
    PLAIN,
    SETTINGS,
    Killed,
    assert_bit_equal,
    kill_after,
    made_up_rows,
    run_training,
    steps_in,
    weights_of,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, loop.Trained]:
    folder = tmp_path_factory.mktemp("whole")
    return folder, run_training(base, folder)


def test_training_lowers_both_losses_with_a_gradient_that_is_not_zero(base: Path, tmp_path: Path) -> None:
    seen: list[Event] = []
    trained = run_training(base, tmp_path, seen.append, epochs=6, learning_rate=1e-2)
    steps = [event.values for event in steps_in(seen)]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.05
    assert all(step["gradient_norm"] > 0 for step in steps)
    assert trained.best_loss is not None
    assert trained.first_loss is not None
    assert trained.best_loss <= trained.first_loss


@pytest.mark.parametrize("stop_after", [1, 3, 4])
def test_a_run_that_is_killed_resumes_bit_for_bit(
    stop_after: int, base: Path, whole: tuple[Path, loop.Trained], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        run_training(base, tmp_path, kill_after(stop_after))
    resumed = run_training(base, tmp_path)
    assert_bit_equal(tmp_path, whole[0])
    assert resumed.steps == whole[1].steps
    assert (resumed.best_loss, resumed.best_step) == (whole[1].best_loss, whole[1].best_step)


def test_ctrl_c_leaves_a_checkpoint_and_the_same_run_goes_on(
    base: Path, whole: tuple[Path, loop.Trained], tmp_path: Path
) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Metric) and "loss" in event.values and event.step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_training(base, tmp_path, interrupt)
    assert [path.name for path in (tmp_path / loop.CHECKPOINTS).iterdir()] == [
        "step-00000002.safetensors",
        "step-00000003.safetensors",
    ]
    steps: list[int] = []
    run_training(
        base, tmp_path, lambda event: steps.append(event.step) if isinstance(event, Metric) and "loss" in event.values else None
    )
    assert steps[0] == 4
    assert_bit_equal(tmp_path, whole[0])


def test_the_cut_into_micro_batches_does_not_change_the_training(base: Path, tmp_path: Path) -> None:
    """1 × 8 ≡ 8 × 1 ≡ 4 × 2, ragged last step included; equal up to the order of float32 sums."""
    for micro_tokens in (16, 150, 100_000):
        run_training(base, tmp_path / str(micro_tokens), adapter=PLAIN, micro_tokens=micro_tokens)
    one, other, third = (weights_of(tmp_path / str(micro_tokens)) for micro_tokens in (16, 150, 100_000))
    for name, value in one.items():
        for rival in (other[name], third[name]):
            assert (value - rival).abs().max() < 2e-4, name
            assert (value - rival).abs().mean() < 1e-5, name


def test_activation_checkpointing_does_not_change_the_training(
    base: Path, tmp_path: Path, whole: tuple[Path, loop.Trained]
) -> None:
    run_training(base, tmp_path, saving=Saving("full"))
    ours, theirs = weights_of(tmp_path), weights_of(whole[0])
    assert all((ours[name] - theirs[name]).abs().max() < 1e-5 for name in ours)


def test_training_stops_early_when_the_validation_loss_no_longer_falls(base: Path, tmp_path: Path) -> None:
    trained = run_training(base, tmp_path, epochs=40, learning_rate=0.2, patience=2, evaluate_every=1)
    assert trained.early_stop
    assert trained.steps < trained.planned_steps
    assert run_training(base, tmp_path, epochs=40, learning_rate=0.2, patience=2, evaluate_every=1).steps == trained.steps


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_rows(base: Path, tmp_path: Path) -> None:
    model = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU)
    add_lora(model, ADAPTER, 0)
    prepare(model)
    next(lora_layers(model))[1].b.data.fill_(float("nan"))
    with (
        Events() as events,
        pytest.raises(QualityError, match=r"the loss is not a finite number at step 1; the rows were rows.jsonl:\d+"),
    ):
        loop.train(
            model, made_up_rows(4), [], Train.model_validate(SETTINGS), adapter_on(model, ADAPTER, "base"), tmp_path, events
        )


def test_every_row_is_seen_once_an_epoch_and_a_part_of_an_epoch_is_a_part() -> None:
    rows = made_up_rows(24)
    whole_epochs = planned_steps(rows, Train(epochs=2, batch_tokens=256))
    assert sorted(row.source.line for step in whole_epochs for row in step) == sorted([*range(1, 25), *range(1, 25)])
    half = planned_steps(rows, Train(epochs=0.5, batch_tokens=256))
    assert len(half) == round(len(whole_epochs) / 4)
    assert len(planned_steps(rows, Train(epochs=2, batch_tokens=256, max_steps=3))) == 3
