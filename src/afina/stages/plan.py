"""Plan: what a training will need, and which choices fit, before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from afina.core.files import read_json, write_json
from afina.core.run import RunFolder
from afina.data.pack import planned_steps
from afina.data.render import Row
from afina.data.store import load_rows
from afina.export.encode import process_bytes
from afina.model.base import shape_names
from afina.model.load import choose_device, choose_dtype
from afina.model.shape import read_shape
from afina.recipe.recipe import Recipe, Train
from afina.stages.prepare import NAME as PREPARE
from afina.train.dry import TRAINED, Setup, largest_linear, parameters_of
from afina.train.lanes import most_lanes
from afina.train.plan import ContextNeeds, Plan, Wishes, longest_context, make_plan, require_fit, ways_to_fit
from afina.train.saving import Saving
from afina.train.sizes import Rows, sizes_of
from afina.train.target import Target, found_target, named_gpu

CHOICE = "choice.json"  # in the folder of a training: what ``auto`` stands for in this run, kept when it is resumed
CARD_SIZES = (8, 12, 16, 24, 48, 80)  # GiB of the table's columns


@dataclass(frozen=True)
class Step:
    """A rung of the ladder, in numbers."""

    micro_tokens: int
    checkpointing: str
    mlp_tile: int | None
    needed_bytes: int
    extra: float
    fits: bool
    lanes: int


@dataclass(frozen=True)
class PlanResult:
    """``peak_bytes`` is what the chosen way needs on the device, of ``free_bytes``; ``ram_bytes`` what it moves to RAM;
    ``merge_bytes`` the RAM of each process that merges and rounds afterwards.

    ``max_context_tokens``: the longest single row that fits in the leanest way, at most the ``base_context_tokens`` that the base
    was made for. ``steps``: of the whole training; None where no rows are known.
    """

    fits: bool
    peak_bytes: int
    free_bytes: int
    by_category: Mapping[str, int]
    ram_bytes: int
    merge_bytes: int
    disk_bytes: int
    max_context_tokens: int
    base_context_tokens: int
    choices: Mapping[str, object]
    seconds_per_step: float
    steps: int | None
    ladder: tuple[Step, ...]
    longest_row: int
    target: str
    dtype: str
    ways_to_fit: tuple[str, ...]


def plan(recipe: Recipe, rows: Rows, gpu: str | None = None, cpu: bool = False, steps: int | None = None) -> PlanResult:
    """What training ``recipe`` on ``rows`` needs on the named card, on this machine's CPU, or on the device found here."""
    setup, found = way_of(recipe, rows, gpu, cpu)
    target, chosen = found.target, found.chosen
    trained_bytes = chosen.by_category.get(TRAINED, chosen.by_category.get("adapter", 0))
    made_for = int(setup.config.max_position_embeddings)
    longest = _context_within(setup, target, made_for)
    return PlanResult(
        fits=found.fits,
        peak_bytes=chosen.needed_bytes,
        free_bytes=target.free_bytes,
        by_category=chosen.by_category,
        ram_bytes=chosen.ram_bytes,
        merge_bytes=process_bytes(largest_linear(setup.config) if recipe.adapter.quantize == "nf4" else 0),
        disk_bytes=5 * trained_bytes,
        max_context_tokens=longest,
        base_context_tokens=made_for,
        choices=found.choices,
        seconds_per_step=found.seconds_per_step,
        steps=steps,
        ladder=tuple(
            Step(r.micro_tokens, r.saving.checkpointing, r.saving.mlp_tile, r.needed_bytes, r.extra, r.fits, r.lanes)
            for r in found.ladder
        ),
        longest_row=rows.longest,
        target=target.name,
        dtype=str(setup.dtype).removeprefix("torch."),
        ways_to_fit=() if found.fits else tuple(ways_to_fit(found, longest)),
    )


def _context_within(setup: Setup, target: Target, made_for: int) -> int:
    """The longest single row that fits and that the base was made for: one dry run tells where that is all of it."""
    if ContextNeeds(setup, target)(made_for) <= target.free_bytes:
        return made_for
    return longest_context(ContextNeeds(setup, target), target.free_bytes)


def plan_of_rows(recipe: Recipe, rows: Rows) -> Plan:
    """How such rows will be trained on the device found here, with the time. Raises ResourceError where no way fits."""
    _setup, found = way_of(recipe, rows)
    require_fit(found)
    return found


