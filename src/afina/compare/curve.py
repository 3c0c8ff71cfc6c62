"""Would more examples help? What small trainings on parts of the examples say, overall and by kind of question.

    12 %  25 %  50 %  100 % of the training examples, each with a few seeds
      │     │     │     │      every part lies inside the next larger one
      └──▶ held-out loss ◀──┘  ──▶  a · n^-b + c  ──▶  what the next 100 examples are worth, with its interval

Three answers are possible: the next examples help, they bring next to nothing, or the measurements cannot tell.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from afina.core.files import read_json, write_json
from afina.measure.chance import holm
from afina.measure.intervals import Interval
from afina.measure.power_law import FEWEST_SIZES, Floats, Measurements, chance_of_slope, fit, gain_of, resampled

RESULT = "result.json"
SHARES = (0.12, 0.25, 0.5, 1.0)
MORE = 100  # examples whose worth is asked for
NEXT_TO_NOTHING = 0.01  # of the loss: less than this is not worth writing examples for
FEWEST_HELD_OUT = 8  # of a kind of question, to say anything about it

Answer = Literal["helps", "little", "harms", "unknown"]


@dataclass(frozen=True)
class Trained:
    """One small training: its ``share`` of the examples, how many those are, its ``seed``; the loss summed over the trained
    tokens of each held-out example, and the main metric's ``scores`` of the questions that were answered.
    """

    share: float
    examples: int
    seed: int
    totals: tuple[float, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Size:
    """One part of the examples: the mean loss over its seeds with its interval, that of each seed, and the metric's mean."""

    share: float
    examples: int
    loss: Interval
    losses: tuple[float, ...]
    score: float


@dataclass(frozen=True)
class Worth:
    """What ``MORE`` examples would take off the held-out loss; ``loss`` is that with all examples. ``why``: of an unknown."""

    answer: Answer
    gain: Interval | None
    loss: float
    why: Literal["", "sizes", "held-out", "noise", "kinds", "seed"] = ""


@dataclass(frozen=True)
class KindCurve:
    """A kind of question by its typical ``words``: training examples, held-out ones, and what more examples of it are worth."""

    words: tuple[str, ...]
    examples: int
    held_out: int
    worth: Worth

    @property
    def is_short(self) -> bool:
        return self.worth.answer == "helps"


@dataclass(frozen=True)
class Band:
    """The fitted law for the chart: sizes, its losses there, and between which they lie in 95 of 100 resamples."""

    sizes: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class LearningCurve:
    """``base``: the loss and the metric before any training. ``steps``: of each small training."""

    metric: str
    base_loss: float
    base_score: float
    held_out: int
    questions: int
    steps: int
    seeds: int
    sizes: tuple[Size, ...]
    law: tuple[float, float, float]  # a, b, c
    band: Band | None
    worth: Worth
    kinds: tuple[KindCurve, ...] = field(default=())

    @property
    def short(self) -> tuple[KindCurve, ...]:
        """The kinds of question that more examples are shown to help, the most helped first."""
        helped = [kind for kind in self.kinds if kind.is_short]
        return tuple(sorted(helped, key=lambda kind: -_value(kind.worth.gain)))


@dataclass(frozen=True)
class KindOfRows:
    """A kind of question: its ``words``, how many training examples it has, and the places of its held-out ones."""

    words: tuple[str, ...]
    train: int
    held_out: tuple[int, ...]


def nested(count: int, seed: int, shares: Sequence[float] = SHARES) -> list[list[int]]:
    """Places of ``count`` examples for each share, each list inside the next; the order is drawn by ``seed``."""
    order = random.Random(f"curve/{seed}").sample(range(count), count)
    return [sorted(order[: max(1, round(share * count))]) for share in shares]


def learning_curve(
    trained: Sequence[Trained],
    base: Trained,
    weights: Sequence[int],
    metric: str,
    steps: int,
    *,
    kinds: Sequence[KindOfRows] = (),
    resamples: int,
    seed: int,
) -> LearningCurve:
    """What the trainings show. ``weights``: the trained tokens of each held-out example, in the order of ``Trained.totals``."""
    tokens = np.asarray(weights, dtype=np.float64)
    measured = _measurements(trained, tokens)
    losses = resampled(measured, resamples, seed)
    law = fit(measured.sizes, measured.means().mean(axis=1))
    return LearningCurve(
        metric=metric,
        base_loss=sum(base.totals) / float(tokens.sum()),
        base_score=float(np.mean(base.scores)),
        held_out=len(tokens),
        questions=len(base.scores),
        steps=steps,
        seeds=len({one.seed for one in trained}),
        sizes=tuple(_sizes(trained, measured, losses)),
        law=(float(law.a), float(law.b), float(law.c)),
        band=_band(measured, losses) if len(set(measured.sizes)) >= FEWEST_SIZES else None,
        worth=_worth(measured, losses),
        kinds=_kind_curves(kinds, trained, tokens, resamples, seed),
    )


def _measurements(trained: Sequence[Trained], tokens: Floats, places: Sequence[int] | None = None) -> Measurements:
    """The trainings by size and seed, on all held-out examples or on those at ``places``."""
    shares = sorted({one.share for one in trained})
    chosen = list(range(len(tokens))) if places is None else list(places)
    by_share = [[one for one in trained if one.share == share] for share in shares]
    totals = np.array([[[one.totals[place] for place in chosen] for one in ones] for ones in by_share])
    return Measurements(np.array([ones[0].examples for ones in by_share], dtype=np.float64), totals, tokens[chosen])


