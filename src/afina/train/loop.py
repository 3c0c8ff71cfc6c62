"""The training loop, from top to bottom: an adapter on a frozen causal language model, or all of its weights.

In scope: packed rows, held-out looks, the best kept, early stop, resume bit for bit. Elsewhere, by subject: what is trained and
how it is kept (``trainee``), a step's gradient (``gradient``), the optimizer and the learning rate (``optimize``),
``checkpoint``, the live numbers (``live``), what they say (``diagnose``), ``memory``, and what several processes share
(``ranks``): every rank runs this loop, with the same numbers in it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedModel

from afina.core.events import Events, Metric, Progress
from afina.core.interrupt import stop_wish
from afina.core.translation import _
from afina.data.pack import micro_batches, planned_steps
from afina.data.render import Row
from afina.recipe.recipe import Train
from afina.train import diagnose
from afina.train.checkpoint import Checkpoints, Counters, State
from afina.train.gradient import Gradient, not_finite
from afina.train.lanes import ONE_LANE, Lanes
from afina.train.live import Live
from afina.train.memory import MemoryWatch, device_failures_told
from afina.train.noise import EmbeddingNoise
from afina.train.optimize import build_optimizer, build_scaler, learning_rate, set_learning_rate
from afina.train.ranks import ALONE, Ranks
from afina.train.step import mean_loss
from afina.train.trainee import Trainee

STAGE = "train"
MICRO_TOKENS = 1024  # where nobody chose, see plan.py
CHECKPOINTS = "checkpoints"


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


def train(
    model: PreTrainedModel,
    rows: Sequence[Row],
    val_rows: Sequence[Row],
    settings: Train,
    trainee: Trainee,
    folder: Path,
    events: Events,
    sample: Callable[[int], None] | None = None,
    ranks: Ranks = ALONE,
    lanes: Lanes = ONE_LANE,
) -> Trained:
    """Trains ``trainee``, which is on ``model``, and leaves the best of it in ``folder``. ``sample`` is called at each look, with
    the step.

    A checkpoint in ``folder`` is gone on with: the result is the same, bit for bit, as that of a run that was never stopped.
    Ctrl-C saves one and raises KeyboardInterrupt. Raises QualityError with the rows' places where a loss or a gradient is not
    finite, ResourceError where memory, disk or GPU fail; the checkpoints made until then stay.
    """
    steps = planned_steps(rows, settings)
    auto = max(1, round(len(steps) / settings.epochs / 4))
    looks_every = auto if settings.evaluate_every == "auto" else settings.evaluate_every
    saves_every = looks_every if settings.save_every == "auto" else settings.save_every
    patience = settings.patience or math.inf

    side_by_side = ranks.count * lanes.count
    micro_tokens = MICRO_TOKENS if settings.micro_tokens == "auto" else settings.micro_tokens
    optimizer = build_optimizer(model, trainee.parameters, settings)
    scaler = build_scaler(model.dtype, model.device)
    gradient = Gradient(model, trainee, scaler, EmbeddingNoise(model, settings.neftune), settings, ranks, lanes)
    state = State(trainee.parameters, optimizer, scaler)
    checkpoints = Checkpoints(folder / CHECKPOINTS, saves_every, settings.keep, settings.keep_every, ranks)
    counters = checkpoints.load(state, lambda text: events.warn(STAGE, text)) or Counters()
    trainee.publish()
    if counters.step:
        events.info(STAGE, _("going on after step {step} of {total}").format(step=counters.step, total=len(steps)))
    live = Live(steps, looks_every, model.device)
    watch = MemoryWatch(model.device)

    def tell(now: Counters, findings: Iterable[diagnose.Finding]) -> Counters:
        """Warns of what was not told before."""
        course, texts = now.course.telling(findings)
        for text in texts:
            events.warn(STAGE, text)
        return replace(now, course=course)

    def look(now: Counters) -> Counters:
        """Held-out loss and samples; keeps what is trained where it is the best so far."""
        started = time.monotonic()
        loss = None
        if val_rows:
            loss = mean_loss(model, val_rows, micro_tokens, ranks, lanes)
            events.emit(Metric(STAGE, now.step, {"val_loss": loss}))
            if not math.isfinite(loss):
                raise not_finite(_("the validation loss"), now.step, val_rows)
            now = tell(now, diagnose.after_look(now.course, loss, now.first_loss, now.best_loss))
        if sample is not None:
            sample(now.step)
        first = loss if now.step == 0 else now.first_loss
        better = loss is None or now.best_loss is None or loss < now.best_loss
        if better:
            trainee.save(folder)
        live.looked(time.monotonic() - started, loss)
        if not better:
            return replace(now, looks_without_gain=now.looks_without_gain + 1)
        return replace(now, best_loss=loss, best_step=now.step, looks_without_gain=0, first_loss=first)

    model.eval()
    with stop_wish() as wish, device_failures_told(checkpoints):
        if counters.step == 0 and val_rows:
            counters = look(counters)
        for number in range(counters.step, len(steps)):
            if counters.looks_without_gain >= patience:
                break
            started = time.monotonic()
            rate = learning_rate(number, len(steps), settings)
            set_learning_rate(optimizer, rate)
            batches = micro_batches(steps[number], micro_tokens, share=not settings.neftune, multiple=side_by_side)
            loss, norm = gradient.of_step(optimizer, batches, number)
            scaler.step(optimizer)  # in float16: passed over where a gradient overflowed …
            scaler.update()  # … and the scale goes down
            trainee.publish()
            optimizer.zero_grad(set_to_none=True)
            seconds = time.monotonic() - started

            counters = replace(
                counters,
                step=number + 1,
                trained_seconds=counters.trained_seconds + seconds,
                seen_tokens=counters.seen_tokens + sum(len(row.ids) for row in steps[number]),
                course=counters.course.after(loss),
            )
            values = live.values(counters.step, seconds, loss, counters.course.smoothed)
            values |= {"gradient_norm": norm, "learning_rate": rate, "loss_scale": scaler.get_scale()}
            events.emit(Metric(STAGE, counters.step, values))
            events.emit(Progress(STAGE, _("training"), counters.step, len(steps), _("steps"), live.note(values)))
            counters = tell(counters, diagnose.after_step(counters.course, len(steps)))

            last = counters.step == len(steps)
            if last or counters.step % looks_every == 0:
                counters = look(counters)
            wished, full = ranks.any_of(bool(wish), watch.is_full(events, STAGE))
            if wished or full or last or checkpoints.due(counters.step):
                checkpoints.save(state, counters)
            if full and not last:
                raise watch.stopped(counters.step)
            if wished and not last:
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
