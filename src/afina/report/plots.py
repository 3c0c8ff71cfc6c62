"""Plots as inline SVG: a loss curve, and a dot with a whisker for each estimate. Colours and fonts come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from afina.core.translation import _
from afina.report.markup import Markup, element

_MOST_POINTS = 240  # more steps than a screen has room for are averaged


@dataclass(frozen=True)
class Curve:
    """Losses by step. ``best``: the step whose adapter was kept, where there was validation."""

    training: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    best: int | None


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; ``mark`` is the shape: hollow circle for the base, filled diamond for the tuned model."""

    label: str
    value: float
    low: float
    high: float
    mark: str  # base or tuned


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten apart) that span ``low`` to ``high``, roughly ``about`` of them."""
    span = max(high - low, 1e-4 * abs(high), 1e-4)  # what differs by less has a label of its own nowhere
    power = 10 ** math.floor(math.log10(span / about))
    step = min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(span / step - about))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, max(last, first + 1) + 1)]


def number(value: float) -> str:
    """A tick's label: as short as the number is."""
    return f"{value:,.10g}"


def loss_curve(curve: Curve, width: int, height: int) -> Markup:
    """Training and validation loss over the steps, with the best checkpoint marked; ``width`` and ``height`` in CSS pixels."""
    training = averaged(curve.training, _MOST_POINTS)
    points = [*training, *curve.validation]
    last = max(1, *(step for step, _loss in points))
    x_ticks = [tick for tick in ticks(0, last, 4 if width < 500 else 8) if tick == int(tick) and tick <= last]
    y_ticks = ticks(min(loss for _step, loss in points), max(loss for _step, loss in points), 5)
    left, right, top, bottom = 46, width - 14, 12, height - 40

    def x(step: float) -> float:
        return round(left + (right - left) * step / last, 1)

    def y(loss: float) -> float:
        return round(bottom - (bottom - top) * (loss - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]), 1)

    parts = [_line("grid", left, y(tick), right, y(tick)) for tick in y_ticks]
    parts += [_label(number(tick), left - 8, y(tick) + 4, "end") for tick in y_ticks]
    parts += [_label(number(tick), x(tick), bottom + 18, "middle") for tick in x_ticks]
    parts.append(_line("axis", left, bottom, right, bottom))
    parts.append(_label(_("step"), right, height - 4, "end"))
    if training:
        parts.append(_path("training", [(x(step), y(loss)) for step, loss in training]))
    if curve.validation:
        parts.append(_path("validation", [(x(step), y(loss)) for step, loss in curve.validation]))
        parts += [_circle("validation", x(step), y(loss), 2.6) for step, loss in averaged(curve.validation, 40)]
    best = next(((step, loss) for step, loss in curve.validation if step == curve.best), None)
    if best is not None:
        parts.append(_circle("best", x(best[0]), y(best[1]), 6.5))
        # The label stands above its point, away from the side that is nearer; a halo keeps it readable over the lines.
        late = best[0] > last * 0.6
        loss = f"{best[1]:.3f}"
        text = loss if width < 500 else _("best: {loss} at step {step}").format(loss=loss, step=best[0])
        parts.append(_label(text, x(best[0]) + (6 if late else -6), y(best[1]) - 14, "end" if late else "start", "best"))
    return element(
        "svg",
        *parts,
        viewBox=f"0 0 {width} {height}",
        width=str(width),
        height=str(height),
        role="img",
        aria_label=_spoken(curve),
    )


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


def _spoken(curve: Curve) -> str:
    parts = []
    if curve.training:
        first, last = curve.training[0], curve.training[-1]
        parts.append(_("training loss from {first:.3f} to {last:.3f}").format(first=first[1], last=last[1]))
    if curve.validation:
        first, last = curve.validation[0], curve.validation[-1]
        parts.append(_("validation loss from {first:.3f} to {last:.3f}").format(first=first[1], last=last[1]))
    return ", ".join(parts)


def estimates(dots: Sequence[Estimate], low: float, high: float, grid: Sequence[float]) -> Markup:
    """A lane for each estimate on an axis from ``low`` to ``high``: its interval and its dot. As wide as its place."""
    lane, gap = 20, 6
    height = gap * 2 + lane * len(dots)

    def x(value: float) -> str:
        return f"{100 * (min(max(value, low), high) - low) / (high - low):.2f}%"

    parts = [_percent_line("grid", x(tick), x(tick), 0, height) for tick in grid]
    for place, dot in enumerate(dots):
        y = gap + lane * place + lane // 2
        whisker = [_percent_line("whisker", x(dot.low), x(dot.high), y, y)]
        whisker += [
            _percent_line("whisker end", x(end), x(end), y - 4, y + 4) for end in (dot.low, dot.high) if low <= end <= high
        ]
        shape = element("svg", _shape(dot.mark, y), x=x(dot.value), overflow="visible")
        parts.append(element("g", element("title", dot.label), whisker, shape, class_=dot.mark))
    return element(
        "svg", *parts, class_="estimates", height=f"{height}", role="img", aria_label="; ".join(dot.label for dot in dots)
    )


def key(mark: str) -> Markup:
    """The shape of a mark, for legends."""
    shape = element("svg", _shape(mark, 8), x="8", overflow="visible")
    line = element("line", class_="whisker", x1="0", x2="16", y1="8", y2="8")
    return element("svg", element("g", line, shape, class_=mark), width="16", height="16", class_="key", aria_hidden="true")


def _shape(mark: str, y: int) -> Markup:
    if mark == "base":
        return element("circle", cx="0", cy=f"{y}", r="5")
    return element("path", d=f"M0 {y - 6.5}L6.5 {y}L0 {y + 6.5}L-6.5 {y}Z")


def _percent_line(kind: str, x1: str, x2: str, y1: float, y2: float) -> Markup:
    return element("line", class_=kind, x1=x1, x2=x2, y1=f"{y1}", y2=f"{y2}")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    return element("line", class_=kind, x1=f"{x1}", y1=f"{y1}", x2=f"{x2}", y2=f"{y2}")


def _path(kind: str, points: Sequence[tuple[float, float]]) -> Markup:
    return element("path", class_=kind, d="M" + "L".join(f"{x} {y}" for x, y in points))


def _circle(kind: str, x: float, y: float, radius: float) -> Markup:
    return element("circle", class_=kind, cx=f"{x}", cy=f"{y}", r=f"{radius}")


def _label(text: str, x: float, y: float, anchor: str, kind: str | None = None) -> Markup:
    return element("text", text, x=f"{x}", y=f"{y}", text_anchor=anchor, class_=kind)
