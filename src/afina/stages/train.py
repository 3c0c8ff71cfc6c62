"""Train: a LoRA or QLoRA adapter on the prepared rows."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from afina.core.errors import QualityError
from afina.core.events import Events
from afina.core.files import require_disk
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import format_bytes, format_count
from afina.data.render import Row
from afina.data.store import load_rows
from afina.model import lora
from afina.model.base import describe, resolve_base
from afina.model.load import choose_device, choose_dtype, choose_threads, load_model
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.prepare import NAME as PREPARE
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.train import loop
from afina.train.step import prepare as prepare_step

NAME = loop.STAGE


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
    adapter: Path


def train(recipe: Recipe, run: RunFolder, events: Events) -> TrainResult:
    """Trains on the run's prepared rows; a run that was stopped goes on where it was."""
    base = resolve_base(recipe.base, recipe.revision)
    prepared = run.require(PREPARE)
    device = choose_device(recipe.train.device)
    dtype, why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    rows, val_rows = (prepared_rows(run, side) for side in ("train", "val"))
    steps = loop.planned_steps(rows, recipe.train)
    torch.set_num_threads(choose_threads(base.config))

    def work(folder: Path) -> Outcome:
        model = load_model(base, dtype=dtype, device=device, quantize=recipe.adapter.quantize)
        lora.add_lora(model, recipe.adapter, recipe.train.seed)
        for remark in prepare_step(model):
            events.info(NAME, remark)
        trained_parameters = sum(parameter.numel() for parameter in lora.trained_parameters(model).values())
        require_disk(folder, 5 * 4 * trained_parameters, _("the adapter and its checkpoints"))
        trained = loop.train(model, rows, val_rows, recipe.train, recipe.adapter, recipe.base, folder, events)
        _require_a_difference(model)
        (folder / loop.CHECKPOINT).unlink(missing_ok=True)  # a finished training is not resumed
        adapter = folder / loop.ADAPTER
        result = {
            **asdict(trained),
            "peak_bytes": peak_bytes(device),
            "trained_parameters": trained_parameters,
            "device": str(device),
            "dtype": str(dtype).removeprefix("torch."),
        }
        return Outcome(result, sorted(adapter.iterdir()), _summary(trained, peak_bytes(device)))

    bits = {"int8": 8, "nf4": 4}.get(recipe.adapter.quantize)
    quantized = "" if bits is None else _(" on {bits}-bit weights").format(bits=bits)
    manifest = run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "prepare": fingerprint.of_stage(prepared),
                "base": fingerprint.of_base(base),
                "recipe": fingerprint.of_settings(recipe.adapter, recipe.train),
                "hardware": f"{device.type} {dtype} {torch.get_num_threads()}",
            },
            plan=_(
                "LoRA rank {rank}{quantized} on {base}: {rows} rows, {tokens} tokens, {steps} steps; {dtype} on {device}: {why}"
            ).format(
                rank=recipe.adapter.rank,
                quantized=quantized,
                base=describe(base),
                rows=len(rows),
                tokens=format_count(sum(len(row.ids) for step in steps for row in step)),
                steps=len(steps),
                dtype=str(dtype).removeprefix("torch."),
                device=_device_words(device),
                why=why,
            ),
            work=work,
            resumable=True,
        ),
    )
    return TrainResult(**manifest.result, adapter=run.stage(NAME) / loop.ADAPTER)


def prepared_rows(run: RunFolder, side: str) -> list[Row]:
    """The rows of one side of the split, as the prepare stage left them."""
    return list(load_rows(run.stage(PREPARE), side))


def peak_bytes(device: torch.device) -> int:
    """The most memory that the process held so far: on the GPU, else resident in RAM (0 where the system does not tell)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _require_a_difference(model: nn.Module) -> None:
    """A training that leaves every B where it began gives the base back: that is never a success."""
    if not any(layer.has_learned() for _name, layer in lora.lora_layers(model)):
        raise QualityError(
            _("the training changed nothing: every update is zero"), fix=_("raise train.learning_rate or train.epochs")
        )


def _device_words(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _("{count} CPU threads").format(count=torch.get_num_threads())


def _summary(trained: loop.Trained, peak: int) -> str:
    losses = (
        _("validation loss {first:.3f} → {best:.3f} (best at step {step})").format(
            first=trained.first_loss, best=trained.best_loss, step=trained.best_step
        )
        if trained.first_loss is not None and trained.best_loss is not None
        else _("no validation rows")
    )
    stopped = _("; stopped early") if trained.early_stop else ""
    speed = _("{rate:,.0f} tokens a second, at most {peak} of memory").format(
        rate=trained.tokens_per_second, peak=format_bytes(peak)
    )
    return f"{losses}{stopped}; {speed}"
