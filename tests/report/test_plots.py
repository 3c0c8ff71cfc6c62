import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.report.plots import Curve, Estimate, averaged, estimates, loss_curve, number, ticks
from tests.report.reading import read

sizes = st.floats(1e-4, 1e6)


@given(st.floats(-1e6, 1e6), sizes, st.integers(3, 9))
def test_ticks_span_the_values_with_a_handful_of_equal_steps(low: float, span: float, about: int) -> None:
    if span < abs(low + span) * 1e-4:
        return  # a difference that a label would not show
    marks = ticks(low, low + span, about)
    assert marks[0] <= low + 1e-6 * span
    assert marks[-1] >= low + span * (1 - 1e-6)
    assert 2 <= len(marks) <= 2 * about + 3
    steps = [later - earlier for earlier, later in pairwise(marks)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


def test_ticks_are_round_numbers() -> None:
    assert ticks(0, 3.4, 4) == [0, 1, 2, 3, 4]
    assert ticks(0, 180, 8) == [0, 25, 50, 75, 100, 125, 150, 175, 200]
    assert [number(tick) for tick in ticks(0.2, 0.9, 4)] == ["0.2", "0.4", "0.6", "0.8", "1"]


def test_ticks_of_one_value_have_a_span() -> None:
    assert len(ticks(2.0, 2.0, 5)) >= 2
    assert len(ticks(0.0, 0.0, 5)) >= 2


@given(st.lists(st.floats(0, 10), min_size=1, max_size=400))
def test_a_curve_stays_inside_its_frame(losses: list[float]) -> None:
    points = tuple(enumerate(losses))
    drawing = loss_curve(Curve(points, points[::7], best=0), 360, 250)
    (path,) = read(drawing).all("path", "training")
    numbers = [float(text) for text in re.findall(r"-?[\d.]+", path["d"] or "")]
    assert all(0 <= x <= 360 for x in numbers[::2])
    assert all(0 <= y <= 250 for y in numbers[1::2])


def test_the_best_checkpoint_is_marked_with_its_loss_and_step() -> None:
    page = read(loss_curve(Curve(((1, 3.0), (2, 2.0)), ((0, 3.5), (2, 2.25)), best=2), 960, 320))
    assert len(page.all("circle", "best")) == 1
    assert "best: 2.250 at step 2" in page.text


def test_a_curve_without_validation_marks_nothing() -> None:
    page = read(loss_curve(Curve(((1, 3.0), (2, 2.0)), (), best=None), 960, 320))
    assert page.all("circle") == []


def test_a_curve_of_one_point_is_drawn() -> None:
    assert read(loss_curve(Curve((), ((0, 3.5),), best=0), 360, 250)).all("circle", "best")


@given(st.lists(st.floats(0, 10), min_size=1, max_size=1000), st.integers(2, 50))
def test_averaging_keeps_the_ends_and_the_range(losses: list[float], most: int) -> None:
    points = list(enumerate(losses))
    means = averaged(points, most)
    assert len(means) <= most
    assert (means[0][0], means[-1][0]) == (points[0][0], points[-1][0]) or len(means) == 1
    assert min(losses) - 1e-9 <= min(loss for _step, loss in means) <= max(loss for _step, loss in means) <= max(losses) + 1e-9


def test_an_estimate_has_its_dot_at_its_value_and_its_whisker_from_end_to_end() -> None:
    page = read(
        estimates([Estimate("base 25 %", 0.25, 0.1, 0.5, "base"), Estimate("tuned 90 %", 0.9, 0.8, 0.95, "tuned")], 0, 1, (0, 1))
    )
    assert [mark["x"] for mark in page.all("svg")[1:]] == ["25.00%", "90.00%"]
    whiskers = [line for line in page.all("line") if line["class"] == "whisker"]
    assert [(line["x1"], line["x2"]) for line in whiskers] == [("10.00%", "50.00%"), ("80.00%", "95.00%")]
    assert len(page.all("circle")) == len(page.all("path")) == 1, "shapes differ, not only colours"


def test_an_interval_without_end_reaches_the_edges_and_has_no_end_marks() -> None:
    page = read(estimates([Estimate("base", 2.0, -math.inf, math.inf, "base")], 0, 4, ()))
    whisker, *ends = page.all("line", "whisker")
    assert (whisker["x1"], whisker["x2"], ends) == ("0.00%", "100.00%", [])
