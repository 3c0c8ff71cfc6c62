"""From what contenders did to what can be said about them: a number with its interval for each metric, and paired differences."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from afina.core.files import read_json, write_atomic, write_json
from afina.core.translation import _
from afina.data.conversation import Conversation, Source
from afina.data.render import Row
from afina.infer.answer import Answer
from afina.measure.intervals import (
    Interval,
    Verdict,
    mean_interval,
    proportion_difference,
    proportion_interval,
    verdict,
)
from afina.measure.metrics import Metric, chrf, exact_match, metrics, token_f1
from afina.measure.pattern import obeys

if TYPE_CHECKING:
    from afina.compare.prompts import Asked

RESULT = "result.json"
ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Performance:
    """What a contender did: an answer to each question, which it was ``asked`` so; for each held-out conversation the summed
    loss of its trained tokens, and their number.
    """

    contender: str
    answers: list[Answer]
    losses: list[tuple[float, int]]
    asked: Sequence[Asked]


@dataclass(frozen=True)
class Measured:
    """One contender in one metric: the loss in nats a token, everything else a share from 0 to 1."""

    metric: str
    contender: str
    interval: Interval


@dataclass(frozen=True)
class Difference:
    """``contender`` minus ``against``, example by example, and what it allows to say about the contender."""

    metric: str
    contender: str
    against: str
    interval: Interval
    verdict: Verdict


@dataclass(frozen=True)
class Typical:
    """Medians over a contender's answers: tokens of its prompts; of its answers tokens (the end token included), characters, and
    seconds as one of a batch.
    """

    contender: str
    prompt_tokens: float
    tokens: float
    characters: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """``held_out`` conversations gave the loss, with ``trained_tokens`` tokens in all; ``examples`` of them were answered.

    ``undecided`` answers are counted as not obeying the pattern, which took too long on them.
    """

    held_out: int
    trained_tokens: int
    examples: int
    resamples: int
    pattern: str | None
    undecided: int
    contenders: tuple[str, ...]
    measured: tuple[Measured, ...]
    differences: tuple[Difference, ...]
    typical: tuple[Typical, ...]
    expected_characters: float

    def interval(self, metric: str, contender: str) -> Interval:
        return next(cell.interval for cell in self.measured if (cell.metric, cell.contender) == (metric, contender))

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return metrics(with_pattern=self.pattern is not None)


@dataclass(frozen=True)
class Scored:
    """An answer, what was asked, and its number in each metric of answers; ``undecided`` where the pattern took too long."""

    contender: str
    answer: Answer
    asked: Asked
    scores: dict[str, float]
    undecided: bool


def title(contender: str) -> str:
    """A contender's name for the user."""
    return {
        "prompt": _("base"),
        "few_shot": _("few-shot"),
        "rag": _("RAG"),
        "tuned": _("tuned"),
        "tuned+rag": _("tuned + RAG"),
        "pilot": _("pilot (a short training)"),
        "pilot+rag": _("pilot + RAG"),
    }[contender]


def in_a_row(values: Mapping[str, str]) -> str:
    """``3.21 → 0.84`` of two contenders; ``base 3.21, few-shot 2.90, tuned 0.84`` of more."""
    if len(values) <= 2:
        return " → ".join(values.values())
    return ", ".join(f"{title(name)} {value}" for name, value in values.items())


def choose_questions(conversations: Sequence[Conversation], most: int, seed: int) -> list[Conversation]:
    """At most ``most`` of the held-out conversations, drawn by ``seed``, in their own order."""
    drawn = random.Random(seed).sample(range(len(conversations)), min(most, len(conversations)))
    return [conversations[place] for place in sorted(drawn)]


def score_answers(
    performances: Sequence[Performance], questions: Sequence[Conversation], pattern: str | None
) -> list[list[Scored]]:
    """For each contender, each answer's scores."""
    return [_scored(performance, questions, pattern) for performance in performances]


def _scored(performance: Performance, questions: Sequence[Conversation], pattern: str | None) -> list[Scored]:
    obeyed = obeys(pattern, [answer.text for answer in performance.answers]) if pattern is not None else None
    scored = []
    for place, (answer, asked, question) in enumerate(zip(performance.answers, performance.asked, questions, strict=True)):
        scores = {
            "exact": exact_match(answer.text, question.answer),
            "f1": token_f1(answer.text, question.answer),
            "chrf": chrf(answer.text, question.answer),
            "ended": float(answer.finish == "stop"),
        }
        if obeyed is not None:
            scores["pattern"] = float(obeyed[place] is True)
        undecided = obeyed is not None and obeyed[place] is None
        scored.append(Scored(performance.contender, answer, asked, scores, undecided))
    return scored


