import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from afina.measure.intervals import (
    Interval,
    _student,
    examples_needed,
    mean_interval,
    proportion_difference,
    proportion_interval,
    stretched,
    verdict,
)

outcomes = st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=30)
numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@given(numbers)
@example([0.0, 1.9e-148])  # whose third power is 0
@example([0.0, 1e-160])
@settings(max_examples=50)
def test_an_interval_holds_its_value(values: list[float]) -> None:
    interval = mean_interval(values, resamples=100, seed=1)
    assert interval.low <= interval.value <= interval.high
    assert interval.value == pytest.approx(np.mean(values))


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.arange(20.0) ** 2
    assert mean_interval(values, resamples=500, seed=1) == mean_interval(values, resamples=500, seed=1)


def test_an_interval_is_never_narrower_than_students() -> None:
    values = np.random.default_rng(1).normal(size=20)
    interval = mean_interval(values, resamples=200, seed=1)
    half = 2.093 * values.std(ddof=1) / np.sqrt(20)
    assert interval.low <= values.mean() - half + 1e-3
    assert interval.high >= values.mean() + half - 1e-3


def test_what_is_skewed_to_the_right_has_a_long_way_up_and_what_lies_within_stays_there() -> None:
    values = np.array([0.0] * 16 + [0.2, 0.4, 0.7, 1.0])
    interval = mean_interval(values, resamples=200, seed=1)
    assert interval.high - interval.value > 1.3 * (interval.value - interval.low)
    held = mean_interval(1 - values, resamples=200, seed=1, within=(0.0, 1.0))
    assert held.high <= 1.0
    turned = mean_interval(1 - values, resamples=200, seed=1)
    assert (1 - turned.high, 1 - turned.low) == pytest.approx((interval.low, interval.high), abs=0.02)


def test_what_is_the_same_everywhere_has_no_width() -> None:
    assert mean_interval([0.5] * 8, resamples=100, seed=1) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize("count", [20, 40])
def test_about_95_percent_of_the_intervals_of_scores_that_are_mostly_zero_hold_the_truth(count: int) -> None:
    random = np.random.default_rng(8)
    held = []
    for trial in range(1000):
        values = np.where(random.random(count) < 0.8, 0.0, random.beta(2, 4, count))
        interval = mean_interval(values, resamples=100, seed=trial)
        held.append(interval.low <= 0.2 / 3 <= interval.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("gap", [0.3, 0.5])
def test_so_many_examples_as_are_asked_for_show_a_difference_in_80_of_100_comparisons(gap: float) -> None:
    random = np.random.default_rng(9)
    asked = examples_needed(random.normal(gap, 1.0, 200_000))
    assert asked is not None
    assert asked == pytest.approx(7.85 / gap**2 + 2, rel=0.03)
    shown = [mean_interval(random.normal(gap, 1.0, asked), resamples=100, seed=trial).low > 0 for trial in range(400)]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.06)


def test_for_several_comparisons_an_interval_is_wider_and_more_examples_are_asked_for() -> None:
    interval = Interval(0.2, 0.1, 0.4)
    wide = stretched(interval, 10)
    assert (wide.low, wide.high) == pytest.approx((0.2 - 0.1 * 2.807 / 1.96, 0.2 + 0.2 * 2.807 / 1.96), abs=1e-3)
    values = np.random.default_rng(1).normal(0.3, 1.0, 1000)
    one, ten = examples_needed(values), examples_needed(values, comparisons=10)
    assert one is not None
    assert ten is not None
    assert ten > 1.5 * one


def test_no_number_of_examples_shows_what_is_no_difference() -> None:
    assert examples_needed([1.0, -1.0, 1.0, -1.0]) is None
    assert examples_needed([1.0, -1.0, 1.0, -0.999]) is None


def test_blocks_do_not_change_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(20.0)
    whole = mean_interval(values, resamples=300, seed=3)
    monkeypatch.setattr("afina.measure.intervals._BLOCK", 100)
    assert mean_interval(values, resamples=300, seed=3) == whole


