"""Pilot: a comparison before there is a training, with an adapter that was trained for a few minutes on a part of the examples.

It lies in a run folder of its own below the run's, so that nothing takes it for the training. Everywhere it is called the pilot.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from afina.compare.comparison import Comparison
from afina.compare.forgetting import Forgetting, words
from afina.core.events import Events
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import format_bytes, format_count, format_duration
from afina.data.store import load_side
from afina.recipe.recipe import Recipe
from afina.stages.compare import compare
from afina.stages.forget import forget
from afina.stages.pace import PILOT_SECONDS
from afina.stages.prepare import NAME as PREPARE
from afina.stages.prepare import prepare
from afina.stages.report import report
from afina.stages.small import Pace, choose_pace, relay, small_run
from afina.stages.train import train
from afina.train.loop import STAGE as TRAIN

NAME = "pilot"
EXAMPLES = 200  # training examples at most: form and style show with so many


@dataclass(frozen=True)
class Compared:
    """``page`` is the pilot's own; None where what was trained in full was compared, which stands on the run's page.

    ``forgetting_text``: the finding in words.
    """

    comparison: Comparison
    forgetting: Forgetting
    forgetting_text: str
    folder: Path
    page: Path | None = None


def compare_trained(recipe: Recipe, run: RunFolder, events: Events) -> Compared:
    """The comparison of what was trained, and what the training made it forget."""
    result = compare(recipe, run, events)
    forgotten = forget(recipe, run, events)
    return Compared(result.comparison, forgotten, words(forgotten), result.folder)


def compare_pilot(recipe: Recipe, run: RunFolder, events: Events) -> Compared:
    """The same with a pilot in the place of the training; where the run is trained already, without one, and that is said."""
    if run.manifest(TRAIN) is not None:
        events.info(NAME, _("there is a finished training, which is compared; no pilot is needed"))
        return compare_trained(recipe, run, events)
    prepare(recipe, run, events)
    count = len(load_side(run.stage(PREPARE), "train"))
    places = sorted(random.Random(f"pilot/{recipe.train.seed}").sample(range(count), min(EXAMPLES, count)))
    pace = choose_pace(recipe, run, run.root / NAME, PILOT_SECONDS)
    small_recipe, small = small_run(recipe, run, run.root / NAME, places, pace, recipe.train.seed)
    events.info(NAME, _plan(len(places), count, pace))
    with relay(events, NAME, path=small.events_path) as heard:
        train(small_recipe, small, heard)
        result = compare(small_recipe, small, heard, pilot=True)
        forgotten = forget(small_recipe, small, heard)
        page = report(small_recipe, small, heard).path
    text = _("this was a pilot: {steps} steps on {part} of {count} examples; the whole training may do better")
    events.warn(NAME, text.format(steps=pace.steps, part=len(places), count=format_count(count)))
    return Compared(result.comparison, forgotten, words(forgotten), result.folder, page)


def _plan(part: int, count: int, pace: Pace) -> str:
    """``a pilot training of 60 steps on 200 of 1,300 examples; about 2 min 10 s and 0.9 GiB by the plan, then the answers``."""
    text = _("a pilot training of {steps} steps on {part} of {count} examples").format(
        steps=pace.steps, part=part, count=format_count(count)
    )
    return text + _("; about {time} and {memory} by the plan, then the answers").format(
        time=format_duration(pace.steps * pace.seconds_a_step), memory=format_bytes(pace.needed_bytes)
    )
