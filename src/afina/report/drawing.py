"""Matplotlib as the page's draughtsman: a figure in, an ``<svg>`` out that fits the page in light and in dark.

Colours are names of the style sheet (CSS variables); texts stay text, in the page's font; nothing has an id but what needs one,
and the same values give the same bytes. One unit of a drawing is a CSS pixel.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from afina.report.markup import Markup, element

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

_TEXT = 12  # pixels

MARKS = ("base", "plus", "few", "rag", "tuned", "tuned-rag", "other")  # of the contenders

# Colours that nobody would choose stand for the names of the style sheet until the drawing is written.
_COLOURS = {
    name: f"#0a0b{number:02x}"
    for number, name in enumerate(
        ("ink", "soft", "line", "base", "tuned", "paper", "bad", "few", "rag", "tuned-rag", "plus", "other"), 16
    )
}
INK, SOFT, LINE, BASE, TUNED, PAPER, BAD, FEW, RAG, TUNED_RAG, PLUS, OTHER = _COLOURS.values()


def load() -> None:
    """Loads matplotlib, which takes a third of a second, so that the first figure need not."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its cache of fonts, of which none is shown
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401


@contextmanager
def figure_of(width: int, height: int) -> Iterator[Figure]:
    """An empty figure, drawn and written under matplotlib's own defaults: no file of the user's changes a page."""
    load()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "text.parse_math": False, "font.size": _TEXT})
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has the letters
        yield Figure((width / 72, height / 72), dpi=72, facecolor="none")


def axes_in(figure: Figure, left: int, right: int, top: int, bottom: int) -> Axes:
    """Axes inside these margins (pixels): a line at the bottom, a faint grid, labels without ticks."""
    width, height = figure.get_size_inches() * 72
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    axes = figure.add_axes(box, facecolor="none")
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(SOFT)
    axes.grid(axis="y", color=LINE, linewidth=1, clip_on=False)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, pad=7, labelcolor=SOFT)
    return axes


def label(
    axes: Axes,
    text: str,
    point: tuple[float, float],
    colour: str,
    late: bool,
    bold: bool = False,
    away: tuple[int, int] = (0, 0),
    frame: str | Transform = "data",
) -> None:
    """A text beside a point of ``frame``, ``away`` pixels from it; it ends there where the point is ``late`` on its axis. A halo
    keeps it readable over lines.
    """
    axes.annotate(
        text,
        point,
        xycoords=frame,
        xytext=away,
        textcoords="offset pixels",
        ha="right" if late else "left",
        color=colour,
        fontweight="bold" if bold else "normal",
        gid="halo",
    )


def drawing(figure: Figure, spoken: str, kind: str | None = None) -> Markup:
    """The figure as an ``<svg>`` that can stand in a page: our colours, no fonts, no ids but those that it needs."""
    import matplotlib as mpl

    width, height = (round(72 * inches) for inches in figure.get_size_inches())
    # Ids of shapes come from this: no two drawings of a page may have the same.
    salt = hashlib.sha256(f"{kind} {width} {height} {spoken}".encode()).hexdigest()
    written = io.StringIO()
    mpl.rcParams["svg.hashsalt"] = salt
    figure.savefig(written, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    body = re.search(r"</style>\s*</defs>(.*)</svg>", written.getvalue(), re.DOTALL)
    assert body, "matplotlib writes its style first"
    content = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0]), body[1])
    content = re.sub(r">\s+<", "><", content.strip())
    return element(
        "svg",
        Markup(content),
        viewBox=f"0 0 {width} {height}",
        width=f"{width}",
        height=f"{height}",
        class_=kind,
        role="img",
        aria_label=spoken,
    )


_OWN_NAMES = frozenset({"training", "validation", "best", "halo", "mark", "trunk", "branch", "grid"}) | {
    f"{mark} {part}" for mark in MARKS for part in ("whisker", "end", "dot")
}


def _tag(tag: str) -> str:
    """One tag of matplotlib's, made fit for a page."""
    for name, colour in _COLOURS.items():
        tag = tag.replace(colour, f"var(--{name})")
    if tag.startswith("<g id="):
        tag = re.sub(r' id="([^"]*)"', lambda name: f' class="{name[1]}"' if name[1] in _OWN_NAMES else "", tag)
    tag = re.sub(r"font-family: [^;]*; ", "", tag)
    tag = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", tag)
    tag = re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), tag)
    return re.sub(r"\s*\n\s*", " ", tag)
