"""A real training of a small random model on made-up rows, and what it left."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from afina.core.events import Event, Events, Metric, Notice
from afina.data.conversation import Source
from afina.data.render import Row
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora
from afina.recipe.recipe import Adapter, Train
from afina.train import loop, step
from afina.train.lanes import ONE_LANE, Lanes
from afina.train.ranks import ALONE, Ranks, shard
from afina.train.saving import Saving, apply_saving
from afina.train.trainee import ADAPTER as ADAPTER_FOLDER
from afina.train.trainee import FULL, adapter_on, whole_model
from tests.fakes.rows import row_of

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="there is no C++ compiler")
ADAPTER = Adapter(rank=4, alpha=8, dropout=0.1)
PLAIN = Adapter(rank=4, alpha=8)
ALL_WEIGHTS = Adapter(method="full")
SETTINGS = {"epochs": 2, "learning_rate": 5e-3, "batch_tokens": 256, "micro_tokens": 128, "evaluate_every": 3, "save_every": 2}


def made_up_rows(count: int, vocabulary: int = 300, seed: int = 0, shared: int = 0) -> list[Row]:
    """Rows of 6 to 90 tokens (some longer than the fakes' sliding window of 64), the later part of each trained, some with an
    untrained stretch in it; the first ``shared`` tokens of all are the same, and the first row's answer follows right behind.
    """
    dice = random.Random(seed)
    head = [dice.randrange(3, vocabulary) for _ in range(shared)]
    rows = []
    for number in range(count):
        length = dice.randint(6, 90)
        ids = (*head, *(dice.randrange(3, vocabulary) for _ in range(length)))
        start = shared if number == 0 and shared else shared + dice.randint(1, length - 2)
        pause = range(start + 2, start + 4) if number % 2 else range(0)
        trained = tuple(place >= start and place not in pause for place in range(len(ids)))
        rows.append(row_of(ids, trained, Source("rows.jsonl", number + 1)))
    return rows


def run_training(
    base_folder: Path,
    folder: Path,
    listener: Callable[[Event], None] | None = None,
    adapter: Adapter = ADAPTER,
    *,
    dtype: torch.dtype = torch.float32,
    rows: Sequence[Row] | None = None,
    val_rows: Sequence[Row] | None = None,
    saving: Saving | None = None,
    ranks: Ranks = ALONE,
    lanes: Lanes = ONE_LANE,
    device: torch.device = CPU,
    compiled: bool = False,
    **changes: Any,
) -> loop.Trained:
    """Trains in ``folder``, with other ``ranks`` that do the same; ``changes`` are settings of ``train`` other than SETTINGS."""
    base = resolve_base(str(base_folder))
    settings = Train.model_validate({**SETTINGS, **changes})
    whole = adapter.method == "full"
    model = load_model(base, dtype=torch.float32 if whole else dtype, device=device, quantize=adapter.quantize)
    if whole:
        trainee = whole_model(model, base, dtype, ranks)
    else:
        add_lora(model, adapter, settings.seed)
        if ranks.sharded:
            shard(model, ranks, device)
        trainee = adapter_on(model, adapter, "base", ranks)
    assert step.prepare(model, compiled=compiled) == []
    apply_saving(model, saving or Saving())
    seen = made_up_rows(24) if rows is None else rows
    held_out = made_up_rows(6, seed=1) if val_rows is None else val_rows
    with Events(None, (listener,) if listener else ()) as events:
        return loop.train(model, seen, held_out, settings, trainee, folder, events, ranks=ranks, lanes=lanes)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """What the training in ``folder`` left."""
    whole = folder / FULL / "model.safetensors"
    return load_file(whole if whole.is_file() else folder / ADAPTER_FOLDER / "adapter_model.safetensors")


def assert_bit_equal(one: Path, other: Path) -> None:
    ours, theirs = weights_of(one), weights_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def steps_in(seen: Sequence[Event]) -> list[Metric]:
    """The metrics of training steps among events."""
    return [event for event in seen if isinstance(event, Metric) and "loss" in event.values]


def warnings_in(seen: Sequence[Event]) -> list[str]:
    return [event.text for event in seen if isinstance(event, Notice) and event.level == "warning"]


class Killed(BaseException):
    """As kill -9 would: nothing more is written."""


def kill_after(step: int) -> Callable[[Event], None]:
    def listen(event: Event) -> None:
        if isinstance(event, Metric) and "loss" in event.values and event.step == step:
            raise Killed

    return listen
