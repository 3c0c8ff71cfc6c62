"""How good one answer is: numbers from 0 to 1 for an answer beside the expected one, and the words that explain them."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from afina.core.translation import _

CHRF_ORDER = 6
CHRF_BETA = 2

# Scripts written without spaces (kana, Han): each character counts as a word.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


@dataclass(frozen=True)
class Metric:
    """What a number means. ``binary`` metrics are 0 or 1 for each example; their mean is a proportion."""

    name: str
    title: str
    explanation: str
    direction: Literal["higher", "lower"] = "higher"
    binary: bool = False


def metric_of(name: str) -> Metric:
    """The metric of a name, in the user's language."""
    return next(metric for metric in every_metric() if metric.name == name)


def every_metric() -> tuple[Metric, ...]:
    """Every metric of a comparison, in the order in which they are shown."""
    return (
        Metric(
            "loss",
            _("held-out loss"),
            _("how surprised the model is by expected answers it never saw, in nats a token"),
            direction="lower",
        ),
        Metric(
            "pattern",
            _("style obeyed"),
            _("share of the answers that match the recipe's compare.pattern from first to last character"),
            binary=True,
        ),
        Metric("checks", _("form obeyed"), _("share of the answers that obey every rule of form"), binary=True),
        Metric(
            "judge",
            _("the judge's points"),
            _("a judge's verdicts against the first contender, in both orders: a win is 1, a tie ½, a loss 0"),
        ),
        Metric("label", _("right label"), _("share of the answers that are the expected label (accuracy)"), binary=True),
        Metric("macro_f1", _("macro F1"), _("F1 of each label, and their mean: seldom labels count as much as frequent ones")),
        Metric("number", _("right number"), _("share of the answers that come to the expected number"), binary=True),
        Metric("json", _("valid JSON"), _("share of the answers that are one JSON object or list and nothing else"), binary=True),
        Metric(
            "fields", _("equal fields"), _("JSON fields that are as expected, of those that the answer or the expected one has")
        ),
        Metric(
            "exact",
            _("exact match"),
            _("share of the answers that equal the expected one, outer white space apart"),
            binary=True,
        ),
        Metric("f1", _("word F1"), _("words that the answer shares with the expected one, in any order")),
        Metric("chrf", _("chrF"), _("runs of up to six characters that both share; forgiving of endings and spelling")),
        Metric(
            "similarity",
            _("similarity"),
            _("how near the answer is to the expected one in meaning, whatever its words: the cosine of their vectors"),
        ),
        Metric(
            "abstention",
            _("says so"),
            _("share of the answers that say “it is not there” where the expected answer does, and nowhere else"),
            binary=True,
        ),
        Metric(
            "ended",
            _("ended by itself"),
            _("share of the answers that the model ended before compare.max_new_tokens"),
            binary=True,
        ),
    )


def exact_match(answer: str, reference: str) -> float:
    """1.0 where both are equal after trimming outer white space."""
    return float(answer.strip() == reference.strip())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over the words of both as multisets, whatever their case.

    SQuAD's F1 for any language: no articles are dropped. Where neither has a word (``"!"``, ``"👍"``) it is the exact match.
    """
    given, wanted = Counter(words(answer)), Counter(words(reference))
    if not given and not wanted:
        return exact_match(answer, reference)
    return 2 * (given & wanted).total() / (given.total() + wanted.total())


def words(text: str) -> list[str]:
    """The words of a text: case-folded runs of letters, digits and ``_`` after Unicode's NFC."""
    return _WORD.findall(unicodedata.normalize("NFC", text).casefold())


def chrf(answer: str, reference: str) -> float:
    """Sentence-level chrF2 (Popović 2015) with sacrebleu's defaults: characters up to order 6, no words, white space left out.

    Precision and recall are averaged over the orders that both texts are long enough for.
    """
    given, wanted = "".join(answer.split()), "".join(reference.split())
    orders = range(1, min(CHRF_ORDER, len(given), len(wanted)) + 1)
    if not orders:
        return 0.0
    precision = recall = 0.0
    for order in orders:
        ours, theirs = _pieces(given, order), _pieces(wanted, order)
        shared = (ours & theirs).total()
        precision += shared / ours.total() / len(orders)
        recall += shared / theirs.total() / len(orders)
    weighted = CHRF_BETA**2 * precision + recall
    return (1 + CHRF_BETA**2) * precision * recall / weighted if weighted else 0.0


def _pieces(text: str, length: int) -> Counter[str]:
    return Counter(text[start : start + length] for start in range(len(text) - length + 1))
