"""Small trainings: the real training on a part of a run's examples, a few minutes at most, in a run folder of its own.

`afina curve` makes several of them, `afina compare --pilot` one. The folder has its own ``prepare``, whose files are those of the
run (linked, not copied) and whose training side is the part. Killed and started again, a training goes on from its checkpoint.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from afina.core.events import Event, Events, Notice, Progress
from afina.core.files import read_json, sha256_of_text, write_json
from afina.core.run import RunFolder
from afina.data.pack import planned_steps
from afina.data.render import Row
from afina.data.store import SIDES, SIDES_FILE, load_rows, load_side, save_sides
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.pace import steps_within
from afina.stages.plan import plan_of_rows
from afina.stages.prepare import NAME as PREPARE
from afina.train.plan import Plan
from afina.train.sizes import sizes_of


@dataclass(frozen=True)
class Pace:
    """How long a small training is, and in which way it is done."""

    steps: int
    seconds_a_step: float
    needed_bytes: int
    micro_tokens: int | Literal["auto"]
    checkpointing: str


def small_run(
    recipe: Recipe, run: RunFolder, folder: Path, places: Sequence[int], pace: Pace, seed: int
) -> tuple[Recipe, RunFolder]:
    """The recipe and the run, below ``folder``, of a training on the training examples at ``places``."""
    small = RunFolder(folder)
    prepared = run.require(PREPARE)
    sides = {side: load_side(run.stage(PREPARE), side) for side in SIDES}
    part = sides["train"][np.asarray(places, dtype=np.int64)]
    inputs = {**prepared.inputs, "part": sha256_of_text(",".join(map(str, part.tolist())))[:16]}
    if not small.is_fresh(PREPARE, inputs):
        target = small.stage(PREPARE)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in prepared.outputs:
            if name != SIDES_FILE:
                _link(run.stage(PREPARE) / name, target / name)
        save_sides(target, {**sides, "train": part})
        result = _counted(prepared.result, load_rows(target, "train"), len(part))
        small.finish(PREPARE, inputs=inputs, result=result, seconds=0.0, outputs=sorted(target.iterdir()))
    rows = load_rows(small.stage(PREPARE), "train")
    an_epoch = len(planned_steps(rows, recipe.train.model_copy(update={"epochs": 1.0, "max_steps": None})))
    settings = recipe.train.model_copy(
        update={
            "max_steps": pace.steps,
            "epochs": float(math.ceil(pace.steps / an_epoch)),
            "seed": seed,
            "micro_tokens": pace.micro_tokens,
            "checkpointing": pace.checkpointing,
            "samples": 0,
            "track": (),
        }
    )
    return recipe.model_copy(update={"train": settings}), small


def _counted(result: Mapping[str, Any], rows: Sequence[Row], conversations: int) -> dict[str, Any]:
    """The result of a preparation, its training side counted anew."""
    counts = {
        "conversations": conversations,
        "tokens": sum(len(row.ids) for row in rows),
        "trained_tokens": sum(row.trained_tokens for row in rows),
    }
    return {**result, **{name: {**result[name], "train": count} for name, count in counts.items()}}


def choose_pace(recipe: Recipe, run: RunFolder, folder: Path, seconds: float) -> Pace:
    """Steps that take about so many seconds by the plan's dry run, at most those of the recipe.

    The choice is kept in ``folder``: what is started again goes on with it, whatever else the machine does then.
    """
    rows = load_rows(run.stage(PREPARE), "train")
    prepared = fingerprint.of_stage(run.require(PREPARE))
    path = folder / f"pace-{fingerprint.of_settings(recipe.adapter, recipe.train, recipe.pilot, prepared, seconds)}.json"
    if path.is_file():
        return Pace(**read_json(path))
    most = len(planned_steps(rows, recipe.train))
    wished = None if recipe.pilot.steps == "auto" else recipe.pilot.steps
    pace = pace_of(plan_of_rows(recipe, sizes_of(rows, recipe.train)), wished, most, seconds)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(pace))
    return pace


def pace_of(plan: Plan, wished: int | None, most: int, seconds: float) -> Pace:
    """``wished`` steps, else as many as ``plan`` does in so many seconds, at most ``most``."""
    steps = steps_within(seconds, plan.seconds_per_step, most, wished)
    saving, needed = plan.chosen.saving, plan.chosen.needed_bytes
    no_setting_says = saving.mlp_tile is not None or plan.chosen.lanes < plan.ladder[0].lanes
    if no_setting_says:  # left to the training's own plan
        return Pace(steps, plan.seconds_per_step, needed, "auto", "auto")
    return Pace(steps, plan.seconds_per_step, needed, plan.chosen.micro_tokens, saving.checkpointing)


def relay(events: Events, stage: str, task: str = "", path: Path | None = None) -> Events:
    """Events for a small run, heard by ``events`` as those of ``stage``: all of them where they are also written to ``path``,
    else what is under way, with ``task`` before its name, and each warning once.
    """
    told: set[str] = set()

    def hear(event: Event) -> None:
        if isinstance(event, Progress):
            events.emit(replace(event, stage=stage, task=f"{task}: {event.task}" if task else event.task))
        elif path is not None:
            events.emit(replace(event, stage=stage))
        elif isinstance(event, Notice) and event.level == "warning" and event.text not in told:
            told.add(event.text)
            events.emit(replace(event, stage=stage))

    return Events(path, (hear,))


def _link(source: Path, target: Path) -> None:
    """The same file at a second place; a copy where the disk has no such links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
