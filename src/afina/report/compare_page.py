"""The page about a comparison: plain data in, one HTML file out. Rows are sorted by the style sheet alone, without a script."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afina.core.translation import _
from afina.core.units import format_share, grouped
from afina.report.document import document, in_two_sizes, pairs
from afina.report.markup import Markup, element, join
from afina.report.page import Cost, Given, Measure, contenders_table, file_name, marks_of, turns, word_mark
from afina.report.plots import Estimate, key, quality_over
from afina.report.prepare_page import differences

_MOST_ROWS = 500  # on the page; all of them are in answers.jsonl


@dataclass(frozen=True)
class Kind:
    """The measures of one kind of question, over ``count`` questions."""

    title: str
    count: int
    measures: tuple[Measure, ...]


@dataclass(frozen=True)
class Over:
    """Quality over a cost: the cost's name, the quality's, its highest value, and for each contender the cost and the value."""

    axis: str
    title: str
    high: float
    dots: tuple[tuple[float, Estimate], ...]


@dataclass(frozen=True)
class Rule:
    """A rule of form, and the share of each contender's answers that obey it."""

    text: str
    shares: tuple[str, ...]


@dataclass(frozen=True)
class Answered:
    """An answer with its number in the metric that rows are sorted by."""

    given: Given
    score: float


@dataclass(frozen=True)
class RowOfAnswers:
    """A held-out question, its kind, what was expected, and each contender's answer, in their order."""

    source: str
    kind: str
    earlier: tuple[tuple[str, str], ...]
    question: str
    expected: str
    answers: tuple[Answered, ...]


@dataclass(frozen=True)
class ComparePage:
    """Everything that the page says. ``sorted_by``: the metric of the rows."""

    language: str
    name: str
    headline: str
    facts: tuple[tuple[str, str], ...]
    contenders: tuple[tuple[str, str], ...]  # mark and title
    measures: tuple[Measure, ...]
    kinds: tuple[Kind, ...]
    costs: tuple[Cost, ...]
    notes: tuple[str, ...]
    over: tuple[Over, ...]
    rules: tuple[Rule, ...]
    sorted_by: str
    rows: tuple[RowOfAnswers, ...]
    reasons: tuple[tuple[str, str], ...]  # metric and why it is measured
    written: str


def draw(page: ComparePage) -> str:
    """The whole document."""
    sections = [
        ("result", _("The contenders"), _result(page)),
        ("kinds", _("Knowledge and style"), _kinds(page)),
        ("cost", _("Quality against cost"), _over(page)),
        ("rules", _("Rules of form"), _rules(page)),
        ("rows", _("Row by row"), _rows(page)),
        ("numbers", _("How each number was obtained"), _reasons(page)),
    ]
    return document(page.language, page.name, page.headline, page.facts, sections, page.written)


def _result(page: ComparePage) -> Markup:
    notes = [element("p", note, class_="note") for note in page.notes]
    return join([contenders_table(page.contenders, page.measures, page.costs), notes])


def _kinds(page: ComparePage) -> Markup:
    if not page.kinds:
        text = _(
            "All questions are of one kind. A column kind in the data, such as knowledge or style, tells them apart by hand."
        )
        return element("p", text, class_="soft")
    return join(
        [
            [
                element("h3", _("{title}: {count}").format(title=kind.title, count=grouped(kind.count))),
                contenders_table(page.contenders, kind.measures, ()),
            ]
            for kind in page.kinds
        ]
    )


def _over(page: ComparePage) -> Markup:
    legend = element("p", [element("span", key(mark), title, class_="who") for mark, title in page.contenders], class_="legend")
    figures = [
        element(
            "figure",
            element("figcaption", _("{quality} over {cost}").format(quality=over.title, cost=over.axis), class_="soft"),
            in_two_sizes(*(quality_over(over.dots, over.axis, over.high, width, 260) for width in (460, 340))),
            class_="drawn",
        )
        for over in page.over
    ]
    return join([legend, element("div", figures, class_="columns")])


