"""From what contenders did to what can be said about them: a number with its interval for each metric, and paired differences.

Each is measured over all questions, and over each kind of question by itself where there are several.
"""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean, median
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from afina.compare.checks import obeyed
from afina.compare.embedding import Meaning
from afina.compare.judge import Judgement, Tally
from afina.core.files import read_json, write_atomic, write_json
from afina.core.translation import _
from afina.data.conversation import Conversation, Source
from afina.data.render import Row
from afina.infer.answer import Answer
from afina.measure.abstention import abstention
from afina.measure.choice import Reason
from afina.measure.fields import field_match, json_value
from afina.measure.intervals import (
    Interval,
    Verdict,
    mean_interval,
    proportion_difference,
    proportion_interval,
    stretched,
    verdict,
)
from afina.measure.labels import label_match, macro_f1_difference, macro_f1_interval
from afina.measure.metrics import Metric, chrf, every_metric, exact_match, metric_of, token_f1
from afina.measure.numbers import number_match
from afina.measure.pattern import obeys
from afina.recipe.recipe import Check

if TYPE_CHECKING:
    from afina.compare.prompts import Asked

RESULT = "result.json"
ANSWERS = "answers.jsonl"

# Numbers of one answer beside the expected one.
_OF_ONE_ANSWER: Mapping[str, Callable[[str, str], float]] = {
    "label": label_match,
    "number": number_match,
    "json": lambda answer, _reference: float(json_value(answer) is not None),
    "fields": field_match,
    "exact": exact_match,
    "f1": token_f1,
    "chrf": chrf,
    "abstention": abstention,
}


@dataclass(frozen=True)
class Scoring:
    """What is measured and why; ``pattern`` and ``checks`` are what answers may obey, ``meaning`` tells how near texts are."""

    reasons: tuple[Reason, ...]
    pattern: str | None = None
    checks: tuple[Check, ...] = ()
    meaning: Meaning | None = None

    def measures(self, metric: str) -> bool:
        return any(reason.metric == metric for reason in self.reasons)


@dataclass(frozen=True)
class Kinds:
    """The kind of each held-out conversation, and of each question; empty where they are not told apart."""

    held_out: Sequence[str] = ()
    questions: Sequence[str] = ()


EVERY = Kinds()
NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Performance:
    """What a contender did: an answer to each question, which it was ``asked`` so; for each held-out conversation the summed
    loss of its trained tokens, and their number. ``losses`` is None where a server does not tell them.
    """

    contender: str
    answers: list[Answer]
    losses: list[tuple[float, int]] | None
    asked: Sequence[Asked]


@dataclass(frozen=True)
class Measured:
    """One contender in one metric: the loss in nats a token, everything else a share from 0 to 1. ``kind`` is ``""`` over all."""

    metric: str
    contender: str
    interval: Interval
    kind: str = ""


@dataclass(frozen=True)
class Difference:
    """``contender`` minus ``against``, example by example, and what it allows to say about the contender.

    The interval is as wide as all pairs of contenders together want it (``pairs_of``).
    """

    metric: str
    contender: str
    against: str
    interval: Interval
    verdict: Verdict
    kind: str = ""


@dataclass(frozen=True)
class Typical:
    """Medians over a contender's answers: tokens of its prompts; of its answers tokens (the end token included), characters, and
    seconds as one of a batch. ``mean_seconds`` is the mean.
    """

    contender: str
    prompt_tokens: float
    tokens: float
    characters: float
    seconds: float
    mean_seconds: float


