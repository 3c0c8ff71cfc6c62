"""Train: a LoRA or QLoRA adapter, or all weights of a small model, on the prepared rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from afina.core.errors import QualityError, RecipeError, ResourceError
from afina.core.events import Events
from afina.core.files import require_disk
from afina.core.run import Manifest, RunFolder
from afina.core.translation import _
from afina.core.units import Displayed, format_bytes, format_count, grouped
from afina.data.pack import planned_steps
from afina.data.render import Row
from afina.data.store import load_conversations, load_rows
from afina.model.base import Base, describe, resolve_base
from afina.model.load import choose_device, choose_dtype, choose_threads, load_model, torch_threads
from afina.model.lora import add_lora
from afina.recipe.recipe import Adapter, Recipe, Train
from afina.stages import fingerprint
from afina.stages.plan import chosen_for
from afina.stages.prepare import NAME as PREPARE
from afina.stages.renderer import build_renderer
from afina.stages.stage import STARTED, Outcome, StageWork, run_stage
from afina.train import diagnose, loop, ranks, step
from afina.train.checkpoint import Checkpoints
from afina.train.compiled import choose_compiling
from afina.train.lanes import Lanes
from afina.train.memory import peak_bytes
from afina.train.optimize import require_optimizer
from afina.train.ranks import Ranks
from afina.train.sample import sampler
from afina.train.saving import Saving, apply_saving
from afina.train.sizes import usual_tokens
from afina.train.track import require_trackers, tracked
from afina.train.trainee import ADAPTER, FULL, Trainee, adapter_on, whole_model

NAME = loop.STAGE
# What changes memory, speed or what is shown, and not what is learned: a training goes on with other values of these.
_NOT_OF_THE_RESULT = frozenset({"micro_tokens", "checkpointing", "save_every", "keep", "keep_every", "samples", "track", "shard"})


@dataclass(frozen=True)
class TrainResult:
    steps: int
    planned_steps: int
    best_step: int
    first_loss: float | None
    best_loss: float | None
    tokens_per_second: float
    early_stop: bool
    peak_bytes: int
    trained_parameters: int
    device: str
    dtype: str
    weights: Path  # folder of the adapter, or of the whole model
    choices: Mapping[str, Any] = field(default_factory=dict)  # what ``auto`` stood for, see plan.py


def train(recipe: Recipe, run: RunFolder, events: Events) -> TrainResult:
    """Trains on the run's prepared rows; a run that was stopped goes on where it was.

    Under ``one_of_several`` every rank is here: the first one keeps the run's folder, the others take part in its work.
    """
    all_ranks = ranks.here()
    base = resolve_base(recipe.base, recipe.revision)
    prepared = run.require(PREPARE)
    device = all_ranks.device(choose_device(recipe.train.device))
    require_optimizer(recipe.train, device)
    require_trackers(recipe.train.track)
    dtype, why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    rows, val_rows = (prepared_rows(run, side) for side in ("train", "val"))
    all_ranks.require_rows(len(rows))
    steps = planned_steps(rows, recipe.train)
    inputs = {
        "prepare": fingerprint.of_stage(prepared),
        "base": fingerprint.of_base(base),
        "hardware": f"{device.type} {dtype}",  # not how many ranks or threads: a training goes on with others
        **fingerprint.settings_by_key(recipe.adapter, "adapter"),
        **fingerprint.settings_by_key(recipe.train, "train", without=_NOT_OF_THE_RESULT),
    }

    all_ranks.require_same(inputs)
    sharded = _is_sharded(recipe, base, dtype, device, all_ranks)
    together = replace(all_ranks, sharded=sharded)

    def work(folder: Path) -> Outcome:
        settings, saving, count = _agreed(recipe, rows, folder, together, events)  # before the weights take memory
        tokens = sum(len(row.ids) for rows_of_step in steps for row in rows_of_step)
        compiling = choose_compiling(settings.compile, device, base.weight_bytes // 2, tokens, saving.checkpointing, count)
        lean = saving.is_lean and not sharded
        model, trainee = _load(recipe, base, dtype, device, together, lean=lean)
        for remark in step.prepare(model, compiled=compiling.on):
            events.info(NAME, remark)
        if compiling.on:
            events.info(NAME, _("layers are compiled, which makes the first step slow: {why}").format(why=compiling.reason))
        apply_saving(model, saving)
        _tell_before_start(recipe, rows, model, events)
        _tell_idle(steps, together, events)
        micro_tokens = loop.MICRO_TOKENS if settings.micro_tokens == "auto" else settings.micro_tokens
        threads = choose_threads(base.config, usual_tokens(rows, settings, micro_tokens))
        lanes = Lanes(count, min(threads, max(1, torch.get_num_threads() // count)))
        trained_parameters = sum(parameter.numel() for parameter in trainee.parameters.values())
        for_good = len(steps) // recipe.train.keep_every if recipe.train.keep_every else 0
        checkpoints = recipe.train.keep + for_good + 2  # … the one that is being written, and the best weights
        require_disk(folder, checkpoints * 3 * 4 * trained_parameters, _("the adapter and its checkpoints"))
        with (
            torch_threads(threads),
            tracked(recipe.train.track if together.is_first else (), recipe.name, folder, inputs, NAME) as listeners,
            events.heard_by(*listeners),
        ):
            sample = _sampler(recipe, run, base, model, events)
            trained = loop.train(model, rows, val_rows, settings, trainee, folder, events, sample, together, lanes)
        if not trainee.has_learned():
            raise QualityError(
                _("the training changed nothing: every update is zero"), fix=_("raise train.learning_rate or train.epochs")
            )
        result = {
            **asdict(trained),
            "peak_bytes": peak_bytes(device),
            "trained_parameters": trained_parameters,
            "device": str(device),
            "dtype": str(dtype).removeprefix("torch."),
            "choices": {"micro_tokens": settings.micro_tokens, **asdict(saving), "lanes": count, "compiled": compiling.on},
        }
        return Outcome(result, sorted((folder / _left(recipe)).iterdir()), _summary(trained, peak_bytes(device)))

    manifest = _run_together(
        together,
        run,
        events,
        StageWork(
            name=NAME,
            inputs=inputs,
            plan=lambda: _("{method} on {base}: {rows} rows, {tokens} tokens, {steps} steps; {dtype} on {device}: {why}").format(
                method=_method_words(recipe.adapter),
                base=describe(base),
                rows=len(rows),
                tokens=format_count(sum(len(row.ids) for rows_of_step in steps for row in rows_of_step)),
                steps=len(steps),
                dtype=str(dtype).removeprefix("torch."),
                device=_device_words(device) + _ranks_words(together),
                why=why,
            ),
            work=work,
            resumable=True,
        ),
    )
    # Only now is it finished: killed a moment before, it would have gone on from the last of them.
    if together.is_first:
        Checkpoints(run.stage(NAME) / loop.CHECKPOINTS, 1, recipe.train.keep, recipe.train.keep_every).clear()
    return TrainResult(**manifest.result, weights=run.stage(NAME) / _left(recipe))


@contextmanager
def one_of_several() -> Iterator[bool]:
    """Joins the processes that torchrun started, if it did; whether this is the one that leads."""
    with ranks.joined() as joined:
        yield joined.is_first


def _run_together(together: Ranks, run: RunFolder, events: Events, stage: StageWork) -> Manifest:
    """``run_stage`` by the first rank; the others hear from it whether there is work, and take part in it."""
    if not together.is_first:
        if together.gathered(None)[0]:
            _require_seen(together, run.stage(stage.name))
            stage.work(run.stage(stage.name))
        together.wait()
        return run.require(stage.name)
    worked = False

    def work(folder: Path) -> Outcome:
        nonlocal worked
        worked = True
        together.gathered(worked)
        _require_seen(together, folder)
        return stage.work(folder)

    manifest = run_stage(run, events, replace(stage, work=work))
    if not worked:
        together.gathered(worked)
    together.wait()
    return manifest


def _require_seen(together: Ranks, folder: Path) -> None:
    """Raises ResourceError where a rank's machine does not see the folder that the first one writes."""
    for rank, seen in enumerate(together.gathered((folder / STARTED).is_file())):
        if not seen:
            raise ResourceError(
                _("rank {rank} does not see {folder}, which rank 0 writes").format(rank=rank, folder=folder),
                fix=_("keep the runs on a disk that all machines share: --runs FOLDER"),
            )


