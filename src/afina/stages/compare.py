"""Compare: the base with the plain prompt against the tuned model, on held-out examples that training never saw.

Both run in the type in which the model will be served (16 or 32 bits, the adapter beside the base), never in NF4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from afina import __version__
from afina.compare.comparison import (
    Comparison,
    choose_questions,
    compare_performances,
    load_comparison,
    save_comparison,
    score_answers,
    title,
)
from afina.compare.contenders import STAGE, Task, choose_contenders, perform
from afina.core.errors import DataError, RecipeError
from afina.core.events import Events
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import format_share
from afina.data.conversation import Conversation
from afina.data.store import load_conversations, load_rows
from afina.measure.intervals import Interval
from afina.measure.pattern import obeys
from afina.model.base import resolve_base
from afina.model.load import choose_device, choose_dtype
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.prepare import NAME as PREPARE
from afina.stages.prepare import build_renderer
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.stages.tuned import tuned_model
from afina.train.loop import STAGE as TRAIN

NAME = STAGE
_FEW = 20  # below this many examples an interval is wider than most differences


@dataclass(frozen=True)
class CompareResult:
    comparison: Comparison
    folder: Path


def compare(recipe: Recipe, run: RunFolder, events: Events) -> CompareResult:
    """Compares the recipe's contenders on the run's held-out examples."""
    run.require(PREPARE)
    trained = run.require(TRAIN)
    base = resolve_base(recipe.base, recipe.revision)
    renderer = build_renderer(recipe, base)
    device = choose_device(recipe.train.device)
    dtype, _why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    dtype_name = str(dtype).removeprefix("torch.")
    settings = recipe.compare
    seed = recipe.data.split.seed
    held_out = load_conversations(run.stage(PREPARE), "test")
    if not held_out:
        raise DataError(
            _("{folder} holds no held-out example: there is nothing to compare on").format(folder=run.stage(PREPARE)),
            fix=_("raise data.split.test, or add examples"),
        )
    questions = [renderer.written(question) for question in choose_questions(held_out, settings.examples, seed)]
    tuned = tuned_model(base, run)
    contenders = choose_contenders(settings.contenders, base, tuned.base, tuned.adapter)

    def work(folder: Path) -> Outcome:
        _check_pattern(settings.pattern, questions, events)
        if len(questions) < _FEW:
            text = _("only {count} held-out examples: wide intervals; more examples or a larger data.split.test narrow them")
            events.warn(NAME, text.format(count=len(questions)))
        rows = load_rows(run.stage(PREPARE), "test")
        task = Task(renderer.tokenizer, renderer.template, rows, questions, settings.max_new_tokens, dtype, device)
        performances = [perform(contender, task, events) for contender in contenders]
        scored = score_answers(performances, questions, settings.pattern)
        comparison = compare_performances(
            performances, scored, rows, questions, pattern=settings.pattern, resamples=settings.resamples, seed=seed
        )
        if comparison.undecided:
            text = _("compare.pattern takes too long: {count} answers are not decided and count as not obeying it")
            events.warn(NAME, text.format(count=comparison.undecided))
        outputs = save_comparison(folder, comparison, questions, scored)
        return Outcome({"examples": comparison.examples, "held_out": comparison.held_out}, outputs, summary(comparison))

    run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "train": fingerprint.of_stage(trained),
                "recipe": fingerprint.of_settings(settings, seed),
                "hardware": f"{device.type} {dtype_name}",
            },
            plan=_("{contenders} on {held_out} held-out examples, {questions} of them answered; {dtype} on {device}").format(
                contenders=_(" against ").join(title(contender.name) for contender in contenders),
                held_out=len(held_out),
                questions=len(questions),
                dtype=dtype_name,
                device=device.type,
            ),
            work=work,
        ),
    )
    return CompareResult(load_comparison(run.stage(NAME)), run.stage(NAME))


def summary(comparison: Comparison) -> str:
    """``held-out loss 3.21 → 0.84; style obeyed 0 % → 97 % (93–99 %)``; one number each where one contender stands alone."""
    told = {metric.name: metric.title for metric in comparison.metrics}
    losses = [comparison.interval("loss", name) for name in comparison.contenders]
    main = "pattern" if comparison.pattern is not None else "f1"
    shares = [comparison.interval(main, name) for name in comparison.contenders]
    loss_text = " → ".join(f"{loss.value:.2f}" for loss in losses)
    share_text = " → ".join(format_share(share.value) for share in shares)
    return f"{told['loss']} {loss_text}; {told[main]} {share_text} ({_range(shares[-1])})"


def _range(interval: Interval) -> str:
    """``93–99 %``; one example alone gives no interval."""
    if interval.high > 1:
        return _("one example, no interval")
    return f"{format_share(interval.low).removesuffix(' %')}–{format_share(interval.high)}"


def _check_pattern(pattern: str | None, questions: Sequence[Conversation], events: Events) -> None:
    """What can be known of the pattern before any model works: whether it ends, and whether the examples themselves obey it."""
    if pattern is None:
        return
    verdicts = obeys(pattern, [question.answer for question in questions], patience=1)
    if None in verdicts:
        raise RecipeError(
            _("compare.pattern takes too long on the expected answer of {source}").format(
                source=questions[verdicts.index(None)].source
            ),
            fix=_("write it without a repeat inside a repeat, such as (a+)+"),
        )
    broken = [question.source for question, obeyed in zip(questions, verdicts, strict=True) if not obeyed]
    if broken:
        text = _("{count} of {all} expected answers do not match compare.pattern themselves, the first at {source}")
        events.warn(NAME, text.format(count=len(broken), all=len(questions), source=broken[0]))