def test_a_weighted_mean_is_a_ratio_of_sums() -> None:
    interval = mean_interval([10.0, 1.0], [10.0, 2.0], resamples=100, seed=0)
    assert interval.value == pytest.approx(11 / 12)
    doubled = mean_interval([20.0, 2.0], [20.0, 4.0], resamples=100, seed=0)
    assert (interval.low, interval.high) == pytest.approx((doubled.low, doubled.high))


def test_one_example_says_nothing() -> None:
    assert mean_interval([3.0], resamples=100, seed=0) == Interval(3.0, -math.inf, math.inf)


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="non-empty"):
        mean_interval([], resamples=100, seed=0)


@pytest.mark.parametrize(("freedom", "quantile"), [(4, 2.776), (9, 2.262), (19, 2.093), (99, 1.984)])
def test_student_is_the_tables(freedom: int, quantile: float) -> None:
    assert _student(freedom) == pytest.approx(quantile, abs=0.01)


@pytest.mark.parametrize("count", [10, 40])
def test_95_percent_of_the_intervals_of_a_mean_hold_the_truth(count: int) -> None:
    random = np.random.default_rng(5)
    held = [
        interval.low <= 0 <= interval.high
        for trial in range(1000)
        for interval in [mean_interval(random.normal(size=count), resamples=400, seed=trial)]
    ]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_95_percent_of_the_intervals_of_a_token_weighted_loss_hold_the_truth() -> None:
    random = np.random.default_rng(6)
    held = []
    for trial in range(1000):
        tokens = random.integers(5, 60, size=40)
        totals = tokens * (2.0 + random.normal(0, 0.5, size=40))
        interval = mean_interval(totals, tokens, resamples=400, seed=trial)
        held.append(interval.low <= 2.0 <= interval.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


@given(outcomes)
def test_wilson_lies_between_0_and_1_and_has_width(values: list[float]) -> None:
    interval = proportion_interval(values)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high > interval.low


def test_wilson_is_the_textbooks() -> None:
    full = proportion_interval([1.0] * 30)
    assert (full.low, full.high) == pytest.approx((0.8865, 1.0), abs=1e-4)
    half = proportion_interval([1.0, 0.0] * 10)
    assert (half.low, half.high) == pytest.approx((0.2993, 0.7007), abs=1e-4)


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=30))
def test_the_difference_of_proportions_turns_its_sign_with_the_order(pairs: list[tuple[float, float]]) -> None:
    ours, theirs = [a for a, _b in pairs], [b for _a, b in pairs]
    interval, turned = proportion_difference(ours, theirs), proportion_difference(theirs, ours)
    assert -1 <= interval.low <= interval.value <= interval.high <= 1
    assert (interval.low, interval.high) == pytest.approx((-turned.high, -turned.low))


@pytest.mark.parametrize(("base", "tuned"), [(0.05, 0.95), (0.3, 0.5), (0.5, 0.5)])
def test_95_percent_of_the_paired_intervals_hold_the_truth(base: float, tuned: float) -> None:
    random = np.random.default_rng(7)
    held = []
    for _trial in range(2000):
        luck = random.random(30)  # the same example is hard for both
        ours, theirs = (luck < tuned).astype(float), (luck < base).astype(float)
        interval = proportion_difference(ours, theirs)
        held.append(interval.low <= tuned - base <= interval.high)
    assert np.mean(held) >= 0.93


def test_outcomes_other_than_0_and_1_are_refused() -> None:
    with pytest.raises(ValueError, match="zeros and ones"):
        proportion_interval([0.5])


def test_the_verdict_follows_the_direction_of_the_metric() -> None:
    up, down, unclear = Interval(0.3, 0.1, 0.5), Interval(-0.3, -0.5, -0.1), Interval(0.1, -0.1, 0.3)
    assert (verdict(up, "higher"), verdict(down, "higher")) == ("better", "worse")
    assert (verdict(up, "lower"), verdict(down, "lower")) == ("worse", "better")
    assert verdict(unclear, "higher") == verdict(unclear, "lower") == "too close to tell"
