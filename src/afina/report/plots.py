"""The plots of the pages: losses, estimates with their intervals, lengths in tokens, the flow of rows. Each says in words what it
shows, for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from afina.core.translation import _
from afina.core.units import Displayed, format_count, grouped, grouped_exactly
from afina.report.drawing import (
    BAD,
    BASE,
    FEW,
    INK,
    LINE,
    OTHER,
    PAPER,
    PLUS,
    RAG,
    SOFT,
    TUNED,
    TUNED_RAG,
    axes_in,
    drawing,
    figure_of,
    label,
)
from afina.report.markup import Markup, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_POINTS = 240  # more steps than a screen has room for are averaged


@dataclass(frozen=True)
class Curve:
    """Losses by step. ``best``: the step whose adapter was kept, where there was validation."""

    training: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    best: int | None


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``mark`` names its shape in SHAPES."""

    label: str
    value: float
    low: float
    high: float
    mark: str


@dataclass(frozen=True)
class Shape:
    """How a contender is drawn. The base model's shapes are hollow, the tuned model's filled; no two have the same outline.

    ``marker`` and ``size`` are matplotlib's, ``outline`` is the same as an element of a legend, 16 pixels square.
    """

    colour: str
    marker: str
    size: float
    hollow: bool
    outline: Markup


SHAPES = {
    "base": Shape(BASE, "o", 10, True, element("circle", cx="8", cy="8", r="5")),
    "plus": Shape(PLUS, "p", 11, True, element("path", d="M8 2L14 6.4L11.7 13.4H4.3L2 6.4Z")),
    "few": Shape(FEW, "s", 9, True, element("path", d="M3.5 3.5H12.5V12.5H3.5Z")),
    "rag": Shape(RAG, "^", 10, True, element("path", d="M8 2.5L13.5 12.5H2.5Z")),
    "tuned": Shape(TUNED, "D", 9.2, False, element("path", d="M8 1.5L14.5 8L8 14.5L1.5 8Z")),
    "tuned-rag": Shape(TUNED_RAG, "v", 11, False, element("path", d="M8 14L14.5 3H1.5Z")),
    "other": Shape(OTHER, "h", 11, True, element("path", d="M8 2L13.2 5V11L8 14L2.8 11V5Z")),
}


@dataclass(frozen=True)
class Branch:
    """What leaves the river of rows, or ``passes`` on to a side of the split. Without rows its ``label`` stands alone."""

    label: str
    rows: int
    passes: bool = False


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) that span ``low`` to ``high``, roughly ``about`` of them."""
    span = max(high - low, 1e-4 * abs(high), 1e-4)  # what differs by less has a label of its own nowhere
    power = 10 ** math.floor(math.log10(span / about))
    step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(span / step - about))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """A tick's label: as short as the number is."""
    return grouped_exactly(value)