@dataclass(frozen=True)
class RuleKept:
    """A rule of form, and the share of each contender's answers that obey it."""

    rule: Mapping[str, Any]
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """``held_out`` conversations gave the loss, with ``trained_tokens`` tokens in all; ``examples`` of them were answered.

    ``undecided`` answers are counted as not obeying the pattern, or a rule, which took too long on them. ``kinds``: how many
    questions are of each kind. ``left_out``: contenders that did not finish, each with its reason in a sentence.
    ``judgement``: what the recipe's judge says.
    """

    held_out: int
    trained_tokens: int
    examples: int
    resamples: int
    pattern: str | None
    undecided: int
    contenders: tuple[str, ...]
    reasons: tuple[Reason, ...]
    kinds: Mapping[str, int]
    rules: tuple[RuleKept, ...]
    measured: tuple[Measured, ...]
    differences: tuple[Difference, ...]
    typical: tuple[Typical, ...]
    expected_characters: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    judgement: Judgement | None = None

    def interval(self, metric: str, contender: str, kind: str = "") -> Interval:
        """The contender's number; KeyError where it was not measured (the loss of a server's model)."""
        found = self.intervals(metric, kind)
        return found[contender]

    def intervals(self, metric: str, kind: str = "") -> dict[str, Interval]:
        """The numbers of those contenders of which there is one."""
        return {cell.contender: cell.interval for cell in self.measured if (cell.metric, cell.kind) == (metric, kind)}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Those of which there is a number."""
        told = {cell.metric for cell in self.measured}
        return tuple(metric for metric in every_metric() if metric.name in told)


@dataclass(frozen=True)
class Scored:
    """An answer, what was asked, and its number in each metric of answers; ``undecided`` where a pattern took too long.

    ``broken``: places of the rules of form that it does not obey.
    """

    contender: str
    answer: Answer
    asked: Asked
    scores: dict[str, float]
    undecided: bool
    broken: tuple[int, ...] = ()


def title(contender: str) -> str:
    """A contender's name for the user; that of a model elsewhere is its own."""
    return {
        "prompt": _("base"),
        "prompt+": _("base + instruction"),
        "few_shot": _("few-shot"),
        "rag": _("RAG"),
        "tuned": _("tuned"),
        "tuned+rag": _("tuned + RAG"),
        "pilot": _("pilot (a short training)"),
        "pilot+rag": _("pilot + RAG"),
    }.get(contender, contender)


def in_a_row(values: Mapping[str, str]) -> str:
    """``3.21 → 0.84`` of two contenders; ``base 3.21, few-shot 2.90, tuned 0.84`` of more."""
    if len(values) <= 2:
        return " → ".join(values.values())
    return ", ".join(f"{title(name)} {value}" for name, value in values.items())


def choose_questions(conversations: Sequence[Conversation], most: int, seed: int) -> list[Conversation]:
    """At most ``most`` of the held-out conversations, drawn by ``seed``, in their own order."""
    drawn = random.Random(seed).sample(range(len(conversations)), min(most, len(conversations)))
    return [conversations[place] for place in sorted(drawn)]


def score_answers(performances: Sequence[Performance], questions: Sequence[Conversation], scoring: Scoring) -> list[list[Scored]]:
    """For each contender, each answer's scores. Raises as ``embedder`` does where how near they are in meaning is asked for."""
    texts = [answer.text for performance in performances for answer in performance.answers]
    near: Sequence[float] = ()
    if scoring.meaning is not None and scoring.measures("similarity"):
        near = scoring.meaning.similarities(texts, [question.answer for question in questions] * len(performances))
    kept: list[Sequence[bool | None]] = [obeyed(check, texts) for check in scoring.checks]
    styled = obeys(scoring.pattern, texts) if scoring.pattern is not None else None
    scored: list[list[Scored]] = []
    place = 0
    for performance in performances:
        scored.append([])
        for answer, asked, question in zip(performance.answers, performance.asked, questions, strict=True):
            verdicts = [of_all[place] for of_all in kept]
            scores = _of_one(answer, question.answer, scoring)
            if styled is not None:
                scores["pattern"] = float(styled[place] is True)
            if verdicts:
                scores["checks"] = float(all(verdicts))
            if near:
                scores["similarity"] = near[place]
            undecided = None in verdicts or (styled is not None and styled[place] is None)
            broken = tuple(number for number, obeys_it in enumerate(verdicts) if not obeys_it)
            scored[-1].append(Scored(performance.contender, answer, asked, scores, undecided, broken))
            place += 1
    return scored


def _of_one(answer: Answer, reference: str, scoring: Scoring) -> dict[str, float]:
    """The numbers of an answer alone; whether it is the expected one and whether it ended are always told."""
    wanted = {reason.metric for reason in scoring.reasons} | {"exact"}
    scores = {name: measure(answer.text, reference) for name, measure in _OF_ONE_ANSWER.items() if name in wanted}
    return {**scores, "ended": float(answer.finish == "stop")}