def _is_sharded(recipe: Recipe, base: Base, dtype: torch.dtype, device: torch.device, all_ranks: Ranks) -> bool:
    """Whether the layers are shared out. Raises RecipeError where they are and something else in the recipe cannot be."""
    bytes_a_weight = {"none": dtype.itemsize, "int8": 1, "nf4": 0.52}[recipe.adapter.quantize]
    frozen_bytes = int(base.weight_bytes / 2 * bytes_a_weight)  # the files are in 16 bits as a rule
    if recipe.adapter.method == "full" and recipe.train.shard == "auto":
        return False
    if not ranks.is_sharded(recipe.train.shard, all_ranks, frozen_bytes, device):
        return False
    if recipe.adapter.method == "full":
        raise RecipeError(
            _("train.shard is on and adapter.method is full: only frozen layers and their adapters are shared out"),
            fix=_("--set train.shard=off: each device then holds the whole model"),
        )
    if dtype == torch.float16:
        raise RecipeError(
            _("the layers are shared out over the devices, and the number type is float16, whose scaled loss needs whole ones"),
            fix=_("--set train.dtype=float32, or --set train.shard=off where the model fits on each device"),
        )
    if recipe.train.optimizer != "adamw":
        raise RecipeError(
            _("the layers are shared out over the devices, and train.optimizer is {name}, which needs whole ones").format(
                name=recipe.train.optimizer
            ),
            fix=_("--set train.optimizer=adamw, or --set train.shard=off where the model fits on each device"),
        )
    return True