def _sizes(trained: Sequence[Trained], measured: Measurements, losses: Floats) -> list[Size]:
    found = []
    shares = sorted({one.share for one in trained})
    for place, (share, by_seed) in enumerate(zip(shares, measured.means(), strict=True)):
        low, high = np.quantile(losses[:, place], [0.025, 0.975])
        value = float(by_seed.mean())
        interval = Interval(value, min(float(low), value), max(float(high), value))
        score = float(np.mean([one.scores for one in trained if one.share == share]))
        found.append(Size(share, int(measured.sizes[place]), interval, tuple(map(float, by_seed)), score))
    return found


def _worth(measured: Measurements, losses: Floats) -> Worth:
    loss = float(measured.means()[-1].mean())
    if len(set(measured.sizes)) < FEWEST_SIZES:
        return Worth("unknown", None, loss, "sizes")
    if len(measured.weights) < FEWEST_HELD_OUT:
        return Worth("unknown", None, loss, "held-out")
    gain = gain_of(measured, MORE, losses)
    if gain.high < 0:
        return Worth("harms", gain, loss)
    if gain.high < NEXT_TO_NOTHING * loss:
        return Worth("little", gain, loss)
    if gain.low > 0:
        return Worth("helps", gain, loss)
    return Worth("unknown", gain, loss, "noise")


def _band(measured: Measurements, losses: Floats) -> Band:
    """From the smallest size to twice the largest, evenly on a logarithmic axis."""
    sizes = np.geomspace(measured.sizes.min(), 2 * measured.sizes.max(), 40)
    middle = fit(measured.sizes, measured.means().mean(axis=1)).at(sizes)
    low, high = np.quantile(fit(measured.sizes, losses).at(sizes), [0.025, 0.975], axis=0)
    return Band(*(tuple(map(float, values)) for values in (sizes, middle, np.minimum(low, middle), np.maximum(high, middle))))


def _kind_curves(
    kinds: Sequence[KindOfRows], trained: Sequence[Trained], tokens: Floats, resamples: int, seed: int
) -> tuple[KindCurve, ...]:
    """Of several kinds one seems short of examples sooner or later: what is said of them is corrected for their number (Holm)."""
    alone = [_worth_of_kind(kind, trained, tokens, resamples, seed) for kind in kinds]
    held = iter(holm([chance for worth, chance in alone if worth.why != "held-out"]))
    why: Literal["kinds", "seed"] = "kinds" if len({one.seed for one in trained}) > 1 else "seed"
    found = []
    for kind, (worth, _chance) in zip(kinds, alone, strict=True):
        is_said = worth.why == "held-out" or next(held) or worth.answer not in ("helps", "harms")
        told = worth if is_said else replace(worth, answer="unknown", why=why)
        found.append(KindCurve(kind.words, kind.train, len(kind.held_out), told))
    return tuple(found)


def _worth_of_kind(
    kind: KindOfRows, trained: Sequence[Trained], tokens: Floats, resamples: int, seed: int
) -> tuple[Worth, float]:
    """By the examples of this kind in each part, which are about its share of them; and how likely its slope is by chance."""
    if len(kind.held_out) < FEWEST_HELD_OUT:
        return Worth("unknown", None, math.nan, "held-out"), 1.0
    part = _measurements(trained, tokens, kind.held_out)
    own = Measurements(part.sizes * kind.train / part.sizes.max(), part.totals, part.weights)
    losses = resampled(own, resamples, seed)
    return _worth(own, losses), chance_of_slope(own, losses)


def _value(interval: Interval | None) -> float:
    return 0.0 if interval is None else interval.value


# ── kept ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def save_curve(folder: Path, curve: LearningCurve) -> Path:
    """Writes ``result.json`` into ``folder``."""
    write_json(folder / RESULT, _without_nan(asdict(curve)))
    return folder / RESULT


def load_curve(folder: Path) -> LearningCurve:
    """The curve that ``save_curve`` wrote."""
    tree = read_json(folder / RESULT)
    sizes = (Size(**{**one, "loss": Interval(**one["loss"]), "losses": tuple(one["losses"])}) for one in tree["sizes"])
    kinds = (KindCurve(**{**one, "words": tuple(one["words"]), "worth": _load_worth(one["worth"])}) for one in tree["kinds"])
    band = None if tree["band"] is None else Band(**{name: tuple(values) for name, values in tree["band"].items()})
    known = {"sizes": tuple(sizes), "kinds": tuple(kinds), "band": band, "worth": _load_worth(tree["worth"])}
    return LearningCurve(**{**tree, **known, "law": tuple(tree["law"])})


def _load_worth(tree: dict[str, Any]) -> Worth:
    gain = None if tree["gain"] is None else Interval(**tree["gain"])
    return Worth(tree["answer"], gain, math.nan if tree["loss"] is None else tree["loss"], tree["why"])


def _without_nan(value: Any) -> Any:
    """The same with null where there is no number, which JSON cannot say otherwise."""
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