def compare_performances(
    performances: Sequence[Performance],
    scored: Sequence[Sequence[Scored]],
    questions: Sequence[Conversation],
    *,
    scoring: Scoring,
    resamples: int,
    seed: int,
    kinds: Kinds = EVERY,
    left_out: Mapping[str, str] = NOTHING,
    judgement: Judgement | None = None,
) -> Comparison:
    """The comparison; the first contender is the one that the others are compared with."""
    samples = [_Sample(performance, answers, questions) for performance, answers in zip(performances, scored, strict=True)]
    tokens = next((performance.losses for performance in performances if performance.losses is not None), [])
    counted = Counter(kinds.questions)
    measured: list[Measured] = []
    differences: list[Difference] = []
    for kind in ("", *(counted if len(counted) > 1 else ())):
        chosen = [_of_kind(sample, kind, kinds) for sample in samples]
        for reason in scoring.reasons:
            metric = metric_of(reason.metric)
            cells, gaps = _measure(metric, chosen, kind, resamples, seed)
            measured += cells
            differences += gaps
    if judgement is not None and not judgement.left_out:
        measured += [Measured("judge", name, tally.points) for name, tally in judgement.tallies.items()]
        pairs = pairs_of(len(samples))
        differences += [_judged(name, tally, judgement.against, pairs) for name, tally in judgement.tallies.items()]
    return Comparison(
        held_out=len(tokens) or len(questions),
        trained_tokens=sum(count for _total, count in tokens),
        examples=len(questions),
        resamples=resamples,
        pattern=scoring.pattern,
        undecided=sum(answer.undecided for answers in scored for answer in answers),
        contenders=tuple(performance.contender for performance in performances),
        reasons=scoring.reasons,
        kinds=dict(counted),
        rules=_rules_kept(scoring.checks, scored),
        measured=tuple(measured),
        differences=tuple(differences),
        typical=tuple(_typical(performance) for performance in performances),
        expected_characters=median(len(question.answer) for question in questions),
        left_out=dict(left_out),
        judgement=judgement,
    )


def pairs_of(contenders: int) -> int:
    """How many pairs there are of so many. Any of them may differ by luck: intervals are widened for all."""
    return contenders * (contenders - 1) // 2


def _judged(contender: str, tally: Tally, against: str, pairs: int) -> Difference:
    """Half of the points each is no difference."""
    low, value, high = (end - 0.5 for end in (tally.points.low, tally.points.value, tally.points.high))
    gap = stretched(Interval(value, low, high), pairs, within=(-0.5, 0.5))
    return Difference("judge", contender, against, gap, verdict(gap, "higher"))


class _Sample:
    """What is measured of one contender: over the ``places`` of the questions and over the held-out conversations ``talks``."""

    def __init__(self, performance: Performance, scored: Sequence[Scored], questions: Sequence[Conversation]) -> None:
        self.contender = performance.contender
        self.losses = performance.losses
        self.scored = list(scored)
        self.expected = [question.answer for question in questions]

    def values(self, metric: str) -> list[float] | None:
        """A number for each example; None where there is none."""
        if metric == "loss":
            return None if not self.losses else [total for total, _count in self.losses]
        return [answer.scores[metric] for answer in self.scored] or None

    @property
    def texts(self) -> list[str]:
        return [answer.answer.text for answer in self.scored]


def _of_kind(sample: _Sample, kind: str, kinds: Kinds) -> _Sample:
    """The sample without the examples of other kinds."""
    if not kind:
        return sample
    part = copy(sample)
    part.scored = [one for one, its in zip(sample.scored, kinds.questions, strict=True) if its == kind]
    part.expected = [one for one, its in zip(sample.expected, kinds.questions, strict=True) if its == kind]
    if sample.losses is not None:
        part.losses = [one for one, its in zip(sample.losses, kinds.held_out, strict=True) if its == kind]
    return part


def _measure(
    metric: Metric, samples: Sequence[_Sample], kind: str, resamples: int, seed: int
) -> tuple[list[Measured], list[Difference]]:
    """Each contender in the metric, and the differences from the first one, where it has a number too."""
    measured, differences = [], []
    first = samples[0]
    for place, sample in enumerate(samples):
        interval = _interval_of(metric, sample, resamples, seed)
        if interval is None:
            continue
        measured.append(Measured(metric.name, sample.contender, interval, kind))
        gap = _gap(metric, sample, first, resamples, seed) if place else None
        if gap is not None:
            gap = stretched(gap, pairs_of(len(samples)), within=(-math.inf, math.inf) if metric.name == "loss" else (-1, 1))
            said = verdict(gap, metric.direction)
            differences.append(Difference(metric.name, sample.contender, first.contender, gap, said, kind))
    return measured, differences


def _interval_of(metric: Metric, sample: _Sample, resamples: int, seed: int) -> Interval | None:
    if metric.name == "macro_f1":
        return macro_f1_interval(sample.expected, sample.texts, resamples=resamples, seed=seed) if sample.scored else None
    values = sample.values(metric.name)
    if values is None:
        return None
    if metric.binary:
        return proportion_interval(values)
    within = (0.0, math.inf) if metric.name == "loss" else (0.0, 1.0)
    return mean_interval(values, _weights(metric, sample), resamples=resamples, seed=seed, within=within)


