from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from afina.compare.curve import SHARES, KindOfRows, LearningCurve, Trained, learning_curve, load_curve, nested, save_curve
from afina.stages.curve_words import kind_table
from bench import coverage

COUNT, HELD_OUT = 300, 60


def curve(
    losses: list[float], noise: float = 0.005, seeds: int = 3, held_out: int = HELD_OUT, kinds: list[KindOfRows] | None = None
) -> LearningCurve:
    """Trainings with these mean losses; the first half of the held-out examples follows them, the other half learns nothing."""
    random = np.random.default_rng(1)
    hard = np.exp(0.3 * random.normal(size=held_out) - 0.045)
    trained = []
    for seed in range(seeds):
        for share, loss in zip(SHARES, losses, strict=True):
            values = np.where(np.arange(held_out) < held_out // 2, loss, 2.0 if kinds else loss)
            totals = 10 * (values * hard + noise * random.normal() + 0.02 * random.normal(size=held_out))
            trained.append(Trained(share, round(share * COUNT), seed, tuple(totals), (1.0, 0.0)))
    base = Trained(0.0, 0, 0, tuple(10 * 3.0 * hard), (0.0, 0.0))
    return learning_curve(trained, base, [10] * held_out, "f1", 20, kinds=kinds or [], resamples=300, seed=1)


def law(exponent: float) -> list[float]:
    return [float(4 * (share * COUNT) ** -exponent + 0.6) for share in SHARES]


def test_every_part_lies_inside_the_next_and_seeds_draw_other_ones() -> None:
    parts = nested(100, 7)
    assert [len(part) for part in parts] == [12, 25, 50, 100]
    assert all(set(small) < set(large) for small, large in pairwise(parts))
    assert nested(100, 7) == parts
    assert nested(100, 8) != parts


def test_a_falling_curve_says_what_the_next_hundred_are_worth() -> None:
    found = curve(law(0.5))
    assert found.worth.answer == "helps"
    gain = found.worth.gain
    assert gain is not None
    true = 4 * 300**-0.5 - 4 * 400**-0.5
    assert gain.low < true < gain.high
    assert [size.examples for size in found.sizes] == [36, 75, 150, 300]
    assert found.sizes[0].loss.value > found.sizes[-1].loss.value
    assert (found.base_score, found.sizes[-1].score) == (0.0, 0.5)


def test_a_flat_curve_says_that_more_of_the_same_brings_next_to_nothing() -> None:
    assert curve([1.0, 1.0, 1.0, 1.0], noise=0.0005).worth.answer == "little"


def test_noise_is_told_as_what_it_is() -> None:
    found = curve([1.0, 0.99, 1.0, 0.99], noise=0.15)
    assert (found.worth.answer, found.worth.why) == ("unknown", "noise")


def test_too_few_held_out_examples_say_nothing() -> None:
    found = curve(law(0.5), held_out=6)
    assert (found.worth.answer, found.worth.why, found.worth.gain) == ("unknown", "held-out", None)


def test_kinds_of_question_that_are_short_of_examples_are_named() -> None:
    half = HELD_OUT // 2
    kinds = [
        KindOfRows(("prices",), 150, tuple(range(half))),
        KindOfRows(("hours",), 140, tuple(range(half, HELD_OUT))),
        KindOfRows(("returns",), 10, (0, 1)),
    ]
    found = curve(law(0.5), noise=0.001, kinds=kinds)
    assert [kind.words for kind in found.short] == [("prices",)]
    answers = {kind.words[0]: (kind.worth.answer, kind.worth.why) for kind in found.kinds}
    assert answers["hours"][0] in ("little", "unknown")
    assert answers["returns"] == ("unknown", "held-out")


def kinds_of_nothing(run: int, count: int, seeds: int = 3) -> LearningCurve:
    """Kinds that learn nothing, each with a chance of its own in every training."""
    random, rows = np.random.default_rng(run), 16
    kinds = [KindOfRows((str(n),), 40, tuple(range(n * rows, (n + 1) * rows))) for n in range(count)]
    trained = []
    for share in SHARES:
        for seed in range(seeds):
            chance = np.repeat(0.04 * random.normal(size=count), rows) + 0.04 * random.normal(size=count * rows)
            trained.append(Trained(share, round(share * COUNT), seed, tuple(10 * (1 + chance)), (0.0,)))
    return learning_curve(trained, trained[0], [10] * (count * rows), "f1", 20, kinds=kinds, resamples=100, seed=run)


def test_of_many_kinds_that_learn_nothing_none_is_named_in_nearly_all_runs() -> None:
    runs = [kinds_of_nothing(run, count=6) for run in range(40)]
    assert sum(bool(found.short) for found in runs) <= 2
    doubted = [any(kind.worth.why == "kinds" for kind in found.kinds) for found in runs]
    assert sum(doubted) >= 8, "so often one would be named without the correction"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "seeds"), [(8, 3), (8, 2), (3, 3)])
def test_a_false_alarm_comes_in_five_of_a_hundred_runs_at_most(count: int, seeds: int) -> None:
    assert coverage.kinds(300, count, seeds)["any wrong"] <= 0.05


def test_kinds_that_do_learn_are_still_named_among_many() -> None:
    assert coverage.kinds(8, 6, 3, fall=1.0)["found"] > 0.9


def test_with_one_seed_nothing_is_said_of_single_kinds() -> None:
    found = curve(law(0.5), seeds=1, kinds=[KindOfRows(("prices",), 150, tuple(range(30))), KindOfRows(("x",), 9, (31,))])
    assert found.worth.answer == "helps"
    assert [(kind.worth.answer, kind.worth.why) for kind in found.kinds] == [("unknown", "seed"), ("unknown", "held-out")]
    table = kind_table(found)
    assert table is not None
    assert [row[-1] for row in table.rows] == ["cannot be told with one seed", "too few held out"]


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_was_saved_is_read_again(tmp_path: Path, seeds: int) -> None:
    found = curve(law(0.5), seeds=seeds, kinds=[KindOfRows(("prices",), 150, tuple(range(30)))])
    save_curve(tmp_path, found)
    assert load_curve(tmp_path) == found
