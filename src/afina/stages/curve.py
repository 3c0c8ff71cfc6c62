"""Curve: would more examples help? Small trainings on nested parts of the examples, measured on the same held-out ones.

Every training has the same number of steps and keeps its best adapter by the validation loss, so that a small part is not
punished for being learned by heart. What was trained and measured is kept by its content below ``small/``, and is not done again.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from afina import __version__
from afina.compare.comparison import Scoring, choose_questions, score_answers
from afina.compare.contenders import Contender, HeldOut, Knowledge, Task, give, perform_all
from afina.compare.curve import (
    SHARES,
    KindOfRows,
    LearningCurve,
    Trained,
    learning_curve,
    load_curve,
    nested,
    save_curve,
)
from afina.compare.prompts import Room, asked_in
from afina.core.errors import DataError
from afina.core.events import Events, Progress
from afina.core.files import read_json, write_atomic, write_json
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import Displayed, format_count, format_duration, format_share
from afina.data.conversation import Conversation
from afina.data.kinds import MOST_SAMPLED, kinds
from afina.data.pack import planned_steps
from afina.data.store import load_conversations, load_rows, load_side
from afina.measure.choice import main_metric
from afina.model.base import Base, resolve_base
from afina.model.load import choose_device, choose_dtype
from afina.recipe.recipe import Recipe
from afina.report.curve_page import draw
from afina.stages import fingerprint
from afina.stages.compare import scoring_of
from afina.stages.curve_words import page_of, verdict_words
from afina.stages.prepare import NAME as PREPARE
from afina.stages.prepare import prepare
from afina.stages.renderer import build_renderer
from afina.stages.small import Pace, choose_pace, relay, small_run
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.stages.train import train
from afina.stages.tuned import tuned_model
from afina.train.loop import STAGE as TRAIN

NAME = "curve"
PAGE = "report.html"
SMALL = "small"  # below the run's folder: small trainings by their content
_SECONDS = 600.0  # for all trainings together, where ``pilot.steps`` is auto
_MEASURED = "measured.json"
_OF_ALL = ("loss", "macro_f1", "ended")  # no numbers of one answer, or none that says how good it is


@dataclass(frozen=True)
class _Measured:
    """Of each held-out example the summed loss and what it is divided by; the metric's scores of the answers."""

    totals: list[float]
    weights: list[int]
    scores: list[float]


@dataclass(frozen=True)
class CurveResult:
    curve: LearningCurve
    page: Path
    folder: Path


def curve(recipe: Recipe, run: RunFolder, events: Events) -> CurveResult:
    """Measures how the held-out loss falls with the number of examples. Prepares the examples where that is not done."""
    prepare(recipe, run, events)
    prepared = run.require(PREPARE)
    count = len(load_side(run.stage(PREPARE), "train"))
    _require_enough(count, run)
    measuring = _measuring(recipe, run, relay(events, NAME))
    seeds = [recipe.train.seed + number for number in range(recipe.pilot.seeds)]
    trainings = [(share, seed, places) for seed in seeds for share, places in zip(SHARES, nested(count, seed), strict=True)]
    pace = choose_pace(recipe, run, run.root / SMALL, _SECONDS / len(trainings))

    short = _short_of_steps(recipe, run, pace)

    def work(folder: Path) -> Outcome:
        if short:
            events.warn(NAME, short)
        base = _untrained(measuring, events)
        done = []
        for number, (share, seed, places) in enumerate(trainings, 1):
            measured = _trained(measuring, share, seed, places, pace, events)
            done.append(Trained(share, len(places), seed, tuple(measured.totals), tuple(measured.scores)))
            events.emit(Progress(NAME, _("curve"), number, len(trainings), _("trainings")))
        found = learning_curve(
            done,
            Trained(0.0, 0, recipe.train.seed, tuple(base.totals), tuple(base.scores)),
            base.weights,
            measuring.metric,
            pace.steps,
            kinds=_kinds(run, recipe.data.split.seed),
            resamples=recipe.compare.resamples,
            seed=recipe.data.split.seed,
        )
        saved = save_curve(folder, found)
        write_atomic(folder / PAGE, draw(page_of(found, recipe.name, short)))
        return Outcome({"steps": pace.steps, "answer": found.worth.answer}, [saved, folder / PAGE], verdict_words(found))

    run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "prepare": fingerprint.of_stage(prepared),
                "base": fingerprint.of_base(measuring.base),
                "settings": fingerprint.of_settings(recipe.adapter, recipe.train, recipe.compare, recipe.pilot),
            },
            plan=lambda: _plan(trainings, pace, count),
            work=work,
        ),
    )
    folder = run.stage(NAME)
    return CurveResult(load_curve(folder), folder / PAGE, folder)


def _require_enough(count: int, run: RunFolder) -> None:
    held_out = len(load_side(run.stage(PREPARE), "test"))
    if not held_out:
        raise DataError(
            _("{folder} holds no held-out example: there is nothing to measure on").format(folder=run.stage(PREPARE)),
            fix=_("raise data.split.test, or add examples"),
        )
    if count < 8:
        raise DataError(
            _("{count} training examples cannot be parted into 12, 25, 50 and 100 %").format(count=count),
            fix=_("add examples: from about 50 on a curve can say something"),
        )


def _short_of_steps(recipe: Recipe, run: RunFolder, pace: Pace) -> str:
    """What is to be said where a training ends before it has read all examples once: the curve then looks flatter than it is."""
    rows = load_rows(run.stage(PREPARE), "train")
    an_epoch = len(planned_steps(rows, recipe.train.model_copy(update={"epochs": 1.0, "max_steps": None})))
    if pace.steps >= an_epoch:
        return ""
    return _(
        "{steps} steps read only {share} of the examples once, so the larger parts cannot show what they are worth, and the "
        "curve looks flatter than it is; with pilot.steps={needed} each example is read"
    ).format(steps=format_count(pace.steps), share=format_share(pace.steps / an_epoch), needed=an_epoch)


