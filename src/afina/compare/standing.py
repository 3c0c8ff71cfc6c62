"""Who is ahead in the comparison's main measure, and how many examples would show what these do not.

The best value alone says nothing: two contenders are put in an order only where the interval of their paired difference leaves
out zero. Of several contenders one is always the luckiest: the intervals are widened for as many pairs as there are. Where an
order is not shown, it is said how many examples of the same kind would show a difference as large as the measured one in
80 of 100 comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from afina.compare.comparison import Scored, pairs_of, title
from afina.core.files import read_json, write_json
from afina.core.translation import _
from afina.core.units import Displayed, format_count, grouped
from afina.measure.intervals import MOST_NEEDED, POWER, Interval, difference_interval, examples_needed, stretched
from afina.measure.metrics import Metric, metric_of

FILE = "standing.json"


@dataclass(frozen=True)
class Open:
    """``contender``, whose difference from the best is not shown: ``gap`` points, ``needed`` examples; None where no number of
    them would do, for there is hardly a difference.
    """

    contender: str
    gap: float
    needed: int | None


@dataclass(frozen=True)
class Standing:
    """In one metric, on ``examples``: the contender with the ``best`` value, those that it is shown to beat, and the others."""

    metric: str
    examples: int
    best: str
    behind: tuple[str, ...]
    undecided: tuple[Open, ...]


def scores_of(scored: Sequence[Sequence[Scored]], metric: str) -> dict[str, list[float]]:
    """Each contender's scores in one metric."""
    return {answers[0].contender: [answer.scores[metric] for answer in answers] for answers in scored}


def stand(scores: Mapping[str, Sequence[float]], metric: Metric, *, resamples: int, seed: int) -> Standing:
    """The standing of contenders with these ``scores``, one an example, in the same order for all."""
    sign = 1 if metric.direction == "higher" else -1
    best = max(scores, key=lambda name: sign * float(np.mean(scores[name])))  # of equal ones the first
    pairs = pairs_of(len(scores))
    behind, undecided = [], []
    for name, theirs in scores.items():
        if name == best:
            continue
        interval = difference_interval(scores[best], theirs, binary=metric.binary, resamples=resamples, seed=seed)
        if _is_shown(stretched(interval, pairs)):
            behind.append(name)
        else:
            needed = examples_needed(np.subtract(scores[best], theirs), comparisons=pairs)
            undecided.append(Open(name, abs(interval.value), needed))
    return Standing(metric.name, len(scores[best]), best, tuple(behind), tuple(undecided))


def _is_shown(interval: Interval) -> bool:
    return not interval.low <= 0 <= interval.high


def words(standing: Standing) -> str:
    """The standing in a sentence or two."""
    metric = metric_of(standing.metric)
    told = []
    if standing.behind:
        names = ", ".join(map(title, standing.behind))
        told.append(
            _("{metric}: {best} is ahead of {others}").format(metric=metric.title, best=title(standing.best), others=names)
        )
    alike: dict[tuple[str, int | None], list[Open]] = {}  # those of whom the same is to be said
    for other in standing.undecided:
        alike.setdefault((f"{100 * other.gap:.1f}", other.needed), []).append(other)
    return "; ".join([*told, *(_open_words(standing, others, metric) for others in alike.values())])


def _open_words(standing: Standing, others: Sequence[Open], metric: Metric) -> str:
    other, names = others[0], ", ".join(title(one.contender) for one in others)
    between = _("{metric}: between {best} and {other} no difference is shown by {count} examples").format(
        metric=metric.title, best=title(standing.best), other=names, count=grouped(standing.examples)
    )
    if other.needed is None:
        return between + _(", and more than {most} would be needed if it is as small as it looks").format(
            most=format_count(MOST_NEEDED)
        )
    return between + _("; about {needed} would be needed for one of {gap:.1f} points, to see it {power:.0f} times in 100").format(
        needed=format_count(other.needed), gap=Displayed(100 * other.gap), power=100 * POWER
    )


def save_standing(folder: Path, standing: Standing) -> Path:
    write_json(folder / FILE, asdict(standing))
    return folder / FILE


def load_standing(folder: Path) -> Standing | None:
    """The standing that ``save_standing`` wrote; None where one contender stood alone."""
    if not (folder / FILE).is_file():
        return None
    tree = read_json(folder / FILE)
    return Standing(**{**tree, "behind": tuple(tree["behind"]), "undecided": tuple(Open(**one) for one in tree["undecided"])})
