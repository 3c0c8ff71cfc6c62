"""How a loss falls with the number of examples: a power law through a few measured sizes, and how sure what it says is.

    loss(n) = a · n^-b + c      a, b: what examples bring, and how soon that fades;  c: what no number of examples takes away

Learning curves of language models follow it closely where there is enough to learn from (Hestness et al. 2017, "Deep learning
scaling is predictable, empirically"). With a few sizes, b and c are known badly and the next examples' worth rather well: it is
read off just beyond the largest size. ``a`` may come out below zero: then more examples did harm, and the fit says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr

from afina.measure.intervals import Interval

Floats = npt.NDArray[np.floating[Any]]

EXPONENTS = np.geomspace(0.05, 2.0, 60)  # tried for b; for each of them a and c are a line's
FEWEST_SIZES = 3
_BLOCK = 2_000_000  # counts of resampled rows held at once: 16 MB


@dataclass(frozen=True)
class PowerLaws:
    """Fitted laws, each field (...,): one, or one for every resample."""

    a: Floats
    b: Floats
    c: Floats

    def at(self, sizes: npt.ArrayLike) -> Floats:
        """The losses (..., K) at K ``sizes``."""
        powers: Floats = np.asarray(sizes, dtype=np.float64) ** -self.b[..., None]
        return self.a[..., None] * powers + self.c[..., None]


@dataclass(frozen=True)
class Measurements:
    """What small trainings cost on the same held-out examples.

    ``sizes`` (K,) examples that were trained on; ``totals`` (K, S, N) the summed loss of each of N held-out examples after a
    training with each of S seeds; ``weights`` (N,) what they are divided by, their tokens.
    """

    sizes: Floats
    totals: Floats
    weights: Floats

    def means(self) -> Floats:
        """The loss of each training, (K, S)."""
        means: Floats = self.totals.sum(axis=-1) / self.weights.sum()
        return means


def fit(sizes: npt.ArrayLike, losses: npt.ArrayLike) -> PowerLaws:
    """The laws of least squares through ``losses`` (..., K) at K ``sizes``, with c at least 0."""
    counts, values = np.asarray(sizes, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    powers = counts ** -EXPONENTS[:, None]  # (E, K)
    means, level = powers.mean(axis=1), values.mean(axis=-1)[..., None]  # (E,), (..., 1)
    away = powers - means[:, None]
    a = values @ away.T / (away**2).sum(axis=1)  # (..., E)
    c = level - a * means
    through_zero = values @ powers.T / (powers**2).sum(axis=1)
    a, c = np.where(c < 0, through_zero, a), np.maximum(c, 0)
    misses = ((a[..., None] * powers + c[..., None] - values[..., None, :]) ** 2).sum(axis=-1)  # (..., E)
    best = misses.argmin(axis=-1)[..., None]
    return PowerLaws(np.take_along_axis(a, best, -1)[..., 0], EXPONENTS[best[..., 0]], np.take_along_axis(c, best, -1)[..., 0])


def resampled(measured: Measurements, resamples: int, seed: int) -> Floats:
    """The loss at each size (resamples, K), had other held-out examples been asked and other seeds been drawn.

    The same held-out examples count for all sizes. Seeds are drawn for each size by itself, and their distances from the mean are
    stretched by √(S / (S - 1)), without which S of them would seem to scatter less than they do. A single seed does not scatter:
    the intervals are then of the held-out examples alone.
    """
    random = np.random.default_rng(seed)
    sizes, seeds, rows = measured.totals.shape
    step = max(1, _BLOCK // rows)
    blocks = []
    for done in range(0, resamples, step):
        counts = random.multinomial(rows, np.full(rows, 1 / rows), size=min(step, resamples - done))  # (R, N)
        losses = np.einsum("ksn,rn->rks", measured.totals, counts) / (counts @ measured.weights)[:, None, None]
        middle = losses.mean(axis=2)
        if seeds > 1:
            drawn = random.integers(0, seeds, size=(len(counts), sizes, seeds))
            away = np.take_along_axis(losses - middle[..., None], drawn, axis=2).mean(axis=2)
            middle = middle + away * np.sqrt(seeds / (seeds - 1))
        blocks.append(middle)
    return np.concatenate(blocks)


def gain_of(measured: Measurements, more: int, losses: Floats) -> Interval:
    """What ``more`` examples than the largest size would take off the loss, by the law; ``losses`` as of ``resampled``.

    Below zero where they would do harm.
    """
    largest = float(measured.sizes.max())
    ends = np.array([largest, largest + more])

    def gains(laws: PowerLaws) -> Floats:
        before, after = np.moveaxis(laws.at(ends), -1, 0)
        return np.asarray(before - after)

    value = float(gains(fit(measured.sizes, measured.means().mean(axis=1))))
    low, high = np.quantile(gains(fit(measured.sizes, losses)), [0.025, 0.975])
    return Interval(value, min(float(low), value), max(float(high), value))


def chance_of_slope(measured: Measurements, losses: Floats) -> float:
    """How likely the losses would rise or fall so much with the number of examples by chance; ``losses`` as of ``resampled``.

    Student's t of their slope over the logarithm of the sizes, both sides, with as many degrees of freedom as the seeds leave:
    sizes · (seeds - 1). A single seed does not show how much is chance: then 1. The gain itself has no such t, for its resamples
    scatter far to one side.
    """
    sizes, seeds, _rows = measured.totals.shape
    if seeds < 2:
        return 1.0
    logs = np.log(measured.sizes)
    away = logs - logs.mean()
    slope, scatter = float(measured.means().mean(axis=1) @ away), float((losses @ away).std())
    return 2 * float(stdtr(sizes * (seeds - 1), -abs(slope) / scatter)) if scatter else 1.0
