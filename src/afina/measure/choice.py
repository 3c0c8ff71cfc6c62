"""Which metrics fit the answers, each with its reason: a label is right or wrong, a number too, a text may be near."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from afina.core.translation import _
from afina.measure.abstention import says_so
from afina.measure.fields import json_value
from afina.measure.labels import distinct_labels
from afina.measure.metrics import every_metric
from afina.measure.numbers import MARK, final_number

MOSTLY = 0.8  # share of the answers from which on they are JSON, or end in a number
FEW_WORDS = 20  # up to so many, an answer may well be the expected one word by word
_SAID = 0.02  # share of the answers that say that they do not know, from which on it is measured


@dataclass(frozen=True)
class Reason:
    """Why a metric is measured: a ``rule`` of ``_TEXTS``, and the ``values`` that its sentence needs."""

    metric: str
    rule: str
    values: Mapping[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """In the user's language."""
        return _texts()[self.rule].format(**self.values)


def _texts() -> dict[str, str]:
    return {
        "always": _("it shows small differences, even where no answer is right yet"),
        "ended": _("an answer that does not end is of little use"),
        "pattern": _("the recipe has compare.pattern"),
        "checks": _("{count} rules, from compare.checks"),
        "learned": _("{count} rules, learned from the training answers"),
        "named": _("compare.metrics names it"),
        "labels": _("the answers are {count} labels that come again and again"),
        "json": _("{count} of {all} answers are JSON"),
        "numbers": _("{count} of {all} answers end in a number"),
        "short": _("half of the answers have no more than {words} words"),
        "meaning": _("compare.embeddings names a model"),
        "apart": _(
            "by the model of compare.embeddings, expected answers to different questions come to {apart} %: read it from there"
        ),
        "text": _("the answers are texts, half of them with more than {words} words"),
        "said": _("{count} of {all} expected answers say that it is not there"),
    }


def choose_metrics(
    answers: Sequence[str],
    expected: Sequence[str],
    *,
    named: Sequence[str] = (),
    with_pattern: bool = False,
    checks: int = 0,
    learned: bool = False,
    with_embeddings: bool = False,
) -> tuple[Reason, ...]:
    """The metrics, in the order of ``every_metric``, each once.

    ``answers``: of the training side, which say what answers are like; ``expected``: those of the questions that are asked.
    ``named``: the metrics of the recipe, in the place of those that fit. ``with_embeddings``: there is a model that tells how
    near texts are in meaning.
    """
    found = [Reason(name, "named") for name in named] or [Reason("loss", "always"), *_fitting(answers), *_said(expected)]
    if with_pattern:
        found.append(Reason("pattern", "pattern"))
    if checks:
        found.append(Reason("checks", "learned" if learned else "checks", {"count": checks}))
    if not named:
        found.append(Reason("ended", "ended"))
        if with_embeddings and any(reason.metric == "f1" for reason in found):
            found.append(Reason("similarity", "meaning"))
    order = [metric.name for metric in every_metric()]
    return tuple(sorted(found, key=lambda reason: order.index(reason.metric)))


def _fitting(answers: Sequence[str]) -> list[Reason]:
    """What fits the form of the answers."""
    if count := distinct_labels(answers):
        return [Reason(name, "labels", {"count": count}) for name in ("label", "macro_f1")]
    json_count = sum(json_value(answer) is not None for answer in answers)
    if json_count >= MOSTLY * len(answers):
        return [Reason(name, "json", {"count": json_count, "all": len(answers)}) for name in ("json", "fields")]
    words = int(statistics.median(len(answer.split()) for answer in answers))
    near = [Reason("exact", "short", {"words": words})] if words <= FEW_WORDS else []
    near += [Reason(name, "short" if words <= FEW_WORDS else "text", {"words": words}) for name in ("f1", "chrf")]
    numbers = sum(map(ends_in_number, answers))
    if numbers >= MOSTLY * len(answers):
        return [Reason("number", "numbers", {"count": numbers, "all": len(answers)}), *near]
    return near


def _said(expected: Sequence[str]) -> list[Reason]:
    count = sum(map(says_so, expected))
    return [Reason("abstention", "said", {"count": count, "all": len(expected)})] if count > _SAID * len(expected) else []


def ends_in_number(answer: str) -> bool:
    """Whether the last word of an answer is a number, or one stands behind ``####``."""
    if MARK in answer:
        return bool(final_number(answer.rpartition(MARK)[2]))
    return bool(final_number((answer.split() or [""])[-1]))


def main_metric(metrics: Sequence[str]) -> str:
    """The one that says most about the answers: what a sentence or a picture shows, where it can show one."""
    order = ("pattern", "label", "number", "fields", "f1", "exact", "chrf", "similarity", "checks")
    return next((name for name in order if name in metrics), metrics[0])