def _rules(page: ComparePage) -> Markup:
    if not page.rules:
        return element(
            "p", _("There are no rules: the training answers have no form in common, or compare.checks is empty."), class_="soft"
        )
    titles = [title for _mark, title in page.contenders]
    header = element(
        "tr",
        element("th", _("an answer …"), scope="col"),
        [element("th", title, scope="col", class_="number") for title in titles],
    )
    rows = [
        element(
            "tr",
            element("th", rule.text, scope="row", class_="rule"),
            [element("td", share, class_="number", data_title=title) for title, share in zip(titles, rule.shares, strict=True)],
        )
        for rule in page.rules
    ]
    return element("table", element("thead", header), element("tbody", rows), class_="plain sides")


# ── row by row ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(page: ComparePage) -> Markup:
    """The questions as cards, and a button for each order. A card knows its place in each order; the style sheet sorts."""
    orders = _orders(page)
    chosen = len(orders) - 1 if len(page.contenders) == 1 else len(page.contenders) - 1
    buttons = [
        [
            element("input", type="radio", name="order", id=f"order-{number}", checked="" if number == chosen else None),
            element("label", text, for_=f"order-{number}"),
        ]
        for number, (text, _places) in enumerate(orders)
    ]
    shown = page.rows[:_MOST_ROWS]
    cards = [
        _card(row, {number: places[place] for number, (_text, places) in enumerate(orders)}) for place, row in enumerate(shown)
    ]
    text = _("Sorted by {metric}, the worst of the chosen contender first. Words that the expected answer has not are marked.")
    more = (
        _("{count} more are in answers.jsonl.").format(count=len(page.rows) - len(shown)) if len(page.rows) > len(shown) else ""
    )
    return join(
        [
            element("p", text.format(metric=page.sorted_by), " ", more, class_="note"),
            element("div", buttons, element("div", cards, class_="cards"), class_="sortable"),
        ]
    )


def _orders(page: ComparePage) -> list[tuple[str, list[int]]]:
    """Ways to sort the rows, each with the place of every row in it."""
    scores = [[answered.score for answered in row.answers] for row in page.rows]
    found = [
        (_("worst of {contender}").format(contender=title), _places([row[number] for row in scores]))
        for number, (_mark, title) in enumerate(page.contenders)
    ]
    if len(page.contenders) > 1:
        first, last = page.contenders[0][1], page.contenders[-1][1]
        text = _("{last} behind {first}").format(last=last, first=first)
        found.append((text, _places([row[-1] - row[0] for row in scores])))
    return [*found, (_("as in the file"), list(range(len(page.rows))))]


def _places(values: Sequence[float]) -> list[int]:
    order = sorted(range(len(values)), key=lambda row: values[row])
    places = [0] * len(values)
    for place, row in enumerate(order):
        places[row] = place
    return places


def _card(row: RowOfAnswers, places: dict[int, int]) -> Markup:
    head = element(
        "div",
        element("code", file_name(row.source), title=row.source, class_="place"),
        element("span", row.kind) if row.kind else None,
        class_="card-head",
    )
    first = row.answers[0].score
    answers = [_answer(row.expected, one, first if number else None) for number, one in enumerate(row.answers)]
    expected = element(
        "div",
        element("h3", element("span", _("expected"))),
        element("div", row.expected, class_="text", dir="auto"),
        class_="answer expected",
    )
    return element(
        "article",
        head,
        turns(_("what came before"), row.earlier),
        element("p", row.question, class_="question", dir="auto"),
        element("div", expected, answers, class_="columns" if len(answers) <= 2 else "columns many"),
        class_="card twins",
        style=";".join(f"--o{number}:{place}" for number, place in places.items()),
    )


def _answer(expected: str, answered: Answered, first: float | None) -> Markup:
    given = answered.given
    parts = differences(expected, given.text)[1]
    text: object = [element("mark", part) if marked and part.strip() else part for part, marked in parts]
    stands = None
    if first is not None and answered.score != first:
        stands = word_mark("▲", _("wins"), "good") if answered.score > first else word_mark("▼", _("loses"), "bad")
    shown = (
        element("div", text, class_="text", dir="auto")
        if given.text.strip()
        else element("div", _("(empty)"), class_="text soft")
    )
    score = element("span", format_share(answered.score), class_="soft")
    return element(
        "div",
        element("h3", key(given.mark), element("span", given.contender), score),
        shown,
        element("p", stands, marks_of(given), class_="marks"),
        turns(_("what was asked"), given.asked),
        class_=f"answer {given.mark}",
    )


def _reasons(page: ComparePage) -> Markup:
    return pairs(page.reasons, "facts small reasons")