def _plan(trainings: Sequence[tuple[float, int, list[int]]], pace: Pace, count: int) -> str:
    text = _("{trainings} small trainings of {steps} steps on {shares} of {count} examples").format(
        trainings=len(trainings),
        steps=pace.steps,
        shares=", ".join(format_share(share) for share in SHARES),
        count=format_count(count),
    )
    seconds = format_duration(len(trainings) * pace.steps * pace.seconds_a_step)
    return text + _("; about {time} by the plan, and the answers to the held-out questions").format(time=seconds)


@dataclass(frozen=True)
class _Measuring:
    """What all trainings of a curve share: the base, and what is asked; ``known`` is the fingerprint of all of it."""

    recipe: Recipe
    run: RunFolder
    base: Base
    held_out: Sequence[Conversation]
    questions: Sequence[Conversation]
    task: Task
    scoring: Scoring
    known: str

    @property
    def metric(self) -> str:
        """The number of an answer that says most."""
        named = [reason.metric for reason in self.scoring.reasons]
        return main_metric([name for name in named if name not in _OF_ALL] or ["exact"])

    def kept(self, *content: object) -> Path:
        """Where what depends on this and ``content`` lies."""
        return self.run.root / SMALL / fingerprint.of_settings(self.known, repr(content))


def _measuring(recipe: Recipe, run: RunFolder, events: Events) -> _Measuring:
    base = resolve_base(recipe.base, recipe.revision)
    renderer = build_renderer(recipe, base)
    device = choose_device(recipe.train.device)
    dtype, _why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    settings, folder = recipe.compare, run.stage(PREPARE)
    held_out = load_conversations(folder, "test")
    chosen = choose_questions(held_out, settings.examples, recipe.data.split.seed)
    asked = HeldOut(held_out, chosen, load_rows(folder, "test"), recipe.data.turns == "last")
    given = give(("plain",), asked, Knowledge((), (), ""), Room(renderer, base.context, settings.max_new_tokens))
    known = fingerprint.of_settings(
        __version__,
        fingerprint.of_stage(run.require(PREPARE)),
        fingerprint.of_base(base),
        recipe.adapter,
        recipe.train,
        (settings.examples, settings.max_new_tokens, settings.pattern, settings.metrics, settings.checks, settings.embeddings),
        f"{device.type} {dtype}",
    )
    task = Task(renderer, given, settings.max_new_tokens, dtype, device)
    questions = [renderer.written(question) for question in chosen]
    scoring = scoring_of(recipe, renderer, load_conversations(folder, "train"), questions, run, events)
    return _Measuring(recipe, run, base, held_out, questions, task, scoring, known)


def _trained(measuring: _Measuring, share: float, seed: int, places: Sequence[int], pace: Pace, events: Events) -> _Measured:
    """A training on the examples at ``places``, and what it costs the held-out ones; as it was where it was done before."""
    folder = measuring.kept(places, pace.steps, seed)
    if (folder / _MEASURED).is_file():
        return _Measured(**read_json(folder / _MEASURED))
    name = _("{share} of the examples, seed {seed}").format(share=format_share(share), seed=seed)
    heard = relay(events, NAME, name)
    recipe, small = small_run(measuring.recipe, measuring.run, folder, places, pace, seed)
    train(recipe, small, heard)
    tuned = tuned_model(measuring.base, small)
    measured = _measure(measuring, Contender("tuned", tuned.base, tuned.adapter), heard)
    write_json(folder / _MEASURED, asdict(measured))
    for stage in (TRAIN, PREPARE):  # only what was measured is needed again
        shutil.rmtree(small.stage(stage))
    loss = sum(measured.totals) / sum(measured.weights)
    events.info(NAME, _("{name}: held-out loss {loss:.3f}").format(name=name, loss=Displayed(loss)))
    return measured


def _untrained(measuring: _Measuring, events: Events) -> _Measured:
    """The base by itself."""
    folder = measuring.kept("base")
    if (folder / _MEASURED).is_file():
        return _Measured(**read_json(folder / _MEASURED))
    measured = _measure(measuring, Contender("prompt", measuring.base, None), relay(events, NAME))
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / _MEASURED, asdict(measured))
    return measured


def _measure(measuring: _Measuring, contender: Contender, events: Events) -> _Measured:
    (performance,) = perform_all([contender], measuring.task, events)
    (scored,) = score_answers([performance], measuring.questions, measuring.scoring)
    assert performance.losses is not None, "a model of this machine tells its losses"
    totals, weights = zip(*performance.losses, strict=True)
    return _Measured(list(totals), list(weights), [answer.scores[measuring.metric] for answer in scored])


def _kinds(run: RunFolder, seed: int) -> list[KindOfRows]:
    """The kinds of question of training and held-out examples together; none where they are all alike or too few."""
    examples, held_out = (load_conversations(run.stage(PREPARE), side) for side in ("train", "test"))
    most = max(0, MOST_SAMPLED - len(held_out))
    drawn = sorted(random.Random(seed).sample(range(len(examples)), min(most, len(examples))))
    asked = [asked_in(talk.prompt) for talk in (*held_out, *(examples[place] for place in drawn))]
    found = kinds(asked, seed)
    if len(found) < 2:
        return []
    scale = len(examples) / max(1, len(drawn))
    return [
        KindOfRows(
            kind.words,
            round(scale * sum(row >= len(held_out) for row in kind.rows)),
            tuple(row for row in kind.rows if row < len(held_out)),
        )
        for kind in found
    ]
