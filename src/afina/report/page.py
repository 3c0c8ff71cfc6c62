"""The page about a run: plain data in, one HTML file out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from afina.core.translation import _
from afina.core.units import format_bytes, format_duration, grouped
from afina.report.document import document, in_two_sizes, pairs
from afina.report.markup import Markup, element, join
from afina.report.plots import Curve, Estimate, estimates, key, loss_curve

SHOWN_ANSWERS = 8  # the others wait behind a line that opens
KEPT_SHOWN = 1.2  # right end of the axis of the kept gain
SHOWN_ROWS = 200  # refused rows listed for each reason


@dataclass(frozen=True)
class Against:
    """A contender's difference from the first one, its interval, and what it allows to say."""

    difference: str
    interval: str
    verdict: Literal["better", "worse", "too close to tell"]


@dataclass(frozen=True)
class Measure:
    """A line of the table: one metric, an estimate for each contender that has one, and how all but the first stand against the
    first.
    """

    title: str
    explanation: str
    estimates: tuple[Estimate, ...]
    values: tuple[tuple[str, str], ...]  # value and interval, as text, for each contender
    low: float
    high: float
    grid: tuple[float, ...]
    ends: tuple[str, str]  # what stands below the two ends of the axis
    against: tuple[Against | None, ...]


@dataclass(frozen=True)
class Cost:
    """A line below the measures: what an answer takes, a number for each contender."""

    title: str
    explanation: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """One contender's answer. ``obeyed`` is None where the recipe has no pattern; ``asked`` holds the turns of a prompt of its
    own, as role and text.
    """

    contender: str
    mark: str
    text: str
    obeyed: bool | None
    exact: bool
    ended: bool
    asked: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Exchange:
    """A held-out question with what was expected and what was given. ``earlier`` are the turns before it, as role and text."""

    source: str
    earlier: tuple[tuple[str, str], ...]
    question: str
    expected: str
    given: tuple[Given, ...]


@dataclass(frozen=True)
class Side:
    """One side of the split."""

    title: str
    purpose: str
    conversations: int
    tokens: int
    trained_tokens: int


@dataclass(frozen=True)
class Stage:
    """A stage that was run: its time, when it ended (UTC), what it said."""

    name: str
    seconds: float
    finished: str
    summary: str


@dataclass(frozen=True)
class Step:
    """One step from the base to a file: its name, its numbers as text, each with its interval or ``""``; of a file also the share
    of the gain that it keeps.
    """

    title: str
    cells: tuple[tuple[str, str], ...]
    kept: Estimate | None
    is_chosen: bool


@dataclass(frozen=True)
class Page:
    """Everything that the page says. What is empty or None was not done yet and is said so."""

    language: str
    name: str
    headline: str
    facts: tuple[tuple[str, str], ...]  # label and value, at the top
    contenders: tuple[tuple[str, str], ...]  # mark and title
    measures: tuple[Measure, ...]
    costs: tuple[Cost, ...]
    comparison_notes: tuple[str, ...]
    exchanges: tuple[Exchange, ...]
    curve: Curve | None
    training: tuple[tuple[str, str], ...]  # label and value
    ladder_heads: tuple[str, ...]
    ladder: tuple[Step, ...]
    ladder_notes: tuple[str, ...]
    sides: tuple[Side, ...]
    refused: dict[str, tuple[tuple[str, str], ...]]  # check → place and reason
    recipe: str
    files: tuple[tuple[str, int], ...]  # path below the run's folder and bytes
    folder: str
    stages: tuple[Stage, ...]
    versions: dict[str, str]
    commands: tuple[tuple[str, str], ...]  # what to type, and what it does
    written: str


def draw(page: Page) -> str:
    """The whole document."""
    sections = [
        ("result", _("Base against tuned") if len(page.contenders) <= 2 else _("The contenders"), _result(page)),
        ("answers", _("Answers side by side"), _answers(page)),
        ("training", _("Training"), _training(page)),
        ("files", _("What rounding costs"), _ladder(page)),
        ("data", _("Data"), _data(page)),
        ("record", _("Record"), _record(page)),
        ("next", _("What to type next"), _next(page)),
    ]
    return document(page.language, page.name, page.headline, page.facts, sections, page.written)


def _result(page: Page) -> Markup:
    if not page.measures:
        return _missing(_("The contenders have not been compared yet."), f"afina compare {page.name}")
    more = _("Row by row, with quality against cost and how each number was obtained:")
    return join(
        [
            contenders_table(page.contenders, page.measures, page.costs),
            [element("p", note, class_="note") for note in page.comparison_notes],
            element("p", more, " ", element("code", "compare/report.html"), class_="note"),
        ]
    )