def way_of(recipe: Recipe, rows: Rows, gpu: str | None = None, cpu: bool = False) -> tuple[Setup, Plan]:
    """The ladder down to the way that fits; not the longest context, which takes further dry runs."""
    setup, target = situation(recipe, gpu, cpu, measured=True)
    return setup, make_plan(setup, target, rows, wishes(recipe, setup, rows))


def situation(recipe: Recipe, gpu: str | None = None, cpu: bool = False, measured: bool = False) -> tuple[Setup, Target]:
    """What is run dry, and for which device; ``measured``: with the rate of a device found here."""
    config = read_shape(recipe.base, recipe.revision)
    if gpu is not None:
        target = named_gpu(gpu)
        dtype = target.half if recipe.train.dtype == "auto" else getattr(torch, recipe.train.dtype)
    else:
        device = torch.device("cpu") if cpu else choose_device(recipe.train.device)
        dtype = choose_dtype(recipe.train.dtype, device, parameters_of(config)).dtype
        target = found_target(device, dtype, measured)
    return Setup(config, dtype, recipe.adapter, target.kind, recipe.train.optimizer, target.multiprocessors), target


def prepared_sizes(recipe: Recipe, run: RunFolder) -> Rows:
    """What the run's prepared rows ask for."""
    run.require(PREPARE)
    return sizes_of(load_rows(run.stage(PREPARE), "train"), recipe.train)


def prepared_steps(recipe: Recipe, run: RunFolder) -> int:
    """The steps of a training on the run's prepared rows."""
    return len(planned_steps(load_rows(run.stage(PREPARE), "train"), recipe.train))


def assumed_sizes(longest: int, settings: Train) -> Rows:
    """For a plan without data: rows of so many tokens, all of them trained."""
    return Rows(longest, max(longest, settings.batch_tokens), 1.0)


def known_shapes() -> list[str]:
    """The names of the shapes that come with afina."""
    return shape_names()


def wishes(recipe: Recipe, setup: Setup, rows: Rows) -> Wishes:
    settings = recipe.train
    return Wishes(
        None if settings.micro_tokens == "auto" else settings.micro_tokens,
        None if settings.checkpointing == "auto" else settings.checkpointing,
        most_lanes(setup.config, setup.dtype, recipe.adapter, settings, setup.kind, torch.get_num_threads(), rows.step),
    )


def chosen_for(recipe: Recipe, rows: Sequence[Row], folder: Path) -> tuple[Train, Saving, int]:
    """The settings of a training with every ``auto`` that is about memory filled in, and the number of lanes. The choice is kept
    in ``folder``: a training that goes on does not choose anew. Raises ResourceError where nothing fits.
    """
    path = folder / CHOICE
    asked = {"micro_tokens": recipe.train.micro_tokens, "checkpointing": recipe.train.checkpointing}
    choice = read_json(path) if path.is_file() else {}
    if choice.get("asked") != asked:
        choice = {"asked": asked, **_choose(recipe, sizes_of(rows, recipe.train))}
        write_json(path, choice)
    settings = recipe.train.model_copy(update={key: choice[key] for key in ("micro_tokens", "checkpointing")})
    return settings, Saving(choice["checkpointing"], choice["mlp_tile"]), choice.get("lanes", 1)


def _choose(recipe: Recipe, rows: Rows) -> dict[str, object]:
    setup, target = situation(recipe)
    wanted = wishes(recipe, setup, rows)
    if wanted.micro_tokens is not None and wanted.checkpointing is not None:  # nothing is left to choose
        return {
            "micro_tokens": wanted.micro_tokens,
            "checkpointing": wanted.checkpointing,
            "mlp_tile": None,
            "lanes": wanted.lanes,
            "needed_bytes": None,
        }
    found: Plan = make_plan(setup, target, rows, wanted)
    require_fit(found)
    return {**found.choices, "needed_bytes": found.chosen.needed_bytes}


def context_row(base: str, recipe: Recipe, sizes: tuple[int, ...] = CARD_SIZES) -> tuple[int, ...]:
    """The longest context on cards of so many GiB, for one shape and the recipe's adapter."""
    setup, first = situation(recipe.model_copy(update={"base": base}), f"{sizes[0]}GiB")
    needs = ContextNeeds(setup, first)
    found = {size: longest_context(needs, named_gpu(f"{size}GiB").free_bytes) for size in sorted(sizes, reverse=True)}
    return tuple(found[size] for size in sizes)
