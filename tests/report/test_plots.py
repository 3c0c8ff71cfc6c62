import math
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.report.drawing import MARKS
from afina.report.plots import (
    SHAPES,
    Branch,
    Curve,
    Estimate,
    averaged,
    estimates,
    histogram,
    key,
    loss_curve,
    number,
    quality_over,
    river,
    ticks,
)
from tests.report.reading import read

sizes = st.floats(1e-4, 1e6)
LEVELS = [("90 left", [Branch("empty", 8), Branch("broken", 2)]), ("training 60", [Branch("held out", 30, passes=True)])]


def inside(drawing: str, kind: str) -> list[tuple[float, float]]:
    """The points of the paths of a kind, as the browser sees them."""
    found = []
    for group in re.findall(rf'<g class="{kind}">(.*?)</g>', drawing):
        for path in re.findall(r'\bd="([^"]*)"', re.sub(r"<defs>.*?</defs>", "", group)):
            numbers = [float(text) for text in re.findall(r"-?\d+\.?\d*", path)]
            found += list(zip(numbers[::2], numbers[1::2], strict=True))
        found += [(float(x), float(y)) for x, y in re.findall(r'<use [^>]*x="([-\d.]+)" y="([-\d.]+)"', group)]
    return found


# ── numbers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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


@given(st.lists(st.floats(0, 10), min_size=1, max_size=1000), st.integers(2, 50))
def test_averaging_keeps_the_ends_and_the_range(losses: list[float], most: int) -> None:
    points = list(enumerate(losses))
    means = averaged(points, most)
    assert len(means) <= most
    assert (means[0][0], means[-1][0]) == (points[0][0], points[-1][0]) or len(means) == 1
    assert min(losses) - 1e-9 <= min(loss for _step, loss in means) <= max(loss for _step, loss in means) <= max(losses) + 1e-9


# ── losses ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@given(st.lists(st.floats(0, 10), min_size=1, max_size=400))
@settings(max_examples=8)
def test_a_curve_stays_inside_its_frame(losses: list[float]) -> None:
    points = tuple(enumerate(losses))
    drawing = loss_curve(Curve(points, points[::7], best=0), 360, 250)
    found = inside(drawing, "training") + inside(drawing, "validation")
    assert found
    assert all(0 <= x <= 360 and 0 <= y <= 250 for x, y in found)


def test_a_lower_loss_is_drawn_lower_and_a_later_step_further_right() -> None:
    first, last = inside(loss_curve(Curve(((1, 3.0), (9, 2.0)), (), best=None), 360, 250), "training")
    assert first[0] < last[0]
    assert first[1] < last[1], "y grows downwards"


def test_the_best_checkpoint_is_marked_with_its_loss_and_step() -> None:
    drawing = loss_curve(Curve(((1, 3.0), (2, 2.0)), ((0, 3.5), (2, 2.25)), best=2), 960, 320)
    assert len(inside(drawing, "best")) == 1
    assert "best: 2.250 at step 2" in read(drawing).text


def test_a_curve_without_validation_marks_nothing() -> None:
    drawing = loss_curve(Curve(((1, 3.0), (2, 2.0)), (), best=None), 960, 320)
    assert inside(drawing, "best") == inside(drawing, "validation") == []


def test_a_curve_of_one_point_is_drawn() -> None:
    assert inside(loss_curve(Curve((), ((0, 3.5),), best=0), 360, 250), "best")


# ── estimates ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_estimate_has_its_dot_at_its_value_and_its_whisker_from_end_to_end() -> None:
    drawing = estimates(
        [Estimate("base 25 %", 0.25, 0.1, 0.5, "base"), Estimate("tuned 90 %", 0.9, 0.8, 0.95, "tuned")], 0, 1, (0, 1)
    )
    left, right = (x for x, _y in inside(drawing, "grid")[::2])

    def shares(kind: str) -> list[float]:
        return sorted({round((x - left) / (right - left), 2) for x, _y in inside(drawing, kind)})

    assert shares("base dot") == [0.25]
    assert shares("tuned dot") == [0.9]
    assert shares("base whisker") == shares("base end") == [0.1, 0.5]
    assert shares("tuned whisker") == [0.8, 0.95]