def _gap(metric: Metric, sample: _Sample, first: _Sample, resamples: int, seed: int) -> Interval | None:
    if metric.name == "macro_f1":
        return macro_f1_difference(sample.expected, sample.texts, first.texts, resamples=resamples, seed=seed)
    ours, theirs = sample.values(metric.name), first.values(metric.name)
    if ours is None or theirs is None:
        return None
    if metric.binary:
        return proportion_difference(ours, theirs)
    gaps = [one - other for one, other in zip(ours, theirs, strict=True)]
    return mean_interval(gaps, _weights(metric, sample), resamples=resamples, seed=seed)


def _weights(metric: Metric, sample: _Sample) -> list[int] | None:
    return [count for _total, count in sample.losses or ()] if metric.name == "loss" else None


def _rules_kept(checks: Sequence[Check], scored: Sequence[Sequence[Scored]]) -> tuple[RuleKept, ...]:
    return tuple(
        RuleKept(
            json.loads(check.model_dump_json()),
            {answers[0].contender: sum(number not in one.broken for one in answers) / len(answers) for answers in scored},
        )
        for number, check in enumerate(checks)
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
        tokens=median(answer.tokens for answer in answers),
        characters=median(len(answer.text) for answer in answers),
        seconds=median(answer.seconds for answer in answers),
        mean_seconds=fmean(answer.seconds for answer in answers),
    )


def save_comparison(
    folder: Path,
    comparison: Comparison,
    questions: Sequence[Conversation],
    scored: Sequence[Sequence[Scored]],
    kinds: Sequence[str] = (),
) -> list[Path]:
    """Writes ``result.json`` and ``answers.jsonl`` into ``folder``; returns both."""
    answers = save_answers(folder, questions, scored, kinds)
    tree = asdict(comparison)
    for cell in (*tree["measured"], *tree["differences"]):
        cell["interval"] = _ends(cell["interval"])
    if tree["judgement"]:
        judged = tree["judgement"]
        judged["agreement"] = judged["agreement"] and _ends(judged["agreement"])
        for tally in judged["tallies"].values():
            tally["points"] = _ends(tally["points"])
    write_json(folder / RESULT, tree)
    return [folder / RESULT, answers]


def save_answers(
    folder: Path, questions: Sequence[Conversation], scored: Sequence[Sequence[Scored]], kinds: Sequence[str] = ()
) -> Path:
    """Writes ``answers.jsonl``, a line for each question with its kind, into ``folder``."""
    lines = [
        {
            "source": str(question.source),
            "kind": kinds[place] if kinds else "",
            "prompt": [asdict(message) for message in question.prompt],
            "expected": question.answer,
            "answers": {answers[place].contender: _answer_record(answers[place], question) for answers in scored},
        }
        for place, question in enumerate(questions)
    ]
    write_atomic(folder / ANSWERS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return folder / ANSWERS


def _answer_record(scored: Scored, question: Conversation) -> dict[str, Any]:
    """The answer; where something stood before the question, also what it was and the whole prompt."""
    answer, asked = scored.answer, scored.asked
    record: dict[str, Any] = {
        "text": answer.text,
        "finish": answer.finish,
        "prompt_tokens": asked.prompt_tokens,
        "tokens": answer.tokens,
        "seconds": round(answer.seconds, 4),
        "scores": {name: round(score, 6) for name, score in scored.scores.items()},
    }
    if scored.broken:
        record["broken"] = list(scored.broken)
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
            "reasons": tuple(Reason(**reason) for reason in tree["reasons"]),
            "rules": tuple(RuleKept(**rule) for rule in tree["rules"]),
            "measured": tuple(Measured(**{**cell, "interval": _interval(cell["interval"])}) for cell in tree["measured"]),
            "differences": tuple(Difference(**{**cell, "interval": _interval(cell["interval"])}) for cell in tree["differences"]),
            "judgement": _judgement(tree["judgement"]),
            "typical": tuple(Typical(**medians) for medians in tree["typical"]),
        }
    )


def _ends(interval: Mapping[str, float]) -> dict[str, float | None]:
    return {end: number if math.isfinite(number) else None for end, number in interval.items()}


def _judgement(tree: Mapping[str, Any] | None) -> Judgement | None:
    if tree is None:
        return None
    tallies = {name: Tally(**{**tally, "points": _interval(tally["points"])}) for name, tally in tree["tallies"].items()}
    agreement = _interval(tree["agreement"]) if tree["agreement"] else None
    return Judgement(**{**tree, "tallies": tallies, "agreement": agreement})


def _interval(ends: Mapping[str, float | None]) -> Interval:
    """An end that was infinite, which JSON cannot say, was written as null."""
    value, low, high = ends["value"], ends["low"], ends["high"]
    assert value is not None
    return Interval(value, -math.inf if low is None else low, math.inf if high is None else high)
