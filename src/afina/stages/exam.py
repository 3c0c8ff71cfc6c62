"""The exam of an export: what the greedy answers of its files are worth, in the metric by which the comparison is told.

Its questions are some of the comparison's, the metric is chosen as there, and the merged model answers in torch as there: what
was asked before is not asked again. Each file answers in llama.cpp, and so does the base in the same type.

Answers are few and losses are many. So the exam is there to be read; which file is deployed follows from the losses.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from math import prod
from pathlib import Path
from statistics import fmean

import torch

from afina.compare.comparison import (
    Performance,
    Scoring,
    choose_questions,
    compare_performances,
    save_answers,
    score_answers,
)
from afina.compare.contenders import (
    Contender,
    Given,
    LeftOut,
    Task,
    answer_all,
    known_answers,
    perform_elsewhere,
    perform_file,
)
from afina.compare.endpoint import Endpoint
from afina.compare.kept import Kept
from afina.compare.prompts import Asked, Room
from afina.core.events import Events
from afina.core.files import sha256_of
from afina.core.hardware import memory
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.data.render import Renderer
from afina.data.store import load_conversations
from afina.export.ladder import spread
from afina.export.rungs import Marks, Rung, WhyNot
from afina.measure.choice import main_metric
from afina.measure.intervals import Interval
from afina.model.base import Base
from afina.model.load import choose_device, choose_dtype, load_model
from afina.model.weights import Checkpoint
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.compare import KEPT, choose_scoring
from afina.stages.ladder import Quantize, Subject
from afina.stages.prepare import NAME as PREPARE

MOST, FEWEST = 24, 6  # questions
_MERGED = "merged"  # the step of the ladder that answers in torch
_SHARE, _ALWAYS_S = 0.25, 30.0  # of the export's time so far that answering may take, and what it may take in any case
_READING = 8  # how many times as fast as it says a token a model reads one, at least
_BESIDE_WEIGHTS = 1.25  # memory of a model that answers, by that of its weights


@dataclass(frozen=True)
class Exam:
    """The questions of ``task`` and the one metric of ``scoring``. ``context``: tokens that the model can hold; ``start``: when
    the export began. ``why_not``: why nobody is asked, with the ``seconds`` that too slow a model would take.
    """

    task: Task
    scoring: Scoring
    context: int
    start: float
    why_not: WhyNot = ""
    seconds: float = 0.0

    @property
    def asked(self) -> Sequence[Asked]:
        return self.task.given["plain"].asked


def set_exam(recipe: Recipe, run: RunFolder, renderer: Renderer, base: Base, stage: str) -> Exam:
    """As many of the comparison's questions as are asked at most, and its main metric."""
    settings = recipe.compare
    chosen = choose_questions(load_conversations(run.stage(PREPARE), "test"), settings.examples, recipe.data.split.seed)
    room = Room(renderer, base.context, settings.max_new_tokens)
    asked = [one for one in map(room.ask, chosen) if one.prompt_tokens < base.context]
    examples = load_conversations(run.stage(PREPARE), "train")
    questions = [renderer.written(question) for question in chosen]
    scoring = _by_main_metric(choose_scoring(recipe, renderer, examples, questions, run))
    device = choose_device(recipe.train.device)
    dtype, _why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    given = Given(spread(asked, MOST), ())
    task = Task(renderer, {"plain": given}, settings.max_new_tokens, dtype, device, Kept(run.root / KEPT), stage)
    return Exam(task, scoring, base.context, time.monotonic(), "few" if len(asked) < 2 else "" if scoring.reasons else "metric")


def _by_main_metric(scoring: Scoring) -> Scoring:
    """The metric of answers by which the comparison is told, and no other; none where the recipe wants the loss alone."""
    names = [reason.metric for reason in scoring.reasons if reason.metric != "loss"]
    return replace(scoring, reasons=tuple(one for one in scoring.reasons if names and one.metric == main_metric(names)))


def shortened(exam: Exam, tokens_per_second: float, models: int) -> Exam:
    """The exam with as many questions as ``models`` answer in a share of the time that the export took so far.

    Each of them is taken to be as slow as the one with ``tokens_per_second``, and no answer to end by itself.
    """
    if exam.why_not:
        return exam
    tokens = exam.task.max_new_tokens + fmean(one.prompt_tokens for one in exam.asked) / _READING
    each = models * tokens / tokens_per_second
    count = int(max(_ALWAYS_S, _SHARE * (time.monotonic() - exam.start)) / each)
    if count < min(FEWEST, len(exam.asked)):
        return replace(exam, why_not="time", seconds=each * min(FEWEST, len(exam.asked)))
    return replace(exam, task=replace(exam.task, given={"plain": Given(spread(exam.asked, count), ())}))