def averaged(points: Sequence[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most ``most`` points: means of as many neighbours as that takes. The first and the last keep their place."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    middles = [(group[len(group) // 2][0], sum(loss for _step, loss in group) / len(group)) for group in groups]
    middles[0] = (points[0][0], middles[0][1])
    middles[-1] = (points[-1][0], middles[-1][1])
    return middles


def _round_ticks(low: float, high: float, most: int) -> list[int]:
    """1, 2 and 5 times powers of ten, or powers of ten alone where those would be too many."""
    powers = [10**power for power in range(math.ceil(math.log10(high)) + 1)]
    fine = [factor * power for power in powers for factor in (1, 2, 5) if low <= factor * power <= high]
    return fine if len(fine) <= most else [power for power in powers if low <= power <= high]


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten between both, with 2 and 5 times them where there are few."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [round(factor * 10.0**power, 10) for power in powers for factor in (1, 2, 5)]
    inside = [tick for tick in fine if low <= tick <= high]
    return inside if len(inside) <= 8 else [tick for tick in inside if f"{tick:e}".startswith("1.0")]


# ── the plots ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def loss_curve(curve: Curve, width: int, height: int) -> Markup:
    """Training and validation loss over the steps, with the best checkpoint marked; ``width`` and ``height`` in CSS pixels."""
    training = averaged(curve.training, _MOST_POINTS)
    points = [*training, *curve.validation]
    last = max(1, *(step for step, _loss in points))
    x_ticks = [tick for tick in ticks(0, last, 4 if width < 500 else 8) if tick == int(tick) and tick <= last]
    y_ticks = ticks(min(loss for _step, loss in points), max(loss for _step, loss in points), 5)
    with figure_of(width, height) as figure:
        axes = axes_in(figure, left=46, right=14, top=12, bottom=40)
        axes.set(xlim=(0, last), ylim=(y_ticks[0], y_ticks[-1]))
        axes.set_xticks(x_ticks, map(number, x_ticks))
        axes.set_yticks(y_ticks, map(number, y_ticks))
        axes.text(1, -36 / (height - 52), _("step"), transform=axes.transAxes, ha="right", color=SOFT)
        if training:
            axes.plot(*zip(*training), color=BASE, linewidth=1.25, alpha=0.75, clip_on=False, gid="training")
        if curve.validation:
            axes.plot(*zip(*curve.validation), color=TUNED, linewidth=2, clip_on=False, gid="validation")
            dots = averaged(curve.validation, 40)
            axes.plot(*zip(*dots), "o", color=TUNED, markersize=5.2, clip_on=False, gid="validation")
        best = next(((step, loss) for step, loss in curve.validation if step == curve.best), None)
        if best is not None:
            axes.plot(*best, "o", markersize=13, mfc="none", mec=TUNED, mew=1.75, clip_on=False, gid="best")
            # The label stands above its point, away from the side that is nearer; a halo keeps it readable over the lines.
            late = best[0] > last * 0.6
            loss = f"{Displayed(best[1]):.3f}"
            text = loss if width < 500 else _("best: {loss} at step {step}").format(loss=loss, step=best[0])
            label(axes, text, best, INK, late, bold=True, away=(6 if late else -6, 14))
        return drawing(figure, _spoken_curve(curve))


def estimates(dots: Sequence[Estimate], low: float, high: float, grid: Sequence[float]) -> Markup:
    """A lane for each estimate on an axis from ``low`` to ``high``: its interval and its dot."""
    width, lane, gap = 220, 20, 6
    height = gap * 2 + lane * len(dots)
    with figure_of(width, height) as figure:
        axes = axes_in(figure, left=8, right=8, top=0, bottom=0)
        axes.set(xlim=(low, high), ylim=(height, 0), xticks=(), yticks=())
        axes.spines["bottom"].set_visible(False)
        for tick in grid:
            axes.plot((tick, tick), (0, height), color=LINE, linewidth=1, clip_on=False, gid="grid")
        for place, dot in enumerate(dots):
            y = gap + lane * place + lane / 2
            shape = SHAPES[dot.mark]
            left, value, right = (min(max(end, low), high) for end in (dot.low, dot.value, dot.high))
            axes.plot((left, right), (y, y), color=shape.colour, linewidth=2, clip_on=False, gid=f"{dot.mark} whisker")
            for end in (dot.low, dot.high):
                if low <= end <= high:
                    axes.plot((end, end), (y - 4, y + 4), color=shape.colour, linewidth=1.5, clip_on=False, gid=f"{dot.mark} end")
            axes.plot(
                *(value, y, shape.marker),
                markersize=shape.size,
                mfc=PAPER if shape.hollow else shape.colour,
                mec=shape.colour,
                mew=2 if shape.hollow else 0,
                clip_on=False,
                gid=f"{dot.mark} dot",
            )
        return drawing(figure, "; ".join(dot.label for dot in dots), "estimates")


def quality_over(dots: Sequence[tuple[float, Estimate]], axis: str, high: float, width: int, height: int) -> Markup:
    """Each contender's value with its interval over a cost, on a logarithmic axis where the costs are far apart.

    ``dots``: the cost and the value; ``axis`` names the cost; values lie between 0 and ``high``, shares where that is 1.
    """
    costs = [cost for cost, _dot in dots]
    is_wide = min(costs) > 0 and max(costs) > 20 * min(costs)
    y_ticks = ticks(0, high, 4)
    with figure_of(width, height) as figure:
        axes = axes_in(figure, left=52, right=24, top=12, bottom=44)
        axes.set(ylim=(y_ticks[0], y_ticks[-1]))
        right = 2 * max(costs) if is_wide else 1.12 * max(costs) or 1.0
        if is_wide:
            axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2 if is_wide else 0, right)
        x_ticks = _powers(min(costs) / 2, right) if is_wide else [tick for tick in ticks(0, right, 4) if tick <= right]
        axes.set_xticks(x_ticks, map(number, x_ticks))
        axes.minorticks_off()
        axes.set_yticks(y_ticks, [f"{100 * tick:.0f} %" if high == 1 else number(tick) for tick in y_ticks])
        axes.text(1, -38 / (height - 56), axis, transform=axes.transAxes, ha="right", color=SOFT)
        for cost, dot in dots:
            shape = SHAPES[dot.mark]
            bottom, value, top = (min(max(end, 0.0), high) for end in (dot.low, dot.value, dot.high))
            axes.plot((cost, cost), (bottom, top), color=shape.colour, linewidth=2, clip_on=False, gid=f"{dot.mark} whisker")
            axes.plot(
                *(cost, value, shape.marker),
                markersize=shape.size,
                mfc=PAPER if shape.hollow else shape.colour,
                mec=shape.colour,
                mew=2 if shape.hollow else 0,
                clip_on=False,
                gid=f"{dot.mark} dot",
            )
        return drawing(figure, f"{axis}: " + "; ".join(f"{dot.label} ({number(cost)})" for cost, dot in dots))


def histogram(
    edges: Sequence[int], counts: Sequence[int], marks: Sequence[tuple[str, int]], limit: int, width: int, height: int
) -> Markup:
    """Rows by their tokens, on a logarithmic axis. ``edges`` are the bins' upper ends; ``marks`` thin lines with a name;
    ``limit`` a strong line, 0 for none: what lies beyond it is drawn hollow.
    """
    first = min(edges[0] / 2 ** (1 / 4), edges[0] - 0.5)
    lefts = (first, *edges[:-1])
    top = ticks(0, max(counts), 4)
    low, high = min(first, limit or first) / 1.04, max(edges[-1], limit) * 1.04
    with figure_of(width, height) as figure:
        top_margin = 12 + 15 * (len(marks) + bool(limit))
        axes = axes_in(figure, left=46, right=14, top=top_margin, bottom=40)
        axes.set_xscale("log")
        axes.set(xlim=(low, high), ylim=(0, top[-1]))
        x_ticks = _round_ticks(low, high, 5 if width < 500 else 12)
        axes.minorticks_off()
        axes.set_xticks(x_ticks, [format_count(tick) for tick in x_ticks])
        y_ticks = [tick for tick in top if tick == int(tick)]
        axes.set_yticks(y_ticks, [format_count(int(tick)) for tick in y_ticks])
        axes.text(1, -36 / (height - top_margin - 40), _("tokens of a row"), transform=axes.transAxes, ha="right", color=SOFT)
        for left, right, count in zip(lefts, edges, counts, strict=True):
            if count:
                beyond = 0 < limit < right
                hair = (right / left) ** 0.06  # between two bars
                bar = axes.bar(left * hair, max(count, top[-1] / height), right / hair - left * hair, align="edge", clip_on=False)
                bar.patches[0].set(facecolor="none" if beyond else TUNED, edgecolor=BAD if beyond else "none", linewidth=1.25)
        lines = [(name, value, SOFT) for name, value in marks] + ([(_("limit"), limit, BAD)] if limit else [])
        for place, (name, value, colour) in enumerate(lines):
            rise = 1 + (6 + 15 * (len(lines) - 1 - place)) / (height - top_margin - 40)
            axes.plot(
                (value, value),
                (0, rise),
                transform=axes.get_xaxis_transform(),
                color=colour,
                linewidth=1.5 if colour == BAD else 1,
                dashes=(5, 3) if colour == BAD else (2, 3),
                clip_on=False,
                gid="mark",
            )
            late = math.log(value / low) > 0.6 * math.log(high / low)
            away = (-4 if late else 4, -8)
            label(axes, f"{name} {grouped(value)}", (value, rise), colour, late, colour == BAD, away, axes.get_xaxis_transform())
        return drawing(figure, _spoken_histogram(lefts, edges, counts, marks, limit))


def river(source: str, rows: int, levels: Sequence[tuple[str, Sequence[Branch]]], width: int) -> Markup:
    """``rows`` flow from top to bottom; at each level branches leave to the right, and what is left is named inside.

    ``levels``: a text for the rows that are left after it, and its branches. Widths are in proportion; the thinnest is a line.
    """
    trunk = round(width * (0.4 if width < 500 else 0.45))
    bank = trunk + 14  # where branches end and their labels begin

    def thick(branch: Branch) -> float:
        return max(1.5, branch.rows * trunk / max(1, rows)) if branch.rows else 0.0

    heights = [34 + sum(max(20.0, thick(branch) + 6) for branch in branches) for _name, branches in levels]
    height = math.ceil(30 + sum(heights) + 26)
    with figure_of(width, height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(0, width), ylim=(height, 0))
        start, right = 30.0, float(trunk)
        shore = [(right, 0.0), (right, start)]
        axes.text(10, 16, source, color=INK, fontweight="bold", va="center")
        for (left_over, branches), level in zip(levels, heights, strict=True):
            at = start + 6
            for branch in branches:
                size = min(thick(branch), right)
                room = max(20.0, size + 6)
                if size:
                    _bend(axes, right, start, bank, at + room / 2, size, branch.passes)
                axes.text(bank + 7, at + room / 2, branch.label, color=INK if branch.passes else SOFT, va="center")
                right -= size
                at += room
            shore += [(right, start), (right, start + level)]
            start += level
            axes.text(10, start - 14, left_over, color=INK, fontweight="bold", va="center")
        shore += [(right / 2, start + min(16, right)), (0, start), (0, 0)]
        axes.fill(*zip(*shore), facecolor=TUNED, alpha=0.22, linewidth=0, clip_on=False, gid="trunk")
        return drawing(figure, _spoken_river(source, levels), "river")


def _bend(axes: Axes, right: float, top: float, bank: float, middle: float, size: float, passes: bool) -> None:
    """A branch: the river's outermost ``size`` pixels turn right, from the height ``top`` to the ``bank`` at ``middle``."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    inner, upper, lower = right - size, middle - size / 2, middle + size / 2
    outside = [(right, top), (right, upper), (right, upper), (bank, upper)]
    inside = [(bank, lower), (inner, lower), (inner, lower), (inner, top), (right, top)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    colour, alpha = (TUNED, 0.5) if passes else (BASE, 0.4)
    axes.add_patch(
        PathPatch(Path([*outside, *inside], codes), facecolor=colour, alpha=alpha, linewidth=0, clip_on=False, gid="branch")
    )


def key(mark: str) -> Markup:
    """The shape of a mark, for legends."""
    line = element("line", class_="whisker", x1="0", x2="16", y1="8", y2="8")
    return element(
        "svg", element("g", line, SHAPES[mark].outline, class_=mark), width="16", height="16", class_="key", aria_hidden="true"
    )


# ── what they say to those who cannot see them ────────────────────────────────────────────────────────────────────────


def _spoken_curve(curve: Curve) -> str:
    parts = []
    if curve.training:
        first, last = curve.training[0], curve.training[-1]
        parts.append(_("training loss from {first:.3f} to {last:.3f}").format(first=Displayed(first[1]), last=Displayed(last[1])))
    if curve.validation:
        first, last = curve.validation[0], curve.validation[-1]
        parts.append(
            _("validation loss from {first:.3f} to {last:.3f}").format(first=Displayed(first[1]), last=Displayed(last[1]))
        )
    return ", ".join(parts)


def _spoken_histogram(
    lefts: Sequence[float], edges: Sequence[int], counts: Sequence[int], marks: Sequence[tuple[str, int]], limit: int
) -> str:
    fullest = max(range(len(counts)), key=counts.__getitem__)
    parts = [
        _("most rows, {rows}, have {low} to {high} tokens").format(
            rows=grouped(counts[fullest]), low=grouped(math.floor(lefts[fullest]) + 1), high=grouped(edges[fullest])
        )
    ]
    parts += [f"{name} {grouped(value)}" for name, value in marks]
    if limit:
        beyond = sum(count for edge, count in zip(edges, counts, strict=True) if edge > limit)
        parts.append(_("limit {limit}, {rows} rows beyond it").format(limit=grouped(limit), rows=grouped(beyond)))
    return "; ".join(parts)


def _spoken_river(source: str, levels: Sequence[tuple[str, Sequence[Branch]]]) -> str:
    return "; ".join([source, *(", ".join([*(branch.label for branch in branches), name]) for name, branches in levels)])