def _agreed(recipe: Recipe, rows: Sequence[Row], folder: Path, together: Ranks, events: Events) -> tuple[Train, Saving, int]:
    """``chosen_for`` by the first rank, which leaves its choice in ``folder`` for the others. Ranks have one lane each.

    The plan knows one device only. Where the layers are shared out, ``auto`` is what takes the least of it.
    """
    settings = recipe.train
    if together.sharded and settings.checkpointing == "auto":
        settings = settings.model_copy(update={"checkpointing": "full"})
        events.info(NAME, _("train.checkpointing is full where the layers are shared out; none is faster if there is room"))
    if together.sharded and settings.micro_tokens == "auto":
        settings = settings.model_copy(update={"micro_tokens": loop.MICRO_TOKENS})
    planned = recipe.model_copy(update={"train": settings})
    if together.is_first:
        chosen_for(planned, rows, folder)
    together.wait()
    settings, saving, lanes = chosen_for(planned, rows, folder)
    return settings, saving, lanes if together.count == 1 else 1


def _load(
    recipe: Recipe, base: Base, dtype: torch.dtype, device: torch.device, together: Ranks, *, lean: bool
) -> tuple[PreTrainedModel, Trainee]:
    """The model, and what of it is trained. ``lean``: weights that are bfloat16 in the files stay so in memory."""
    if recipe.adapter.method == "full":
        model = load_model(base, dtype=torch.float32, device=device)
        return model, whole_model(model, base, dtype, together)
    where = torch.device("cpu") if together.sharded else device  # a device may be too small for all of it
    storage = torch.bfloat16 if lean else None
    model = load_model(base, dtype=dtype, device=where, quantize=recipe.adapter.quantize, storage=storage)
    add_lora(model, recipe.adapter, recipe.train.seed)
    if together.sharded:
        ranks.shard(model, together, device)
    return model, adapter_on(model, recipe.adapter, recipe.base, together)


def _left(recipe: Recipe) -> str:
    """The folder below the stage's that holds what was trained."""
    return FULL if recipe.adapter.method == "full" else ADAPTER


def _tell_before_start(recipe: Recipe, rows: Sequence[Row], model: PreTrainedModel, events: Events) -> None:
    trained_share = sum(row.trained_tokens for row in rows) / sum(len(row.ids) for row in rows)
    rate, method = recipe.train.learning_rate, recipe.adapter.method
    for text in diagnose.before_start(trained_share, rate, method, model.num_parameters()):
        events.warn(NAME, text)


def _tell_idle(steps: Sequence[Sequence[Row]], together: Ranks, events: Events) -> None:
    if idle := sum(len(rows) < together.count for rows in steps):
        events.warn(
            NAME,
            _(
                "{idle} of {steps} steps have fewer rows than there are ranks ({ranks}), some of which wait: "
                "raise train.batch_tokens"
            ).format(idle=idle, steps=len(steps), ranks=together.count),
        )


def _sampler(recipe: Recipe, run: RunFolder, base: Base, model: PreTrainedModel, events: Events) -> Callable[[int], None] | None:
    """What lets the model answer some validation questions at each look, where the recipe asks for it."""
    talks = load_conversations(run.stage(PREPARE), "val")[: recipe.train.samples]
    if not talks:
        return None
    renderer = build_renderer(recipe, base)
    written = [renderer.written(talk) for talk in talks]
    return sampler(model, base.family, renderer.tokenizer, renderer.template, written, events, NAME)


def prepared_rows(run: RunFolder, side: str) -> list[Row]:
    """The rows of one side of the split, as the prepare stage left them."""
    return list(load_rows(run.stage(PREPARE), side))


def _method_words(adapter: Adapter) -> str:
    if adapter.method == "full":
        return _("all weights")
    bits = {"int8": 8, "nf4": 4}.get(adapter.quantize)
    quantized = "" if bits is None else _(" on {bits}-bit weights").format(bits=bits)
    return _("LoRA rank {rank}{quantized}").format(rank=adapter.rank, quantized=quantized)


def _device_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _("{count} CPU threads").format(count=torch.get_num_threads())


def _ranks_words(together: Ranks) -> str:
    if together.count == 1:
        return ""
    text = _(" × {count} ranks, the layers shared out") if together.sharded else _(" × {count} ranks")
    return text.format(count=together.count)


def _summary(trained: loop.Trained, peak: int) -> str:
    losses = (
        _("validation loss {first:.3f} → {best:.3f} (best at step {step})").format(
            first=Displayed(trained.first_loss), best=Displayed(trained.best_loss), step=trained.best_step
        )
        if trained.first_loss is not None and trained.best_loss is not None
        else _("no validation rows")
    )
    stopped = _("; stopped early") if trained.early_stop else ""
    speed = _("{rate} tokens a second, at most {peak} of memory").format(
        rate=grouped(trained.tokens_per_second), peak=format_bytes(peak)
    )
    return f"{losses}{stopped}; {speed}"