@pytest.mark.parametrize(("dear", "labels"), [(90.0, ["0", "50"]), (3000.0, ["50", "100", "1,000"])])
def test_quality_stands_over_its_cost_on_a_wide_axis_where_the_costs_are_far_apart(dear: float, labels: list[str]) -> None:
    dots = [(40.0, Estimate("base 25 %", 0.25, 0.1, 0.5, "base")), (dear, Estimate("tuned 90 %", 0.9, 0.8, 0.95, "tuned"))]
    drawing = quality_over(dots, "tokens a prompt", 1.0, 460, 260)
    texts = read(drawing).texts
    assert set(labels) <= set(texts)
    assert {"0 %", "50 %", "100 %", "tokens a prompt"} <= set(texts)
    (low,), (high,) = ({y for _x, y in inside(drawing, f"{mark} dot")[:1]} for mark in ("base", "tuned"))
    assert low > high, "up is better"
    assert f"tokens a prompt: base 25 % (40); tuned 90 % ({dear:,.0f})" in (read(drawing).all("svg")[0]["aria-label"] or "")


def test_no_two_contenders_have_the_same_shape_whatever_their_colours() -> None:
    drawings = [estimates([Estimate("a", 0.5, 0.4, 0.6, mark)], 0, 1, ()) for mark in SHAPES]
    outlines = [re.findall(r"<defs>.*?</defs>", re.sub(r' id="\w+"', "", drawing))[0] for drawing in drawings]
    assert len({re.sub(r"(stroke|fill)[^;]*;?", "", outline) for outline in outlines}) == len(SHAPES) == len(MARKS)
    assert len({re.sub(r' class="[^"]*"', "", key(mark)) for mark in SHAPES}) == len(SHAPES)
    colours = [set(re.findall(r"var\(--([a-z-]+)\)", drawing)) - {"paper", "line"} for drawing in drawings]
    assert colours == [{mark} for mark in MARKS], "each has the colour of its own name"


def test_an_interval_without_end_reaches_the_edges_and_has_no_end_marks() -> None:
    drawing = estimates([Estimate("base", 2.0, -math.inf, math.inf, "base")], 0, 4, (0, 4))
    assert {x for x, _y in inside(drawing, "base whisker")} == {x for x, _y in inside(drawing, "grid")}
    assert inside(drawing, "base end") == []


# ── lengths and flow ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_bars_beyond_the_limit_are_hollow_and_counted_in_words() -> None:
    drawing = histogram((64, 128, 256, 512), (5, 40, 7, 3), (("median", 100),), 256, 360, 260)
    assert len(re.findall(r"fill: none; stroke: var\(--bad\); stroke-width: 1.25", drawing)) == 1
    (svg,) = read(drawing).all("svg")
    assert svg["aria-label"] == "most rows, 40, have 65 to 128 tokens; median 100; limit 256, 3 rows beyond it"
    assert "limit 256" in read(drawing).text


def test_rows_of_one_length_without_a_limit_are_drawn() -> None:
    drawing = histogram((1,), (9,), (), 0, 360, 260)
    assert "limit" not in drawing
    assert "1 to 1 tokens" in drawing


@given(st.lists(st.integers(1, 200_000), min_size=1, max_size=30, unique=True).map(sorted), st.integers(0, 300_000))
@settings(max_examples=10)
def test_any_lengths_and_limit_stay_inside_the_frame(edges: list[int], limit: int) -> None:
    drawing = histogram(edges, [3] * len(edges), (("longest", edges[-1]),), limit, 350, 260)
    marks = inside(drawing, "mark")
    assert len(marks) == 2 * (1 + bool(limit))
    assert all(40 <= x <= 350 and 0 <= y <= 260 for x, y in marks)


def test_the_river_is_as_wide_as_its_rows() -> None:
    drawing = river("100 rows", 100, LEVELS, 350)
    widths = {x for x, _y in inside(drawing, "trunk")} - {0.0}
    assert {140.0, 126.0, 84.0} <= widths, "40 % of the width for all rows, then 90 and 60 of 100"


def test_the_river_says_in_words_what_it_shows() -> None:
    (svg,) = read(river("100 rows", 100, LEVELS, 350)).all("svg")
    assert svg["aria-label"] == "100 rows; empty, broken, 90 left; held out, training 60"