def contenders_table(contenders: Sequence[tuple[str, str]], measures: Sequence[Measure], costs: Sequence[Cost]) -> Markup:
    """The legend of the contenders (mark and title) and a table with a line for each measure and cost."""
    legend = element("p", [element("span", key(mark), title, class_="who") for mark, title in contenders], class_="legend")
    titles = [title for _mark, title in contenders]
    of_two = len(titles) == 2
    header = element(
        "tr",
        element("th", _("measure"), scope="col"),
        element("th", _("95 % interval"), scope="col"),
        [element("th", title, scope="col", class_="number") for title in titles],
        [element("th", _("difference"), scope="col", class_="number"), element("th", _("verdict"), scope="col", class_="verdict")]
        if of_two
        else None,
    )
    rows = [_measure(measure, titles) for measure in measures]
    lines = [_cost(cost, titles, 2 if of_two else 0) for cost in costs]
    kind = "measures" if len(titles) <= 3 else "measures many"
    return join([legend, element("table", element("thead", header), element("tbody", rows, lines), class_=kind)])


def _measure(measure: Measure, titles: Sequence[str]) -> Markup:
    """The line of a metric. Of two contenders the difference has columns of its own, of more each verdict stands in its cell."""
    plot = [
        estimates(measure.estimates, measure.low, measure.high, measure.grid),
        element("div", element("span", measure.ends[0]), element("span", measure.ends[1]), class_="ends", aria_hidden="true"),
    ]
    of_two = len(titles) == 2
    told = [None, *(None if of_two else against for against in measure.against)]
    cells = [
        element("th", element("b", measure.title), element("span", measure.explanation, class_="soft"), scope="row"),
        element("td", plot, class_="plot"),
        [_number(title, *text, against) for title, text, against in zip(titles, measure.values, told, strict=True)],
    ]
    if of_two:
        (against,) = measure.against
        cells += [
            _number(_("difference"), against.difference, against.interval) if against else element("td", "–", class_="number"),
            element("td", verdict_word(against.verdict) if against else None, class_="verdict"),
        ]
    return element("tr", *cells)


def _cost(cost: Cost, titles: Sequence[str], left: int) -> Markup:
    """The line of a cost; ``left`` cells stay empty at its end."""
    return element(
        "tr",
        element("th", element("b", cost.title), element("span", cost.explanation, class_="soft"), scope="row"),
        element("td", "", class_="plot"),
        [
            element("td", element("b", value), class_="number", data_title=title)
            for title, value in zip(titles, cost.values, strict=True)
        ],
        [element("td", "") for _cell in range(left)],
    )


def _number(title: str, value: str, interval: str, against: Against | None = None) -> Markup:
    verdict = None
    if against is not None:
        difference = f"{against.difference} ({against.interval})"
        verdict = element("span", verdict_word(against.verdict), title=difference, class_="told")
    return element(
        "td", element("b", value), element("span", interval, class_="soft"), verdict, class_="number", data_title=title
    )


def verdict_word(verdict: str) -> Markup:
    mark, word, kind = {
        "better": ("▲", _("better"), "good"),
        "worse": ("▼", _("worse"), "bad"),
        "too close to tell": ("≈", _("too close to tell"), "unclear"),
    }[verdict]
    return element("span", element("span", mark, aria_hidden="true"), " ", word, class_=f"word {kind}")


def _answers(page: Page) -> Markup:
    if not page.exchanges:
        return _missing(_("No held-out question has been answered yet."), f"afina compare {page.name}")
    cards = [_exchange(number, exchange) for number, exchange in enumerate(page.exchanges, 1)]
    first, rest = cards[:SHOWN_ANSWERS], cards[SHOWN_ANSWERS:]
    more = (
        element("details", element("summary", _("{count} more").format(count=len(rest))), rest, class_="more") if rest else None
    )
    return join([first, more])


def _exchange(number: int, exchange: Exchange) -> Markup:
    head = element(
        "div",
        element("span", f"{number}", class_="count"),
        element("code", file_name(exchange.source), title=exchange.source, class_="place"),
        class_="card-head",
    )
    earlier = turns(_("what came before"), exchange.earlier)
    answers = [_answer(_("expected"), "expected", exchange.expected, [])]
    answers += [_answer(given.contender, given.mark, given.text, marks_of(given), given.asked) for given in exchange.given]
    return element(
        "article",
        head,
        earlier,
        element("p", exchange.question, class_="question", dir="auto"),
        element("div", answers, class_="columns" if len(answers) <= 3 else "columns many"),
        class_="card",
    )


