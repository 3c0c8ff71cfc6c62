import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from afina.measure.labels import (
    distinct_labels,
    label,
    label_match,
    macro_f1,
    macro_f1_difference,
    macro_f1_interval,
)

pairs = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcdx")), min_size=1, max_size=40)


@given(pairs)
def test_accuracy_and_macro_f1_are_scikit_learns(rows: list[tuple[str, str]]) -> None:
    expected, answers = [one for one, _other in rows], [other for _one, other in rows]
    matches = [label_match(answer, wanted) for wanted, answer in rows]
    assert np.mean(matches) == pytest.approx(accuracy_score(expected, answers))
    names = sorted(set(expected))
    reference = f1_score(expected, answers, labels=names, average="macro", zero_division=0)
    assert macro_f1(expected, answers) == pytest.approx(reference)


def test_a_label_is_the_same_with_other_signs_and_capitals() -> None:
    assert label(' "Cancel  Order". ') == label("cancel order")
    assert label_match("Refund!", "refund") == 1
    assert label_match("a refund", "refund") == 0


def test_labels_are_few_short_and_come_again() -> None:
    assert distinct_labels(["refund", "invoice", "Refund."] * 10) == 2
    assert distinct_labels(["refund"] * 30) == 0
    assert distinct_labels([f"label {number}" for number in range(30)]) == 0
    assert distinct_labels(["a long answer with more than six words", "another long answer of more than six words"] * 20) == 0


def test_the_interval_covers_the_truth_and_a_difference_of_nothing_is_none() -> None:
    """150 drawn test sets of 80 answers: the macro F1 of a very large one lies inside about 95 of 100 intervals."""
    chance = random.Random(3)

    def draw(count: int) -> tuple[list[str], list[str]]:
        expected = [chance.choice("aaabbc") for _row in range(count)]
        return expected, [wanted if chance.random() < 0.7 else chance.choice("abc") for wanted in expected]

    truth = macro_f1(*draw(60_000))
    inside = 0
    for seed in range(150):
        interval = macro_f1_interval(*draw(80), resamples=300, seed=seed)
        inside += interval.low <= truth <= interval.high
    assert 0.88 <= inside / 150 <= 0.99
    expected, answers = draw(80)
    same = macro_f1_difference(expected, answers, answers, resamples=200, seed=1)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    worse = macro_f1_difference(expected, ["c"] * 80, expected, resamples=200, seed=1)
    assert worse.high < 0


def test_one_example_gives_no_interval() -> None:
    interval = macro_f1_interval(["a"], ["a"], resamples=100, seed=1)
    assert (interval.value, interval.high) == (1.0, np.inf)
