"""The training loop, from top to bottom: LoRA or QLoRA on a frozen causal language model.

In scope: one process, one device, packed rows, AdamW with warm-up and cosine, validation, best checkpoint, early stop, resume bit
for bit. Not in scope: several processes, other optimizers, full-parameter training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from afina.core.errors import QualityError
from afina.core.events import Events, Metric, Progress
from afina.core.interrupt import stop_wish
from afina.core.translation import _
from afina.data.pack import Packed, epoch_steps, micro_batches
from afina.data.render import Row
from afina.model.adapter import save_adapter
from afina.model.lora import adapter_tensors, trained_parameters
from afina.recipe.recipe import Adapter, Train
from afina.train.checkpoint import Counters, load_checkpoint, save_checkpoint
from afina.train.step import mean_loss, packed_loss

STAGE = "train"
CHECKPOINT, ADAPTER = "checkpoint.safetensors", "adapter"


@dataclass(frozen=True)
class Trained:
    """What a training came to. Losses are means a trained token; ``first_loss`` is the base's; None without validation rows."""

    steps: int
    planned_steps: int
    best_step: int
    first_loss: float | None
    best_loss: float | None
    tokens_per_second: float
    early_stop: bool


def planned_steps(rows: Sequence[Row], settings: Train) -> list[list[Row]]:
    """The rows of every step of the run, in order. The last epoch may be a part of one."""
    steps: list[list[Row]] = []
    for epoch in range(math.ceil(settings.epochs)):
        of_epoch = epoch_steps(rows, settings.batch_tokens, settings.seed, epoch)
        share = min(1.0, settings.epochs - epoch)
        steps += of_epoch[: max(1, round(len(of_epoch) * share))]
    return steps[: settings.max_steps]


def learning_rate(step: int, total: int, settings: Train) -> float:
    """Rate of ``step`` (from 0): a straight rise over the warm-up, then a cosine down to zero at the end."""
    warmup = round(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def train(
    model: PreTrainedModel,
    rows: Sequence[Row],
    val_rows: Sequence[Row],
    settings: Train,
    adapter: Adapter,
    base_name: str,
    folder: Path,
    events: Events,
) -> Trained:
    """Trains the adapter that is on ``model`` and leaves the best one in ``folder``/adapter, in PEFT's format.

    A checkpoint in ``folder`` is gone on with: the result is the same, bit for bit, as that of a run that was never stopped.
    Ctrl-C saves one and raises KeyboardInterrupt. Raises QualityError with the rows' places where a loss or a gradient is not
    finite.
    """
    steps = planned_steps(rows, settings)
    looks_every = (
        settings.evaluate_every if settings.evaluate_every != "auto" else max(1, round(len(steps) / settings.epochs / 4))
    )
    saves_every = settings.save_every if settings.save_every != "auto" else looks_every
    trained = trained_parameters(model)
    parameters = list(trained.values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)

    checkpoint = folder / CHECKPOINT
    counters = load_checkpoint(checkpoint, trained, optimizer) if checkpoint.is_file() else Counters()
    if counters.step:
        events.info(STAGE, _("going on after step {step} of {total}").format(step=counters.step, total=len(steps)))

    def look(now: Counters) -> Counters:
        """Validation loss; keeps the adapter where it is the best so far."""
        loss = mean_loss(model, val_rows, settings.micro_tokens) if val_rows else None
        if loss is not None:
            events.emit(Metric(STAGE, now.step, {"val_loss": loss}))
            if not math.isfinite(loss):
                raise _not_finite(_("the validation loss"), now.step, val_rows)
        better = loss is None or now.best_loss is None or loss < now.best_loss
        first = loss if now.step == 0 else now.first_loss
        if not better:
            return replace(now, looks_without_gain=now.looks_without_gain + 1, first_loss=first)
        save_adapter(folder / ADAPTER, adapter, base_name, adapter_tensors(model))
        return replace(now, best_loss=loss, best_step=now.step, looks_without_gain=0, first_loss=first)

    model.eval()
    if counters.step == 0 and val_rows:
        counters = look(counters)
    patience = settings.patience if settings.patience is not None else math.inf
    with stop_wish() as wish:
        for number in range(counters.step, len(steps)):
            if counters.looks_without_gain >= patience:
                break
            started = time.monotonic()
            _set_train_mode(model)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(number, len(steps), settings)
            loss, norm = _step(model, micro_batches(steps[number], settings.micro_tokens), parameters, settings, number)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            model.eval()

            tokens = sum(len(row.ids) for row in steps[number])
            counters = replace(
                counters,
                step=number + 1,
                trained_seconds=counters.trained_seconds + time.monotonic() - started,
                seen_tokens=counters.seen_tokens + tokens,
            )
            rate = optimizer.param_groups[0]["lr"]
            values = {"loss": loss, "gradient_norm": norm, "learning_rate": rate, "tokens": float(tokens)}
            events.emit(Metric(STAGE, counters.step, values))
            events.emit(Progress(STAGE, _("training"), counters.step, len(steps), _("steps"), f"loss {loss:.3f}"))
            last = counters.step == len(steps)
            if last or counters.step % looks_every == 0:
                counters = look(counters)
            if wish or last or counters.step % saves_every == 0:
                save_checkpoint(checkpoint, trained, optimizer, counters)
            if wish and not last:
                events.info(STAGE, _("stopped after step {step} of {total}").format(step=counters.step, total=len(steps)))
                raise KeyboardInterrupt
    return Trained(
        steps=counters.step,
        planned_steps=len(steps),
        best_step=counters.best_step,
        first_loss=counters.first_loss,
        best_loss=counters.best_loss,
        tokens_per_second=counters.seen_tokens / max(counters.trained_seconds, 1e-9),
        early_stop=counters.step < len(steps),
    )


def _step(
    model: PreTrainedModel, batches: Sequence[Packed], parameters: Sequence[nn.Parameter], settings: Train, step: int
) -> tuple[float, float]:
    """Loss a trained token and norm of the gradient (before clipping) of one step; the gradients are left in ``parameters``."""
    tokens = sum(len(batch.targets) for batch in batches)
    total = 0.0
    for number, batch in enumerate(batches):
        torch.manual_seed((settings.seed * 1_000_003 + step) * 1_003 + number)  # dropout's noise
        loss = packed_loss(model, batch)
        if not math.isfinite(loss.item()):
            raise _not_finite(_("the loss"), step + 1, batch.rows)
        (loss / tokens).backward()
        total += loss.item()
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.clip))
    if not math.isfinite(norm):
        raise _not_finite(_("the gradient"), step + 1, [row for batch in batches for row in batch.rows])
    return total / tokens, norm


def _set_train_mode(model: nn.Module) -> None:
    """Training mode for adapters and activation checkpointing; the base's own dropout stays off, for a frozen base is not
    regularised.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()


def _not_finite(what: str, step: int, rows: Sequence[Row]) -> QualityError:
    places = ", ".join(dict.fromkeys(str(row.source) for row in rows[:8]))
    more = _(" and {count} more").format(count=len(rows) - 8) if len(rows) > 8 else ""
    return QualityError(
        _("{what} is not a finite number at step {step}; the rows were {places}{more}").format(
            what=what, step=step, places=places, more=more
        ),
        fix=_("look at these rows; then lower train.learning_rate, or --set train.dtype=float32"),
    )