def turns(summary: str, told: Sequence[tuple[str, str]]) -> Markup | None:
    """Turns behind a line that opens; nothing where there are none."""
    if not told:
        return None
    lines = [element("dl", element("dt", role), element("dd", text, dir="auto")) for role, text in told]
    return element("details", element("summary", summary), lines, class_="earlier")


def file_name(place: str) -> str:
    """``tienda.jsonl:4`` of a place in a file."""
    return re.split(r"[\\/]", place)[-1]


def _answer(title: str, mark: str, text: str, marks: Sequence[Markup], asked: Sequence[tuple[str, str]] = ()) -> Markup:
    shown = element("div", text, class_="text", dir="auto") if text.strip() else element("div", _("(empty)"), class_="text soft")
    return element(
        "div",
        element("h3", None if mark == "expected" else key(mark), element("span", title)),
        shown,
        element("p", marks, class_="marks") if marks else None,
        turns(_("what was asked"), asked),
        class_=f"answer {mark}",
    )


def marks_of(given: Given) -> list[Markup]:
    marks = []
    if given.obeyed is not None:
        marks.append(word_mark("✓", _("style obeyed"), "good") if given.obeyed else word_mark("✗", _("style not obeyed"), "bad"))
    if given.exact:
        marks.append(word_mark("=", _("as expected"), "good"))
    if not given.ended:
        marks.append(word_mark("…", _("did not end by itself"), "bad"))
    return marks


def word_mark(sign: str, word: str, kind: str) -> Markup:
    return element("span", element("span", sign, aria_hidden="true"), " ", word, class_=f"word {kind}")


def _training(page: Page) -> Markup:
    if not page.training:
        return _missing(_("Nothing has been trained yet."), f"afina train {page.name}")
    figure = _figure(page.curve) if page.curve else None
    return join([figure, pairs(page.training, "facts small")])


def _figure(curve: Curve) -> Markup:
    keys = [element("span", element("i", class_="swatch training"), _("training loss of each step"))] if curve.training else []
    if curve.validation:
        keys.append(element("span", element("i", class_="swatch validation"), _("validation loss")))
        keys.append(element("span", element("i", class_="swatch best"), _("the adapter that was kept")))
    else:
        keys.append(element("span", _("no validation examples: the last step's adapter was kept")))
    return element(
        "figure",
        element("figcaption", keys, class_="legend"),
        in_two_sizes(loss_curve(curve, 960, 320), loss_curve(curve, 360, 250)),
        element("p", _("mean loss a trained token, in nats"), class_="note"),
        class_="drawn",
    )


def _ladder(page: Page) -> Markup:
    if not page.ladder:
        return _missing(_("Nothing has been exported yet."), f"afina export {page.name}")
    with_plot = any(step.kept for step in page.ladder)
    header = element(
        "tr",
        element("th", _("step"), scope="col"),
        element("th", _("gain kept, 95 % interval"), scope="col") if with_plot else None,
        [element("th", head, scope="col", class_="number") for head in page.ladder_heads],
    )
    steps = [_step(step, page.ladder_heads, with_plot=with_plot) for step in page.ladder]
    table = element("table", element("thead", header), element("tbody", steps), class_="plain sides four ladder")
    return join(
        [
            element("div", table, class_="scrolled"),
            [element("p", note, class_="note") for note in page.ladder_notes],
        ]
    )


def _step(step: Step, heads: Sequence[str], *, with_plot: bool) -> Markup:
    chosen = element("span", _("deployed"), class_="word good") if step.is_chosen else None
    plot = None
    if step.kept is not None:
        plot = [
            estimates((step.kept,), 0.0, KEPT_SHOWN, (0, 0.5, 1.0)),
            element("div", element("span", "0"), element("span", f"{100 * KEPT_SHOWN:.0f} %"), class_="ends", aria_hidden="true"),
        ]
    return element(
        "tr",
        element("th", element("b", step.title), " ", chosen, scope="row"),
        element("td", plot, class_="plot") if with_plot else None,
        [
            element(
                "td",
                value,
                element("span", interval, class_="soft") if interval else None,
                class_="number",
                data_title=head if value else None,
            )
            for head, (value, interval) in zip(heads, step.cells, strict=True)
        ],
    )