def sit(exam: Exam, kind: str, file: Path, sha256: str, rounded_base: Path, events: Events) -> list[Performance]:
    """The answers of a file and of the base in the same type; none where nobody is asked."""
    if exam.why_not:
        return []
    files = ((kind, file, sha256), (_base_of(kind), rounded_base, sha256_of(rounded_base)))
    return [perform_file(name, path, its_hash, exam.task, exam.context, events) for name, path, its_hash in files]


def mark(
    exam: Exam, answers: Sequence[Performance], rungs: Sequence[Rung], folder: Path, *, resamples: int, seed: int
) -> tuple[list[Rung], Marks]:
    """The rungs with the marks of their ``answers``, which are kept in ``folder``, and what these marks are."""
    if exam.why_not:
        return list(rungs), Marks(why_not=exam.why_not, seconds=exam.seconds)
    questions = [exam.task.renderer.written(one.conversation) for one in exam.asked]
    scored = score_answers(answers, questions, exam.scoring)
    save_answers(folder, questions, scored)
    found = compare_performances(answers, scored, questions, scoring=exam.scoring, resamples=resamples, seed=seed)
    (reason,) = exam.scoring.reasons
    marks = found.intervals(reason.metric)
    marked = [replace(rung, mark=marks.get(rung.step), base_mark=marks.get(_base_of(rung.step))) for rung in rungs]
    return marked, Marks(reason.metric, len(questions))


def sit_elsewhere(exam: Exam, endpoint: Endpoint, events: Events) -> list[Performance]:
    """The answers of a model that is served elsewhere; none where nobody is asked, or where it refuses, and that is told."""
    if exam.why_not:
        for line in Marks(why_not=exam.why_not, seconds=exam.seconds).words():
            events.info(exam.task.stage, line)
        return []
    performance = perform_elsewhere(endpoint, replace(exam.task, kept=None), events)
    if isinstance(performance, LeftOut):
        events.warn(exam.task.stage, _("Answers are not measured: {reason}.").format(reason=performance.reason))
        return []
    return [performance]


def mark_of(exam: Exam, performance: Performance, folder: Path, *, resamples: int, seed: int) -> tuple[str, Interval]:
    """The metric and the mark of one who answered; the answers are kept in ``folder``."""
    rungs, marks = mark(exam, [performance], [Rung(performance.contender, 0.0)], folder, resamples=resamples, seed=seed)
    assert rungs[0].mark is not None  # it has answered every question
    return marks.metric, rungs[0].mark


def answers_of_merged(exam: Exam, subject: Subject, onto: Quantize, events: Events) -> tuple[list[Performance], int]:
    """The answers of the merged model, which is the adapter beside weights in ``onto``.

    Where it did not answer before and does not fit into memory: none, and the bytes that it would need.
    """
    if exam.why_not:
        return [], 0
    identity = fingerprint.of_model(subject.tuned, subject.adapter) + ("" if onto == "none" else f" {onto}")
    contender = Contender(_MERGED, subject.tuned, subject.adapter, identity=identity)
    task = exam.task
    needed = _memory_needed(subject.tuned, task.dtype)
    if len(known_answers(contender, task)) < len(exam.asked) and needed > _free_memory(task.device):
        return [], needed
    load = cache(partial(load_model, subject.tuned, dtype=task.dtype, device=task.device, adapter=subject.adapter, quantize=onto))
    return [Performance(_MERGED, answer_all(contender, load, task, events), None, exam.asked)], 0


def _memory_needed(base: Base, dtype: torch.dtype) -> int:
    weights = Checkpoint(base.folder)
    return int(_BESIDE_WEIGHTS * dtype.itemsize * sum(prod(weights.shape(name)) for name in weights.names()))


def _free_memory(device: torch.device) -> float:
    """Bytes; infinite where that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    found = memory()
    return float("inf") if found is None else found.available_bytes


def _base_of(step: str) -> str:
    """What the base in a file's type is called among those who answered."""
    return f"{step} base"
