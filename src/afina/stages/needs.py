"""Needs: time and memory of a pilot and of the whole training, to end an advice. No weight is read, nothing is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from afina.core.run import RunFolder
from afina.data.store import load_rows
from afina.model.shape import read_shape, shape_names
from afina.recipe.recipe import Recipe
from afina.stages.pilot import SECONDS
from afina.stages.plan import situation, sizes_of, wishes
from afina.stages.prepare import NAME as PREPARE
from afina.stages.small import pace_of
from afina.train.loop import planned_steps
from afina.train.plan import Rows, make_plan

CHARACTERS_A_TOKEN = 3  # where no row is tokenized yet: few, so that what is told is rather too much
_LARGE = 1.5e9  # weights; the dry run of a larger base takes too long for an advice


@dataclass(frozen=True)
class Needs:
    """``is_measured``: from the prepared rows; else from the length of the texts. Memory is the same for both."""

    pilot_steps: int
    pilot_seconds: float
    steps: int
    seconds: float
    needed_bytes: int
    free_bytes: int
    fits: bool
    is_measured: bool


def needs_of(recipe: Recipe, run: RunFolder, longest: int, characters: int, *, prepared: bool) -> Needs | None:
    """What the trainings take; None where the plan knows it only after more work (``afina plan``): the base is not here or large.

    The ``longest`` example and all together have so many ``characters``.
    """
    if not _is_here(recipe.base) or _weights(recipe) > _LARGE:
        return None
    settings = recipe.train
    if prepared:
        kept = load_rows(run.stage(PREPARE), "train")
        rows, steps = sizes_of(kept, settings), len(planned_steps(kept, settings))
    else:
        split = recipe.data.split
        tokens = round(characters / CHARACTERS_A_TOKEN * (1 - split.val - split.test))
        rows = Rows(max(2, longest // CHARACTERS_A_TOKEN), min(tokens, settings.batch_tokens), 1.0)
        steps = max(1, round(settings.epochs * tokens / settings.batch_tokens))
        steps = min(steps, settings.max_steps or steps)
    setup, target = situation(recipe, measured=True)
    plan = make_plan(setup, target, rows, wishes(settings))
    wished = None if recipe.pilot.steps == "auto" else recipe.pilot.steps
    pace = pace_of(plan, wished, steps, SECONDS)
    a_step = plan.seconds_per_step
    needed = plan.chosen.needed_bytes
    return Needs(pace.steps, pace.steps * a_step, steps, steps * a_step, needed, target.free_bytes, plan.fits, prepared)


def _is_here(base: str) -> bool:
    return base == "tiny" or base.lower() in shape_names() or Path(base).expanduser().is_dir()


def _weights(recipe: Recipe) -> float:
    """About how many there are, by the layers' width."""
    config = read_shape(recipe.base, recipe.revision).get_text_config()
    return float(12 * config.num_hidden_layers * config.hidden_size**2)
