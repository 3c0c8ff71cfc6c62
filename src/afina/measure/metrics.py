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
    direction: Literal["higher", "lower"]
    binary: bool = False


def metrics(*, with_pattern: bool) -> tuple[Metric, ...]:
    """Every metric of a comparison in the order in which it is shown, in the user's language."""
    loss = Metric(
        name="loss",
        title=_("held-out loss"),
        explanation=_("how surprised the model is by expected answers it never saw, in nats a token"),
        direction="lower",
    )
    pattern = Metric(
        name="pattern",
        title=_("style obeyed"),
        explanation=_("share of the answers that match the recipe's compare.pattern from first to last character"),
        direction="higher",
        binary=True,
    )
    exact = Metric(
        name="exact",
        title=_("exact match"),
        explanation=_("share of the answers that equal the expected one, outer white space apart"),
        direction="higher",
        binary=True,
    )
    f1 = Metric(
        name="f1",
        title=_("word F1"),
        explanation=_("words that the answer shares with the expected one, in any order"),
        direction="higher",
    )
    pieces = Metric(
        name="chrf",
        title=_("chrF"),
        explanation=_("runs of up to six characters that both share; forgiving of endings and spelling"),
        direction="higher",
    )
    ended = Metric(
        name="ended",
        title=_("ended by itself"),
        explanation=_("share of the answers that the model ended before compare.max_new_tokens"),
        direction="higher",
        binary=True,
    )
    return (loss, *([pattern] if with_pattern else []), exact, f1, pieces, ended)


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
