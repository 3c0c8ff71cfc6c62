"""The page about a deployment's proof: plain data in, one HTML file out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from afina.core.translation import _
from afina.core.units import Displayed, format_duration, grouped
from afina.report.document import document, pairs
from afina.report.markup import Markup, element, join


@dataclass(frozen=True)
class Parting:
    """Where the served text parts from that of training: after ``place`` characters; excerpts from a little before it on, which
    are the same for ``common`` characters.
    """

    place: int
    common: int
    wanted: str
    got: str


@dataclass(frozen=True)
class Case:
    """One question that was put to the served model, and what came of it. None: not told, or not compared.

    ``difference``: of a first token's log-probability, in nats; at most ``allowed`` is rounding.
    """

    name: str
    question: str
    same_text: bool | None
    tokens: int
    wanted_tokens: int
    same_tokens: bool
    difference: float | None = None
    allowed: float | None = None
    remark: str = ""
    parting: Parting | None = None

    @property
    def was_asked(self) -> bool:
        return self.tokens > 0

    @property
    def is_good(self) -> bool:
        return self.same_tokens and self.same_text is not False


@dataclass(frozen=True)
class NearTie:
    """A place of an answer where rounding decided between two tokens; torch's is likelier by ``margin`` nats."""

    kind: str
    source: str
    place: int
    torch: str
    llama: str
    margin: float


@dataclass(frozen=True)
class ProofPage:
    """All that is on the page. ``facts`` are about the deployment, ``file_facts`` about the file and its export, ``inside`` about
    the model's own answers where it is served.
    """

    language: str
    name: str
    verdict: str
    facts: tuple[tuple[str, str], ...]
    held_out: tuple[Case, ...]
    hard: tuple[Case, ...]
    inside: tuple[str, ...]
    question: str
    answer: str
    ended: bool
    file_facts: tuple[tuple[str, str], ...]
    sha256: str
    near_ties: tuple[NearTie, ...]
    version: str
    finished: str
    seconds: float


def draw(page: ProofPage) -> str:
    """The whole document."""
    parted = [case for case in (*page.held_out, *page.hard) if case.parting is not None]
    sections = [
        ("held-out", _("Held-out questions"), _held_out(page.held_out)),
        ("hard", _("Hard cases"), _hard(page.hard)),
        *([("differences", _("Where the text is another one"), join(map(_parting, parted)))] if parted else []),
        *([("inside", _("Inside Ollama"), _inside(page.inside))] if page.inside else []),
        ("answer", _("An answer"), _answer(page)),
        ("file", _("The file"), _file(page)),
    ]
    footer = _("afina {version}; proved {when} (UTC) in {time}").format(
        version=page.version, when=page.finished.replace("T", " ").removesuffix("Z"), time=format_duration(page.seconds)
    )
    return document(page.language, page.name, page.verdict, page.facts, sections, footer)


def _held_out(cases: Sequence[Case]) -> Markup:
    note = _(
        "Each must be read as in training: the same text, letter for letter, and the same number of tokens. What the model would "
        "say first must be as likely as for the same file on this machine; shown is how far the likely ones are off, in nats "
        "(what it would say less than once in 10,000 times may be off by five times as much). One that fails ends the deployment "
        "and is not here."
    )
    if all(case.difference is None for case in cases):
        note += " " + _("Likelihoods were not asked for again: what serves here is the llama.cpp that the export measured.")
    return join([_cases(cases), element("p", note, class_="note")])


def _hard(cases: Sequence[Case]) -> Markup:
    if not cases:
        return element("p", _("None was asked."), class_="soft")
    note = _(
        "What people send sooner or later. One that is read otherwise ends nothing, but do not rely on such questions: the model "
        "then reads what it was never trained on."
    )
    return join([_cases(cases), element("p", note, class_="note")])


def _inside(lines: Sequence[str]) -> Markup:
    note = _(
        "Within held-out answers Ollama is asked what comes next, and so is the same file in the embedded llama.cpp. The answers "
        "are to some of the comparison's questions, and are measured as there."
    )
    return join([element("ul", [element("li", line) for line in lines]), element("p", note, class_="note")])


