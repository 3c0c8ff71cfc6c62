"""Needs: about how much time and memory a pilot and the whole training take, to end an advice. No torch, no weights.

These are estimates: the exact plan is made by `afina plan`, and by `afina compare --pilot` before it starts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from afina.core import hardware
from afina.core.run import RunFolder
from afina.data.pack import planned_steps
from afina.data.store import load_rows
from afina.model.base import config_file, read_config
from afina.recipe.recipe import Recipe
from afina.stages.pace import PILOT_SECONDS, steps_within
from afina.stages.prepare import NAME as PREPARE
from afina.train.cards import CPU_UTILISATION, UTILISATION, card_found
from afina.train.estimate import Kind, decoder_of, estimate
from afina.train.sizes import Rows, sizes_of

CHARACTERS_A_TOKEN = 3  # where no row is tokenized yet: few, so that what is told is rather too much
_SIDE, _MEASURED_S = 768, 0.3  # of the matrices whose product is timed


@dataclass(frozen=True)
class Needs:
    """Estimates. ``needed_bytes``: in the fastest way; ``least_bytes``: in the leanest; both trainings need as much.
    ``is_tokenized``: from the prepared rows; else from the length of the texts.
    """

    pilot_steps: int
    pilot_seconds: float
    steps: int
    seconds: float
    needed_bytes: int
    least_bytes: int
    free_bytes: int
    is_tokenized: bool

    @property
    def fits(self) -> bool:
        return self.least_bytes <= self.free_bytes


@dataclass(frozen=True)
class _Device:
    """What trains here: its free memory, and the operations a second that a training reaches on it."""

    kind: Kind
    free_bytes: int
    flops: float


def needs_of(recipe: Recipe, run: RunFolder, longest: int, characters: int, *, prepared: bool) -> Needs | None:
    """What the trainings take; None where the base's configuration is not on this machine yet, or not one of a plain decoder.

    The ``longest`` example and all together have so many ``characters``.
    """
    path = config_file(recipe.base)
    decoder = decoder_of(read_config(path)) if path is not None else None
    device = _device(recipe.train.device)
    if decoder is None or device is None:
        return None
    rows, steps = _prepared(recipe, run) if prepared else _from_texts(recipe, longest, characters)
    found = estimate(decoder, recipe.adapter, recipe.train, rows, device.kind)
    a_step = rows.step * found.flops / device.flops
    wished = None if recipe.pilot.steps == "auto" else recipe.pilot.steps
    pilot = steps_within(PILOT_SECONDS, a_step, steps, wished)
    memory = (found.needed_bytes, found.least_bytes, device.free_bytes)
    return Needs(pilot, pilot * a_step, steps, steps * a_step, *memory, is_tokenized=prepared)


def _prepared(recipe: Recipe, run: RunFolder) -> tuple[Rows, int]:
    """The sizes of the prepared rows, and the steps on them."""
    kept = load_rows(run.stage(PREPARE), "train")
    return sizes_of(kept, recipe.train), len(planned_steps(kept, recipe.train))


def _from_texts(recipe: Recipe, longest: int, characters: int) -> tuple[Rows, int]:
    settings, split = recipe.train, recipe.data.split
    tokens = round(characters / CHARACTERS_A_TOKEN * (1 - split.val - split.test))
    steps = max(1, round(settings.epochs * max(1.0, tokens / settings.batch_tokens)))
    rows = Rows(max(2, longest // CHARACTERS_A_TOKEN), max(2, min(tokens, settings.batch_tokens)), 1.0)
    return rows, min(steps, settings.max_steps or steps)


def _device(setting: str) -> _Device | None:
    """The first card, unless the recipe wants the CPU; None on a system that does not tell its memory."""
    cards: Sequence[hardware.Gpu] = [] if setting == "cpu" else hardware.gpus()
    if cards:
        return _Device("cuda", cards[0].free_bytes, card_found(cards[0].name).tflops * 1e12 * UTILISATION)
    memory = hardware.memory()
    return None if memory is None else _Device("cpu", memory.available_bytes, _product_flops() * CPU_UTILISATION)


def _product_flops() -> float:
    """The best rate of a product of matrices in float32, operations a second."""
    a, b = np.random.default_rng(0).standard_normal((2, _SIDE, _SIDE), dtype=np.float32)
    best, end = 0.0, time.perf_counter() + _MEASURED_S
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * _SIDE**3 / (time.perf_counter() - start))
    return best
