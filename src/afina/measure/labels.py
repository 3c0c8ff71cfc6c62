"""Answers that are labels: which label an answer is, how many are right, and the mean of the labels' F1, with its interval."""

from __future__ import annotations

import statistics
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from afina.measure.intervals import Interval

REPEATED = 10  # answers for each different one, from which on they are labels,
LABEL_WORDS = 6  # where half of them have no more words than this
_SIGNS = " \t\n\r.,;:!?¡¿\"'«»“”‘’`*()[]…"
_BLOCK = 2_000_000  # numbers of resampled rows held at once

Floats = npt.NDArray[np.float64]


def label(answer: str) -> str:
    """The answer without case, outer signs and double blanks: ``"Refund."`` is ``refund``."""
    return " ".join(unicodedata.normalize("NFC", answer).casefold().strip(_SIGNS).split())


def label_match(answer: str, reference: str) -> float:
    return float(label(answer) == label(reference))


def distinct_labels(answers: Sequence[str]) -> int:
    """How many labels the answers are; 0 where they are no labels: too many different ones, too long, or one alone."""
    found = {label(answer) for answer in answers}
    if len(found) < 2 or len(found) * REPEATED > len(answers):
        return 0
    median = statistics.median(len(answer.split()) for answer in answers)
    return len(found) if median <= LABEL_WORDS else 0


def macro_f1(expected: Sequence[str], given: Sequence[str]) -> float:
    """Mean over the expected labels of each one's F1, every label counting the same; an answer that is no label is a miss."""
    return float(_scores(_Counted(expected, given), np.ones((1, len(expected))))[0])


def macro_f1_interval(expected: Sequence[str], given: Sequence[str], *, resamples: int, seed: int) -> Interval:
    """``macro_f1`` with its percentile bootstrap interval over examples."""
    counted = _Counted(expected, given)
    scores = _resampled([counted], resamples, seed)[0]
    return _interval(macro_f1(expected, given), scores, len(expected))


def macro_f1_difference(
    expected: Sequence[str], ours: Sequence[str], theirs: Sequence[str], *, resamples: int, seed: int
) -> Interval:
    """``macro_f1`` of ours less theirs, both on the same resampled examples."""
    first, second = _resampled([_Counted(expected, ours), _Counted(expected, theirs)], resamples, seed)
    return _interval(macro_f1(expected, ours) - macro_f1(expected, theirs), first - second, len(expected))


class _Counted:
    """For each example and expected label, 1 where the label is expected, given, and both; each (N, labels)."""

    def __init__(self, expected: Sequence[str], given: Sequence[str]) -> None:
        wanted, said = [label(one) for one in expected], [label(one) for one in given]
        names = np.array(list(Counter(wanted)))
        self.expected = (np.array(wanted)[:, None] == names).astype(np.float64)
        self.given = (np.array(said)[:, None] == names).astype(np.float64)
        self.both = self.expected * self.given


def _scores(counted: _Counted, weights: Floats) -> Floats:
    """The macro F1 for each row of ``weights`` (R, N), how often each example counts. A label that is absent is left out."""
    total = weights @ (counted.expected + counted.given)  # (R, labels)
    shares = np.divide(2 * (weights @ counted.both), total, out=np.zeros_like(total), where=total > 0)
    present = weights @ counted.expected > 0
    means: Floats = (shares * present).sum(axis=1) / present.sum(axis=1)
    return means


def _resampled(sides: Sequence[_Counted], resamples: int, seed: int) -> list[Floats]:
    """Each side's macro F1 on the same examples drawn with replacement, (resamples,)."""
    random = np.random.default_rng(seed)
    count = len(sides[0].expected)
    step = max(1, _BLOCK // count)
    found: list[list[Floats]] = [[] for _side in sides]
    for done in range(0, resamples, step):
        rows = min(step, resamples - done)
        weights = random.multinomial(count, np.full(count, 1 / count), size=rows).astype(np.float64)
        for kept, side in zip(found, sides, strict=True):
            kept.append(_scores(side, weights))
    return [np.concatenate(kept) for kept in found]


def _interval(value: float, scores: Floats, count: int) -> Interval:
    if count == 1:
        return Interval(value, -np.inf, np.inf)
    low, high = np.quantile(scores, [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value))
