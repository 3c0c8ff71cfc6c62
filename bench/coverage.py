"""Whether the intervals keep their promise: contenders with known truth, simulated many times.

    python bench/coverage.py                   writes bench/results/coverage.json (a quarter of an hour of one core)
    python bench/coverage.py --part needed     one part of it, the others stay

- ``intervals``: how often the 95 % interval of a mean, a share or a paired difference holds the truth, with 20, 40 and 100
  examples, beside the plain percentile bootstrap where that is what one would take.
- ``needed``: the examples that ``examples_needed`` asks for, from the true difference and scatter, beside the number with which
  the interval leaves out zero in 80 of 100 simulations.
- ``order``: five contenders that are equally good: how often one is said to be ahead of all others, or of any other.
- ``curve``: how often the interval of what the next 100 examples are worth holds the truth, for curves with a known law.
- ``kinds``: how often a kind of question is said to be short of examples that is not, among several.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr
from scipy.stats import beta

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.compare.curve import SHARES, KindOfRows, Trained, learning_curve  # noqa: E402
from afina.compare.standing import stand  # noqa: E402
from afina.core.files import read_json, write_json  # noqa: E402
from afina.measure.intervals import (  # noqa: E402
    Interval,
    examples_needed,
    mean_interval,
    proportion_difference,
    proportion_interval,
)
from afina.measure.metrics import Metric  # noqa: E402
from afina.measure.power_law import Measurements, gain_of, resampled  # noqa: E402

Floats = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], tuple[Floats, Floats]]  # of so many examples: ours and theirs, or totals and weights

COUNTS = (20, 40, 100)
RESAMPLES = 500
POWER_AT = (0.7, 0.85, 1.0, 1.15, 1.3)  # times the number that is asked for


@dataclass(frozen=True)
class Scenario:
    """What is drawn, the true value of what is estimated, and how its interval is made."""

    name: str
    draw: Draw
    truth: float
    kind: str  # share, paired shares, mean, weighted mean

    @property
    def is_difference(self) -> bool:
        return (self.kind == "paired shares" and self.truth != 0) or self.name.startswith(("word F1", "chrF", "difference"))


# ── contenders ────────────────────────────────────────────────────────────────────────────────────────────────────────


def luck(random: np.random.Generator, count: int, alike: float) -> tuple[Floats, Floats]:
    """Two uniform numbers an example, whose normal scores correlate: what is hard for one contender is hard for the other."""
    shared, one, other = random.normal(size=(3, count))
    own = math.sqrt(1 - alike**2)
    return ndtr(alike * shared + own * one), ndtr(alike * shared + own * other)


def word_f1(uniform: Floats, none: float, all_of_it: float, a: float, b: float) -> Floats:
    """Scores like word F1: a share of zeros, a share of ones, and a hump between."""
    inside = np.clip((uniform - none) / (1 - none - all_of_it), 1e-9, 1 - 1e-9)
    scores: Floats = np.where(uniform < none, 0.0, np.where(uniform > 1 - all_of_it, 1.0, beta.ppf(inside, a, b)))
    return scores


def f1_mean(none: float, all_of_it: float, a: float, b: float) -> float:
    return all_of_it + (1 - none - all_of_it) * a / (a + b)


def single_shares() -> Iterator[Scenario]:
    for share in (0.1, 0.3, 0.5, 0.9):

        def draw(random: np.random.Generator, count: int, share: float = share) -> tuple[Floats, Floats]:
            return (random.random(count) < share).astype(float), np.zeros(0)

        yield Scenario(f"share {share}", draw, share, "share")


def paired_shares() -> Iterator[Scenario]:
    for base, tuned, alike in (
        (0.3, 0.5, 0.0),
        (0.3, 0.5, 0.7),
        (0.5, 0.5, 0.7),
        (0.1, 0.4, 0.5),
        (0.05, 0.9, 0.3),
        (0.7, 0.9, 0.7),
    ):

        def draw(
            random: np.random.Generator, count: int, base: float = base, tuned: float = tuned, alike: float = alike
        ) -> tuple[Floats, Floats]:
            ours, theirs = luck(random, count, math.sqrt(alike))
            return (ours < tuned).astype(float), (theirs < base).astype(float)

        yield Scenario(f"shares {base} and {tuned}, alike {alike}", draw, tuned - base, "paired shares")


def paired_scores() -> Iterator[Scenario]:
    shapes = {
        "word F1, far apart": ((0.2, 0.4, 3.0, 2.0), (0.4, 0.1, 2.0, 3.0)),
        "word F1, near": ((0.15, 0.3, 3.0, 2.0), (0.2, 0.25, 3.0, 2.0)),
        "word F1, mostly wrong": ((0.6, 0.05, 2.0, 3.0), (0.75, 0.02, 2.0, 4.0)),
        "chrF": ((0.0, 0.0, 5.0, 4.0), (0.0, 0.0, 2.0, 6.0)),
    }
    for name, (ours, theirs) in shapes.items():

        def draw(
            random: np.random.Generator,
            count: int,
            ours: tuple[float, float, float, float] = ours,
            theirs: tuple[float, float, float, float] = theirs,
        ) -> tuple[Floats, Floats]:
            first, second = luck(random, count, 0.8)
            return word_f1(first, *ours) - word_f1(second, *theirs), np.ones(count)

        yield Scenario(name, draw, f1_mean(*ours) - f1_mean(*theirs), "mean")


def losses() -> Iterator[Scenario]:
    """Losses an example, summed over tokens; skewed as they are: a few examples are far harder than the rest."""

    def one(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        tokens = random.integers(5, 60, count).astype(float)
        return tokens * random.gamma(4.0, 0.5, count), tokens

    def difference(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        tokens = random.integers(5, 60, count).astype(float)
        first, second = luck(random, count, 0.7)
        normal = [np.sqrt(2) * _inverse_error(2 * part - 1) for part in (first, second)]
        return tokens * (2.0 * np.exp(0.4 * normal[0] - 0.08) - 3.0 * np.exp(0.3 * normal[1] - 0.045)), tokens

    def skewed(random: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        return random.lognormal(0.0, 0.7, count), np.ones(count)

    yield Scenario("loss a token", one, 2.0, "weighted mean")
    yield Scenario("difference of losses a token", difference, -1.0, "weighted mean")
    yield Scenario("a skewed loss", skewed, math.exp(0.7**2 / 2), "mean")


def _inverse_error(values: Floats) -> Floats:
    from scipy.special import erfinv

    found: Floats = erfinv(np.clip(values, -1 + 1e-12, 1 - 1e-12))
    return found


# ── what is measured ──────────────────────────────────────────────────────────────────────────────────────────────────


def interval_of(scenario: Scenario, first: Floats, second: Floats, seed: int) -> Interval:
    match scenario.kind:
        case "share":
            return proportion_interval(first)
        case "paired shares":
            return proportion_difference(first, second)
        case _:
            return mean_interval(first, second, resamples=RESAMPLES, seed=seed)


def percentile(scenario: Scenario, first: Floats, second: Floats, seed: int) -> Interval:
    """The plain percentile bootstrap, for comparison."""
    random = np.random.default_rng(seed)
    totals = first - second if scenario.kind == "paired shares" else first
    weights = second if scenario.kind in ("mean", "weighted mean") else np.ones(len(first))
    rows = random.integers(0, len(totals), (RESAMPLES, len(totals)))
    means = totals[rows].sum(axis=1) / weights[rows].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(totals.sum() / weights.sum()), float(low), float(high))


def coverage(scenario: Scenario, count: int, runs: int) -> dict[str, Any]:
    random = np.random.default_rng([count, len(scenario.name)])
    ours, plain = [], []
    for run in range(runs):
        drawn = scenario.draw(random, count)
        ours.append(interval_of(scenario, *drawn, run))
        plain.append(percentile(scenario, *drawn, run))

    def share(intervals: list[Interval]) -> float:
        return round(float(np.mean([one.low <= scenario.truth <= one.high for one in intervals])), 4)

    return {
        "coverage": share(ours),
        "width": round(float(np.mean([one.high - one.low for one in ours])), 4),
        "percentile bootstrap": share(plain),
        "its width": round(float(np.mean([one.high - one.low for one in plain])), 4),
    }


def needed(scenario: Scenario, runs: int) -> dict[str, Any]:
    """What is asked for, and the number that really takes: where the simulated power crosses 80 %."""
    random = np.random.default_rng(11)
    first, second = scenario.draw(random, 400_000)
    totals, weights = (first - second, None) if scenario.kind == "paired shares" else (first, second)
    asked = examples_needed(totals, weights)
    if asked is None:
        raise ValueError(f"{scenario.name} has no difference to show")
    shown = []
    for factor in POWER_AT:
        count = max(4, round(factor * asked))
        found = [interval_of(scenario, *scenario.draw(random, count), run) for run in range(runs)]
        shown.append(float(np.mean([not one.low <= 0 <= one.high for one in found])))
    powers = np.maximum.accumulate(shown)
    true = float(np.interp(0.8, powers, np.array(POWER_AT))) * asked
    return {"asked": asked, "true": round(true), "ratio": round(asked / true, 3), "power with it": shown[POWER_AT.index(1.0)]}


def order(runs: int, count: int = 40, contenders: int = 5) -> dict[str, Any]:
    """Contenders that are equally good on examples that are easy or hard for all."""
    random = np.random.default_rng(13)
    metric = Metric("exact", "exact match", "", "higher", binary=True)
    ahead_of_all, ahead_of_any = 0, 0
    for run in range(runs):
        hard = random.normal(size=count)
        scores = {
            name: list(map(float, ndtr(0.6 * hard + 0.8 * random.normal(size=count)) < 0.5))
            for name in ("prompt", "few_shot", "rag", "tuned", "tuned+rag")[:contenders]
        }
        standing = stand(scores, metric, resamples=RESAMPLES, seed=run)
        ahead_of_all += len(standing.behind) == contenders - 1
        ahead_of_any += bool(standing.behind)
    return {"ahead of all": ahead_of_all / runs, "ahead of any": ahead_of_any / runs}


def curve(runs: int, exponent: float, rows: int = 100, seeds: int = 3) -> float:
    """Coverage of the interval of the gain, for loss = 4 n^-b + 0.6 with scatter of examples and of seeds."""
    random = np.random.default_rng(17)
    sizes = np.array([36.0, 75.0, 150.0, 300.0])
    true = 4 * sizes**-exponent + 0.6
    gain = 4 * 300**-exponent - 4 * 400**-exponent
    held = 0
    for run in range(runs):
        hard = np.exp(0.5 * random.normal(size=rows) - 0.125)  # the same examples are hard for all
        noise = 0.02 * random.normal(size=(len(sizes), seeds, 1)) + 0.1 * random.normal(size=(len(sizes), seeds, rows))
        tokens = random.integers(5, 60, rows).astype(float)
        totals = tokens * (true[:, None, None] * hard + noise)
        measured = Measurements(sizes, totals, tokens)
        found = gain_of(measured, 100, resampled(measured, 400, run))
        held += found.low <= gain <= found.high
    return held / runs


def kinds(runs: int, count: int, seeds: int, fall: float = 0.0) -> dict[str, float]:
    """``any wrong``: runs in which a kind that learns nothing is said to be short of examples, of ``count`` kinds.

    With a ``fall`` every other kind learns by the law 1 + fall · n^-0.5; ``found`` are those of them that are named.
    """
    random = np.random.default_rng(23)
    rows, train = 20, 300
    of_kinds = [KindOfRows((str(n),), train // count, tuple(range(n * rows, (n + 1) * rows))) for n in range(count)]
    learns = np.repeat(np.arange(count) % 2 == 1, rows)
    wrong = found = 0
    for run in range(runs):
        hard = np.exp(0.3 * random.normal(size=count * rows) - 0.045)
        trained = []
        for share in SHARES:
            loss = np.where(learns, 1 + fall * (share * train / count) ** -0.5, 1.0)
            for seed in range(seeds):
                chance = np.repeat(0.03 * random.normal(size=count), rows) + 0.01 * random.normal()
                totals = 10 * ((loss + chance) * hard + 0.05 * random.normal(size=len(hard)))
                trained.append(Trained(share, round(share * train), seed, tuple(totals), (0.0,)))
        weights = [10] * len(hard)
        curve = learning_curve(trained, trained[0], weights, "f1", 20, kinds=of_kinds, resamples=RESAMPLES, seed=run)
        named = {int(kind.words[0]) for kind in curve.short}
        wrong += any(fall == 0 or number % 2 == 0 for number in named)
        found += sum(number % 2 for number in named)
    return {"any wrong": wrong / runs, **({"found": found / runs / (count // 2)} if fall else {})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="simulations of each case")
    parser.add_argument("--part", choices=PARTS, action="append", help="only this; may be given several times")
    parser.add_argument("--json", action="store_true", help="print the results instead of writing them")
    options = parser.parse_args()
    path = BENCH / "results" / "coverage.json"
    result: dict[str, Any] = read_json(path) if path.is_file() and not options.json else {}
    for part in options.part or PARTS:
        result[part] = {"runs": options.runs, "resamples": RESAMPLES, **PARTS[part](options.runs)}
        if not options.json:
            write_json(path, result)
    if options.json:
        print(json.dumps(result, ensure_ascii=False, indent=2))


def of_intervals(runs: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for scenario in SCENARIOS:
        found[scenario.name] = {str(count): coverage(scenario, count, runs) for count in COUNTS}
        print(scenario.name, json.dumps(found[scenario.name]), file=sys.stderr, flush=True)
    return found


def of_needed(runs: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for scenario in SCENARIOS:
        if scenario.is_difference:
            found[scenario.name] = needed(scenario, runs)
            print(scenario.name, json.dumps(found[scenario.name]), file=sys.stderr, flush=True)
    return found


def of_curves(runs: int) -> dict[str, Any]:
    return {f"exponent {exponent}": curve(runs, exponent) for exponent in (0.2, 0.5, 1.0)}


def of_kinds(runs: int) -> dict[str, Any]:
    return {
        f"{count} kinds, {seeds} seeds, fall {fall}": kinds(runs, count, seeds, fall)
        for count, seeds, fall in ((4, 3, 0.0), (8, 3, 0.0), (8, 2, 0.0), (8, 3, 0.5))
    }


SCENARIOS = (*single_shares(), *paired_shares(), *paired_scores(), *losses())
PARTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "intervals": of_intervals,
    "needed": of_needed,
    "order": order,
    "curve": of_curves,
    "kinds": of_kinds,
}


if __name__ == "__main__":
    main()
