"""The page about a learning curve: plain data in, one HTML file out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afina.core.translation import _
from afina.core.units import Displayed, format_count
from afina.report.document import document, in_two_sizes, pairs
from afina.report.drawing import BASE, INK, SOFT, TUNED, axes_in, drawing, figure_of, label
from afina.report.markup import Markup, element, join
from afina.report.plots import number, ticks


@dataclass(frozen=True)
class Point:
    """Trainings on so many ``examples``: the mean loss, between which it lies, and that of each seed."""

    examples: int
    loss: float
    low: float
    high: float
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Drawn:
    """The chart: measured points, and the fitted law with its band; empty where too few sizes were measured."""

    points: tuple[Point, ...]
    sizes: tuple[float, ...]
    middle: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """Titles and rows of texts; the first cell of a row names it."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class CurvePage:
    """Everything that the page says. ``next_steps``: a command or a sentence each."""

    language: str
    name: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    chart: Drawn
    sizes: Table
    kinds: Table | None
    no_kinds: str
    next_steps: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    written: str


def draw(page: CurvePage) -> str:
    """The whole document."""
    kinds = element("p", page.no_kinds) if page.kinds is None else _table(page.kinds)
    sections = [
        ("curve", _("Held-out loss by the number of examples"), join([_figure(page.chart), _table(page.sizes)])),
        ("kinds", _("By kind of question"), kinds),
        ("how", _("How it was measured"), join([element("p", note) for note in page.notes])),
        ("next", _("What to do next"), pairs(page.next_steps, "facts small")),
    ]
    return document(page.language, page.name, page.headline, page.facts, sections, page.written)


def _figure(chart: Drawn) -> Markup:
    keys = [
        element(
            "span",
            element("i", class_="swatch best"),
            _("a training; the line is the 95 % interval over seeds and held-out examples"),
        ),
        element("span", element("i", class_="swatch validation"), _("the fitted law; in its band it lies 95 times in 100")),
    ]
    return element(
        "figure",
        element("figcaption", keys, class_="legend"),
        in_two_sizes(learning_plot(chart, 960, 340), learning_plot(chart, 360, 260)),
        element("p", _("mean held-out loss a trained token, in nats; the axis of the examples is logarithmic"), class_="note"),
        class_="drawn",
    )


def learning_plot(chart: Drawn, width: int, height: int) -> Markup:
    """The losses over the number of examples, the law behind them; ``width`` and ``height`` in CSS pixels."""
    seen = [loss for point in chart.points for loss in (point.low, point.high, *point.losses)]
    ends = [*seen, *chart.middle]  # the band may run out of the picture
    y_ticks = ticks(min(ends), max(ends), 5)
    sizes = [point.examples for point in chart.points]
    x_ticks = [*sizes, *([round(chart.sizes[-1])] if chart.sizes else [])]
    with figure_of(width, height) as figure:
        axes = axes_in(figure, left=46, right=20, top=14, bottom=40)
        axes.set_xscale("log")
        axes.set(xlim=(min(sizes) / 1.1, max(x_ticks) * 1.1), ylim=(y_ticks[0], y_ticks[-1]))
        axes.minorticks_off()
        axes.set_xticks(x_ticks, [format_count(tick) for tick in x_ticks])
        axes.set_yticks(y_ticks, map(number, y_ticks))
        axes.text(1, -36 / (height - 54), _("training examples"), transform=axes.transAxes, ha="right", color=SOFT)
        if chart.sizes:
            bottom, top = y_ticks[0], y_ticks[-1]
            low, high = ([min(max(loss, bottom), top) for loss in losses] for losses in (chart.low, chart.high))
            axes.fill_between(chart.sizes, low, high, color=TUNED, alpha=0.15, linewidth=0, gid="trunk")
            axes.plot(chart.sizes, chart.middle, color=TUNED, linewidth=2, gid="validation")
        for point in chart.points:
            place = point.examples
            axes.plot((place, place), (point.low, point.high), color=BASE, linewidth=2, clip_on=False, gid="base whisker")
            axes.plot([place] * len(point.losses), point.losses, "o", mfc="none", mec=TUNED, mew=1.5, markersize=6, clip_on=False)
        last = chart.points[-1]
        label(axes, f"{Displayed(last.loss):.3f}", (last.examples, last.loss), INK, late=True, bold=True, away=(-8, 10))
        return drawing(figure, _spoken(chart), "learning")


def _spoken(chart: Drawn) -> str:
    first, last = chart.points[0], chart.points[-1]
    return _("held-out loss from {first:.3f} with {few} examples to {last:.3f} with {many}").format(
        first=Displayed(first.loss), few=first.examples, last=Displayed(last.loss), many=last.examples
    )


def _table(table: Table) -> Markup:
    head, *others = table.heads
    header = element(
        "tr", element("th", head, scope="col"), [element("th", title, scope="col", class_="number") for title in others]
    )
    return element(
        "table",
        element("thead", header),
        element("tbody", [_row(row, others) for row in table.rows]),
        class_="plain sides four",
    )


def _row(row: Sequence[str], titles: Sequence[str]) -> Markup:
    name, *cells = row
    return element(
        "tr",
        element("th", element("b", name), scope="row"),
        [element("td", cell, class_="number", data_title=title) for title, cell in zip(titles, cells, strict=True)],
    )