def compare_performances(
    performances: Sequence[Performance],
    scored: Sequence[Sequence[Scored]],
    questions: Sequence[Conversation],
    *,
    pattern: str | None,
    resamples: int,
    seed: int,
) -> Comparison:
    """The comparison; the first contender is the one that the others are compared with."""
    answered = {metric: [[answer.scores[metric] for answer in answers] for answers in scored] for metric in scored[0][0].scores}
    losses = [[total for total, _count in performance.losses] for performance in performances]
    tokens = [count for _total, count in performances[0].losses]
    measured, differences = [], []
    for metric in metrics(with_pattern=pattern is not None):
        values = losses if metric.name == "loss" else answered[metric.name]
        weights = tokens if metric.name == "loss" else None
        for performance, ours in zip(performances, values, strict=True):
            interval = (
                proportion_interval(ours) if metric.binary else mean_interval(ours, weights, resamples=resamples, seed=seed)
            )
            measured.append(Measured(metric.name, performance.contender, interval))
        for performance, ours in zip(performances[1:], values[1:], strict=True):
            if metric.binary:
                interval = proportion_difference(ours, values[0])
            else:
                gaps = [one - other for one, other in zip(ours, values[0], strict=True)]
                interval = mean_interval(gaps, weights, resamples=resamples, seed=seed)
            said = verdict(interval, metric.direction)
            differences.append(Difference(metric.name, performance.contender, performances[0].contender, interval, said))
    return Comparison(
        held_out=len(tokens),
        trained_tokens=sum(tokens),
        examples=len(questions),
        resamples=resamples,
        pattern=pattern,
        undecided=sum(answer.undecided for answers in scored for answer in answers),
        contenders=tuple(performance.contender for performance in performances),
        measured=tuple(measured),
        differences=tuple(differences),
        typical=tuple(_typical(performance) for performance in performances),
        expected_characters=median(len(question.answer) for question in questions),
    )


def by_conversation(rows: Sequence[Row], losses: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """The summed loss and the trained tokens of each conversation, whose rows are one example: a template that rewrites earlier
    turns gives several, and so does a prompt of its own for each answer.
    """
    sums: dict[Source, tuple[float, int]] = {}
    for row, (loss, count) in zip(rows, losses, strict=True):
        total, tokens = sums.get(row.source, (0.0, 0))
        sums[row.source] = (total + loss, tokens + count)
    return list(sums.values())


def _typical(performance: Performance) -> Typical:
    answers = performance.answers
    return Typical(
        performance.contender,
        prompt_tokens=median(asked.prompt_tokens for asked in performance.asked),
        tokens=median(len(answer.ids) for answer in answers),
        characters=median(len(answer.text) for answer in answers),
        seconds=median(answer.seconds for answer in answers),
    )


def save_comparison(
    folder: Path, comparison: Comparison, questions: Sequence[Conversation], scored: Sequence[Sequence[Scored]]
) -> list[Path]:
    """Writes ``result.json`` and ``answers.jsonl`` (a line for each question) into ``folder``; returns both."""
    lines = [
        {
            "source": str(question.source),
            "prompt": [asdict(message) for message in question.prompt],
            "expected": question.answer,
            "answers": {answers[place].contender: _answer_record(answers[place], question) for answers in scored},
        }
        for place, question in enumerate(questions)
    ]
    write_atomic(folder / ANSWERS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    tree = asdict(comparison)
    for cell in (*tree["measured"], *tree["differences"]):
        cell["interval"] = {end: number if math.isfinite(number) else None for end, number in cell["interval"].items()}
    write_json(folder / RESULT, tree)
    return [folder / RESULT, folder / ANSWERS]


def _answer_record(scored: Scored, question: Conversation) -> dict[str, Any]:
    """The answer; where something stood before the question, also what it was and the whole prompt."""
    answer, asked = scored.answer, scored.asked
    record: dict[str, Any] = {
        "text": answer.text,
        "finish": answer.finish,
        "prompt_tokens": asked.prompt_tokens,
        "tokens": len(answer.ids),
        "seconds": round(answer.seconds, 4),
        "scores": {name: round(score, 6) for name, score in scored.scores.items()},
    }
    if asked.conversation.prompt != question.prompt:
        record |= {"shown": list(asked.shown), "prompt": [asdict(message) for message in asked.conversation.prompt]}
    return record


def load_comparison(folder: Path) -> Comparison:
    """The comparison that ``save_comparison`` wrote."""
    tree = read_json(folder / RESULT)
    return Comparison(
        **{
            **tree,
            "contenders": tuple(tree["contenders"]),
            "measured": tuple(Measured(**{**cell, "interval": _interval(cell["interval"])}) for cell in tree["measured"]),
            "differences": tuple(Difference(**{**cell, "interval": _interval(cell["interval"])}) for cell in tree["differences"]),
            "typical": tuple(Typical(**medians) for medians in tree["typical"]),
        }
    )


def _interval(ends: Mapping[str, float | None]) -> Interval:
    """An end that was infinite, which JSON cannot say, was written as null."""
    value, low, high = ends["value"], ends["low"], ends["high"]
    assert value is not None
    return Interval(value, -math.inf if low is None else low, math.inf if high is None else high)