def _cases(cases: Sequence[Case]) -> Markup:
    titles = (_("text"), _("tokens, served"), _("tokens, training"), _("likelihood off by"))
    header = element(
        "tr", element("th", _("question"), scope="col"), [element("th", title, scope="col", class_="number") for title in titles]
    )
    return element(
        "table", element("thead", header), element("tbody", [_case(case, titles) for case in cases]), class_="plain sides four"
    )


def _case(case: Case, titles: Sequence[str]) -> Markup:
    name = [
        element("b", case.name) if case.name else None,
        element("span", _visible(case.question), class_="soft", dir="auto"),
        element("span", case.remark, class_="told soft") if case.remark else None,
    ]
    cells = (
        _verdict(case),
        grouped(case.tokens) if case.was_asked else "–",
        grouped(case.wanted_tokens),
        "–" if case.difference is None else _off(case.difference, case.allowed),
    )
    return element(
        "tr",
        element("th", name, scope="row"),
        [element("td", cell, class_="number", data_title=title) for cell, title in zip(cells, titles, strict=True)],
    )


def _verdict(case: Case) -> Markup:
    if not case.was_asked:
        return element("span", _("not asked"), class_="soft")
    if case.same_text is None:
        return element("span", _("not told"), class_="soft")
    if case.same_text:
        return element("span", element("span", "✓ ", aria_hidden="true"), _("the same"), class_="good")
    return element("span", element("span", "✗ ", aria_hidden="true"), _("another one"), class_="bad")


def _off(difference: float, allowed: float | None) -> list[Markup | str]:
    shown = f"{Displayed(difference):.2g}"
    if allowed is None:
        return [shown]
    return [shown, element("span", _("at most {allowed:g}").format(allowed=Displayed(allowed)), class_="soft")]


def _parting(case: Case) -> Markup:
    assert case.parting is not None
    found = case.parting
    head = [element("b", case.name), element("span", _("from character {place} on").format(place=grouped(found.place + 1)))]
    columns = [
        element(
            "div",
            element("h3", title),
            element("div", _visible(text[: found.common]), element("mark", _visible(text[found.common :]) or "∅"), class_="text"),
            class_="answer",
        )
        for title, text in ((_("in training"), found.wanted), (_("as it is served"), found.got))
    ]
    return element(
        "article", element("p", head, class_="card-head"), element("div", columns, class_="columns"), class_="card twins"
    )


def _visible(text: str) -> str:
    """Blanks at the ends and line ends, which decide here, as signs."""
    start, end = len(text) - len(text.lstrip(" ")), len(text.rstrip(" "))
    shown = text if start >= end else "␣" * start + text[start:end] + "␣" * (len(text) - end)
    return shown.replace("\n", "⏎\n")


def _answer(page: ProofPage) -> Markup:
    how = _("It ended by itself.") if page.ended else _("It did not end by itself: train longer before anybody relies on it.")
    return join(
        [
            element(
                "article",
                element("p", page.question, class_="question", dir="auto"),
                element("div", element("div", page.answer, class_="text", dir="auto"), class_="answer"),
                class_="card",
            ),
            element("p", how, class_="note" if page.ended else "note bad"),
        ]
    )


def _file(page: ProofPage) -> Markup:
    digest = element("p", _("SHA-256 of the file: "), element("code", page.sha256), class_="note digest")
    return join([pairs(page.file_facts, "facts small"), digest, _near_ties(page.near_ties)])


def _near_ties(ties: Sequence[NearTie]) -> Markup | None:
    if not ties:
        return None
    titles = (_("place"), _("torch"), _("llama.cpp"), _("ahead by"))
    header = element(
        "tr", element("th", _("example"), scope="col"), [element("th", title, scope="col", class_="number") for title in titles]
    )
    rows = [
        element(
            "tr",
            element("th", element("code", tie.source), element("span", tie.kind, class_="soft"), scope="row"),
            [
                element("td", cell, class_="number", data_title=title)
                for cell, title in zip(
                    (grouped(tie.place), tie.torch, tie.llama, f"{Displayed(tie.margin):.2g}"), titles, strict=True
                )
            ],
        )
        for tie in ties
    ]
    table = element("table", element("thead", header), element("tbody", rows), class_="plain sides four")
    note = _("Places where rounding decided between two tokens that are nearly as likely: to torch one, to llama.cpp the other.")
    return join([element("h3", _("Near ties")), table, element("p", note, class_="note")])