def _data(page: Page) -> Markup:
    rows = [
        element(
            "tr",
            element("th", element("b", side.title), element("span", side.purpose, class_="soft"), scope="row"),
            [
                element("td", grouped(count), class_="number", data_title=title)
                for title, count in (
                    (_("conversations"), side.conversations),
                    (_("tokens"), side.tokens),
                    (_("trained tokens"), side.trained_tokens),
                )
            ],
        )
        for side in page.sides
    ]
    header = element(
        "tr",
        element("th", _("part"), scope="col"),
        [element("th", title, scope="col", class_="number") for title in (_("conversations"), _("tokens"), _("trained tokens"))],
    )
    count = sum(len(found) for found in page.refused.values())
    refused = [
        element("h3", _("{count} refused rows").format(count=grouped(count)) if count else _("No row was refused")),
        [_refused(check, found) for check, found in page.refused.items()],
    ]
    return join([element("table", element("thead", header), element("tbody", rows), class_="plain sides"), refused])


def _refused(check: str, found: Sequence[tuple[str, str]]) -> Markup:
    shown = [element("li", element("code", place), " ", reason) for place, reason in found[:SHOWN_ROWS]]
    left = len(found) - len(shown)
    more = element("li", _("and {count} more, all in prepare/findings.jsonl").format(count=grouped(left))) if left else None
    summary = element("summary", element("b", check), " ", element("span", grouped(len(found)), class_="soft"))
    return element("details", summary, element("ul", shown, more), class_="refused", open="" if len(found) <= 12 else None)


def _record(page: Page) -> Markup:
    longest = max([stage.seconds for stage in page.stages], default=0) or 1
    stages = [
        element(
            "tr",
            element("th", element("b", stage.name), element("span", stage.summary, class_="soft"), scope="row"),
            element(
                "td",
                element("i", class_="bar", style=f"width:{100 * stage.seconds / longest:.1f}%"),
                class_="bars",
                aria_hidden="true",
            ),
            element("td", format_duration(stage.seconds), class_="number", data_title=_("time")),
            element("td", stage.finished, class_="number soft", data_title=_("finished (UTC)")),
        )
        for stage in page.stages
    ]
    stage_header = element(
        "tr",
        element("th", _("stage"), scope="col"),
        element("td", ""),
        element("th", _("time"), scope="col", class_="number"),
        element("th", _("finished (UTC)"), scope="col", class_="number"),
    )
    files = [
        element("tr", element("th", element("code", path), scope="row"), element("td", format_bytes(size), class_="number"))
        for path, size in page.files
    ]
    return join(
        [
            element("h3", _("Times")),
            element("table", element("thead", stage_header), element("tbody", stages), class_="plain stages"),
            element("h3", _("Files in {folder}").format(folder=page.folder)),
            element("table", element("tbody", files), class_="plain files"),
            element("h3", _("Versions")),
            pairs(tuple(page.versions.items()), "facts small"),
            element(
                "details",
                element("summary", _("the recipe as it was run")),
                element("pre", page.recipe, tabindex="0"),
                class_="recipe",
            ),
        ]
    )


def _next(page: Page) -> Markup:
    return element(
        "dl",
        [[element("dt", element("code", command)), element("dd", purpose)] for command, purpose in page.commands],
        class_="commands",
    )


def _missing(text: str, command: str) -> Markup:
    return element("p", text, " ", element("code", command), class_="missing")


def headline(verdicts: Sequence[str], examples: int) -> str:
    """The comparison of base and tuned model in a sentence."""
    better = _("On {examples} held-out examples the tuned model is better than the base in {better} of {all} measures").format(
        examples=grouped(examples), better=verdicts.count("better"), all=len(verdicts)
    )
    return ", ".join([better, *_other_verdicts(verdicts)]) + "."


def headline_of_several(verdicts: Mapping[str, Sequence[str]], first: str, examples: int) -> str:
    """The comparison of other or more contenders: each one's verdicts against the ``first``, by its title."""
    parts = []
    for title, told in verdicts.items():
        better = _("{contender} better in {better} of {all} measures").format(
            contender=title, better=told.count("better"), all=len(told)
        )
        parts.append(", ".join([better, *_other_verdicts(told)]))
    start = _("On {examples} held-out examples, against {first}").format(examples=grouped(examples), first=first)
    return f"{start}: {'; '.join(parts)}."


def _other_verdicts(verdicts: Sequence[str]) -> list[str]:
    worse, unclear = verdicts.count("worse"), verdicts.count("too close to tell")
    parts = [_("worse in {count}").format(count=worse)] if worse else []
    return [*parts, _("too close to tell in {count}").format(count=unclear)] if unclear else parts
