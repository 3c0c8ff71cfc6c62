"""Trainings of several ranks, as a program that torchrun starts: what tests/train/test_ranks.py looks at.

    torchrun --nproc-per-node 2 -m tests.fakes.several_ranks BASE FOLDER NAME…

Each name begins as one of RUNS, and is a folder below FOLDER; one that is half-done is gone on with. What else is in the name:
``sharded``; ``compiled``, its layers; ``killed``, ends in the middle, as by kill -9 of all ranks; ``lost``, the last rank is
killed, the first time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from afina.core.events import Event, Metric
from afina.recipe.recipe import Adapter
from afina.train.ranks import ALONE, Ranks, joined
from afina.train.saving import Saving
from tests.fakes.training import Killed, kill_after, made_up_rows, run_training

LOSSES = "losses.json"
KILLED_AFTER = 5
SETTINGS: dict[str, Any] = {"batch_tokens": 300, "micro_tokens": 1000, "learning_rate": 1e-3}
RUNS: dict[str, tuple[dict[str, Any], dict[str, Any], Saving]] = {
    "plain": ({}, {}, Saving()),
    "nf4": ({"quantize": "nf4"}, {}, Saving()),
    "int8": ({"quantize": "int8"}, {}, Saving("full")),
    "full": ({"method": "full"}, {}, Saving()),
    "pissa": ({"init": "pissa"}, {}, Saving()),
    "dora": ({"dora": True, "rank": 1}, {"weight_decay": 0.1, "lora_plus": 4.0}, Saving("selective", 8)),
    "few-rows": ({}, {"batch_tokens": 16}, Saving()),
    "float16": ({}, {}, Saving()),
}


def run(base: Path, folder: Path, name: str, ranks: Ranks = ALONE) -> None:
    """Trains the run ``name`` in ``folder``; the losses and norms that were seen are left in LOSSES, by step."""
    adapter, changes, saving = RUNS[next(known for known in RUNS if name.startswith(known))]
    seen: dict[str, list[float]] = {}
    lost = folder / "lost"

    def hear(event: Event) -> None:
        if isinstance(event, Metric):
            values = [event.values[key] for key in ("loss", "gradient_norm", "val_loss") if key in event.values]
            seen.setdefault(str(event.step), []).extend(values)
        if "killed" in name:
            kill_after(KILLED_AFTER)(event)
        last = ranks.rank == ranks.count - 1
        if "lost" in name and last and isinstance(event, Metric) and event.step == KILLED_AFTER and not lost.exists():
            lost.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    with suppress(Killed):
        run_training(
            base,
            folder,
            hear,
            Adapter.model_validate({"rank": 3, "alpha": 6, **adapter}),
            dtype=torch.float16 if name.startswith("float16") else torch.float32,
            rows=made_up_rows(25),
            saving=saving,
            ranks=replace(ranks, sharded=ranks.count > 1 and "sharded" in name),
            compiled="compiled" in name,
            **{**SETTINGS, **changes},
        )
    if ranks.is_first:
        (folder / LOSSES).write_text(json.dumps(seen))


def main(base: Path, folder: Path, names: list[str]) -> None:
    torch.set_num_threads(1)
    with joined() as ranks:
        for name in names:
            if not (folder / name / LOSSES).is_file():  # started again, only what was not finished
                run(base, folder / name, name, ranks)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