def test_a_loss_of_one_row_in_a_million_is_still_a_line() -> None:
    drawing = river("rows", 1_000_000, [("left", [Branch("one", 1)])], 350)
    points = inside(drawing, "branch")
    assert max(y for x, y in points if x > 140) - min(y for x, y in points if x > 140) >= 1.5


def test_a_river_that_dries_up_is_drawn() -> None:
    assert "nothing" in river("3 rows", 3, [("nothing", [Branch("broken", 3)])], 350)
    assert "nothing" in river("0 rows", 0, [("nothing", [])], 350)


# ── how they are written ──────────────────────────────────────────────────────────────────────────────────────────────

DRAWINGS = {
    "losses": lambda: loss_curve(Curve(((1, 3.0), (2, 2.0)), ((0, 3.5), (2, 2.25)), best=2), 360, 250),
    "estimates": lambda: estimates(
        [Estimate("base", 0.2, 0.1, 0.3, "base"), Estimate("x", 0.4, 0.2, 0.5, "tuned")], 0, 1, (0, 1)
    ),
    "quality": lambda: quality_over([(40.0, Estimate("base", 0.2, 0.1, 0.3, "base"))], "tokens", 1.0, 360, 260),
    "lengths": lambda: histogram((64, 128), (5, 40), (("median", 100),), 100, 360, 260),
    "flow": lambda: river("100 rows", 100, LEVELS, 350),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_has_only_the_colours_of_the_page(name: str) -> None:
    drawing = DRAWINGS[name]()
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b", re.sub(r'"#m\w+"', "", drawing)) == []
    assert "var(--" in drawing
    # Black is not written by matplotlib: what has no fill would be black in the dark.
    assert all("fill:" in tag or "fill: none" in tag for tag in re.findall(r"<text[^>]*>", drawing))


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_brings_no_fonts_styles_or_addresses_and_its_words_are_text(name: str) -> None:
    drawing = DRAWINGS[name]()
    page = read(drawing)
    assert not page.all("style") + page.all("image") + page.all("metadata")
    assert "font-family" not in drawing
    assert "http" not in drawing
    assert "url(" not in drawing
    assert page.all("svg")[0]["role"] == "img"
    assert page.all("svg")[0]["aria-label"]


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_id_is_used_and_none_is_there_twice(name: str) -> None:
    ids = re.findall(r'\bid="([^"]*)"', DRAWINGS[name]())
    assert len(ids) == len(set(ids))
    assert set(ids) == set(re.findall(r'href="#([^"]*)"', DRAWINGS[name]()))


def test_two_drawings_of_one_page_share_no_id() -> None:
    curve = Curve(((1, 3.0), (2, 2.0)), ((0, 3.5), (2, 2.25)), best=2)
    wide, narrow = (set(re.findall(r'\bid="([^"]*)"', loss_curve(curve, width, 250))) for width in (960, 360))
    assert wide
    assert not wide & narrow


def test_words_of_other_scripts_and_signs_of_formulas_are_written_as_they_are() -> None:
    words = "質問 $x$ \\alpha <b>&amp;</b> "
    drawing = river(words, 10, [(words, [Branch(words, 1)])], 350)
    assert read(drawing).text.count(words.strip()) == 3
    assert not read(drawing).all("b")


def test_the_same_values_give_the_same_bytes_in_another_process_with_other_settings(tmp_path: Path) -> None:
    code = "from tests.report.test_plots import DRAWINGS; print(*[DRAWINGS[name]() for name in DRAWINGS], sep='')"
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 9\nfont.size: 30\naxes.facecolor: red\n", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONHASHSEED": "5", "AFINA_LANG": "en"}
    environment["MATPLOTLIBRC"] = str(tmp_path / "matplotlibrc")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == "".join(DRAWINGS[name]() for name in DRAWINGS) + "\n"
    assert done.stderr == ""


def test_a_home_that_cannot_be_written_brings_no_warning(tmp_path: Path) -> None:
    code = "from tests.report.test_plots import DRAWINGS; DRAWINGS['flow']()"
    (tmp_path / "home").write_text("a file in the place of a folder", encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(tmp_path / "home")}
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"):
        environment.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
