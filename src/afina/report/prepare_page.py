"""The page about the data of a run: plain data in, one HTML file out. The values are those of ``report/prepared.py``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from itertools import groupby, pairwise

from afina.core.translation import _
from afina.core.units import format_count, format_duration, format_share, grouped
from afina.report.document import document, in_two_sizes, pairs
from afina.report.markup import Markup, element, join
from afina.report.plots import Branch, histogram, river
from afina.report.prepared import FileFlow, Found, Kind, Lengths, PreparePage, ShownRow, Side, Twins

_SHOWN_TWINS = 6  # pairs before a line that opens
_COMPARED_WORDS = 600  # a longer text is shown whole, without marks: comparing takes the square of its length
_SEVERITIES = ("error", "warning", "info")


def draw(page: PreparePage) -> str:
    """The whole document."""
    sections = [
        ("next", _("What to do next"), _next(page.next_steps)),
        ("flow", _("From read to kept"), _flow(page)),
        ("parts", _("Parts and lengths"), _parts(page)),
        ("kinds", _("Kinds of question"), _kinds(page)),
        ("findings", _("What was found"), _findings(page)),
        ("twins", _("Rows that are alike"), _alike(page)),
        ("rows", _("What the model reads and learns"), _rows(page.shown)),
        ("settings", _("Settings"), pairs(page.settings, "facts small")),
    ]
    footer = _("afina {version}; prepared {when} (UTC) in {time}").format(
        version=page.version, when=page.finished.replace("T", " ").removesuffix("Z"), time=format_duration(page.seconds)
    )
    return document(page.language, page.name, page.verdict, _facts(page), sections, footer)


def _facts(page: PreparePage) -> list[tuple[str, str]]:
    facts = [(_("base"), page.base), (_("chat template"), page.template)]
    if page.flow:
        facts += [(_("rows read"), grouped(page.flow[0].left)), (_("kept"), grouped(page.flow[-1].left))]
    return [*facts, (_("trained tokens"), format_count(sum(side.trained_tokens for side in page.sides)))]


def _next(steps: Sequence[str]) -> Markup:
    return element("ol", [element("li", _with_code(step)) for step in steps], class_="steps")


def _with_code(text: str) -> list[object]:
    """A text whose `parts` in backquotes are code."""
    return [element("code", part) if place % 2 else part for place, part in enumerate(text.split("`"))]


# ── the flow ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _flow(page: PreparePage) -> Markup:
    figure = None
    if page.flow:
        source, levels = _("{count} rows read").format(count=grouped(page.flow[0].left)), _levels(page)
        drawings = in_two_sizes(*(river(source, page.flow[0].left, levels, width) for width in (560, 350)))
        figure = element("figure", drawings, class_="drawn river")
    return join([figure, _files(page.files), _documents(page)])


def _levels(page: PreparePage) -> list[tuple[str, list[Branch]]]:
    """What leaves the river at each stage, the stages without a loss left out, and at its end the sides of the split."""
    titles = {
        "reading": _("{count} could be read"),
        "text": _("{count} after the checks of the text"),
        "tokens": _("{count} after the checks of the tokens"),
        "set": _("{count} after comparing the rows"),
        "limit": _("{count} taken (data.limit)"),
    }
    levels = []
    for before, step in pairwise(page.flow):
        branches = [Branch(f"{check}  −{grouped(count)}", count) for check, count in step.dropped]
        others = before.left - step.left - sum(count for _check, count in step.dropped)
        if others > 0:
            branches.append(Branch(_("not taken") + f"  −{grouped(others)}", others))
        if step.changed:
            branches.append(Branch(_("{count} changed").format(count=grouped(step.changed)), 0))
        if branches:
            levels.append((titles[step.stage].format(count=grouped(step.left)), branches))
    names = _side_names()
    sides = [side for side in page.sides if side.conversations]
    if sides:
        branches = [
            Branch(f"{names[side.name][0]}  {grouped(side.conversations)}", side.conversations, passes=True) for side in sides[1:]
        ]
        levels.append((f"{names[sides[0].name][0]}  {grouped(sides[0].conversations)}", branches))
    return levels


def _files(files: Sequence[FileFlow]) -> Markup:
    titles = (_("rows"), _("conversations"), _("left out"))
    return _table("plain sides", _("file"), titles, [_file(file, titles) for file in files])


def _file(file: FileFlow, titles: Sequence[str]) -> Markup:
    told = " · ".join(part for part in (file.kind, file.shape, file.reason, file.encoding) if part)
    sample = element("details", element("summary", _("a sample")), element("div", file.sample, class_="text", dir="auto"))
    name = [element("b", element("code", file.name)), element("span", told, class_="soft"), sample if file.sample else None]
    return _numbers(name, titles, (file.rows, file.conversations, file.dropped))


def _documents(page: PreparePage) -> Markup | None:
    if not page.documents:
        return None
    rows = [
        element(
            "tr",
            element(
                "th",
                element("code", document.name),
                element("span", "✗ ", document.problem, class_="bad told") if document.problem else None,
                scope="row",
            ),
            element("td", grouped(document.chunks), class_="number"),
        )
        for document in page.documents
    ]
    table = _table("plain files", _("document"), (_("chunks"),), rows)
    return join([element("h3", _("Documents")), table])


# ── parts and lengths ─────────────────────────────────────────────────────────────────────────────────────────────────


def _parts(page: PreparePage) -> Markup:
    return join([_sides(page.sides), _lengths(page.lengths) if page.lengths else None, _languages(page.languages)])


def _side_names() -> dict[str, tuple[str, str]]:
    return {
        "train": (_("training"), _("what the adapter learns from")),
        "val": (_("validation"), _("chooses the best checkpoint")),
        "test": (_("held out"), _("never seen in training; the comparison is made on it")),
    }


def _sides(sides: Sequence[Side]) -> Markup:
    titles = (_("conversations"), _("rows"), _("tokens"), _("trained tokens"))
    names = _side_names()
    rows = []
    for side in sides:
        title, purpose = names[side.name]
        name = [element("b", title), element("span", purpose, class_="soft")]
        rows.append(_numbers(name, titles, (side.conversations, side.rows, side.tokens, side.trained_tokens)))
    return _table("plain sides four", _("part"), titles, rows)


def _lengths(lengths: Lengths) -> Markup:
    marks = ((_("median"), lengths.median), ("95 %", lengths.p95), ("99.5 %", lengths.p995))
    sizes = ((960, 300), (350, 260))
    drawings = [histogram(lengths.bins, lengths.counts, marks, lengths.limit, *size) for size in sizes]
    beyond = sum(count for edge, count in zip(lengths.bins, lengths.counts, strict=True) if edge > lengths.limit > 0)
    note = _("Half of the rows have at most {median} tokens, 99.5 % at most {p995}; the longest has {longest}.").format(
        median=grouped(lengths.median), p995=grouped(lengths.p995), longest=grouped(lengths.longest)
    )
    if lengths.limit:
        note += " " + _("{count} rows are longer than the limit of {limit}.").format(
            count=grouped(beyond), limit=grouped(lengths.limit)
        )
    return element(
        "figure",
        element("figcaption", element("h3", _("Lengths in tokens"))),
        in_two_sizes(*drawings),
        element("p", note, class_="note"),
        class_="drawn",
    )


def _languages(languages: Sequence[tuple[str, int]]) -> Markup | None:
    if not languages:
        return None
    names = {
        "": _("too short to tell"), "en": _("English"), "es": _("Spanish"), "pt": _("Portuguese"), "fr": _("French"),
        "de": _("German"), "it": _("Italian"), "ca": _("Catalan"), "gl": _("Galician"), "eu": _("Basque"),
    }  # fmt: skip
    total = sum(count for _code, count in languages) or 1
    rows = [_bar(names.get(code, code), count, count / total) for code, count in languages]
    return join([element("h3", _("Languages")), element("table", element("tbody", rows), class_="plain bars-of")])


def _bar(name: str, count: int, share: float) -> Markup:
    bar = element("i", class_="bar", style=f"width:{100 * share:.1f}%")
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", bar, class_="bars", aria_hidden="true"),
        element("td", element("b", format_share(share)), element("span", grouped(count), class_="soft"), class_="number"),
    )


# ── kinds of question ─────────────────────────────────────────────────────────────────────────────────────────────────


def _kinds(page: PreparePage) -> Markup:
    if not page.kinds:
        return element("p", _("There are too few questions to tell kinds apart."), class_="soft")
    note = _("Told by the words of {count} questions; a kind is named by the words that are typical of it.").format(
        count=grouped(sum(kind.count for kind in page.kinds))
    )
    return join([element("div", map(_kind, page.kinds), class_="kinds"), element("p", note, class_="note")])


def _kind(kind: Kind) -> Markup:
    return element(
        "article",
        element("h3", " · ".join(kind.words)),
        element(
            "p",
            element("b", format_share(kind.share)),
            element("span", grouped(kind.count), class_="soft"),
            element("i", class_="bar", style=f"width:{100 * kind.share:.1f}%", aria_hidden="true"),
            class_="amount",
        ),
        element("ul", [element("li", example, dir="auto") for example in kind.examples]),
        class_="card kind",
    )


# ── findings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _findings(page: PreparePage) -> Markup:
    if not page.found:
        return element("p", _("Nothing was found wanting."), class_="soft")
    titles = {"error": _("Errors"), "warning": _("Warnings"), "info": _("Notes")}
    ordered = sorted(page.found, key=lambda found: (_SEVERITIES.index(found.severity), -found.count))
    return join(
        [
            [
                element("h3", _sign(severity), " ", titles[severity], class_=f"severity {severity}"),
                [_found(found, page) for found in group],
            ]
            for severity, group in groupby(ordered, key=lambda found: found.severity)
        ]
    )


def _sign(severity: str) -> Markup:
    return element("span", {"error": "✗", "warning": "!", "info": "i"}[severity], class_="sign", aria_hidden="true")


def _found(found: Found, page: PreparePage) -> Markup:
    done = {
        "warn": _("kept"),
        "fix": _("changed"),
        "drop": _("left out"),
        "stop": _("ends the run"),
        "off": _("not looked at"),
    }[found.action]
    summary = element(
        "summary",
        element("b", found.check),
        element("span", grouped(found.count), class_="amount"),
        element("span", done, class_="done"),
        element("span", found.reason, class_="why"),
    )
    rows = [
        element(
            "li",
            element("code", row.place),
            " ",
            row.reason,
            element("span", row.excerpt, class_="excerpt", dir="auto") if row.excerpt else None,
        )
        for row in found.rows
    ]
    left = found.count - len(found.rows)
    more = _("and {count} more, all in {path}").format(count=grouped(left), path=page.findings_path) if left > 0 else None
    guide = _("The guide explains it: docs/{language}/checks.md, {check}.").format(language=page.language, check=found.check)
    return element(
        "details",
        summary,
        element("ul", rows, element("li", more) if more else None),
        element("p", guide, class_="note"),
        class_="refused finding",
    )


# ── rows side by side ─────────────────────────────────────────────────────────────────────────────────────────────────


def _alike(page: PreparePage) -> Markup:
    groups = (
        (_("Test rows that stand in the training rows (leaks)"), page.leaks),
        (_("The same question with different answers"), page.contradictions),
        (_("Duplicates and near duplicates"), page.duplicates),
    )
    parts = [[element("h3", title), _pairs_of_rows(found)] for title, found in groups if found]
    return join(parts or element("p", _("No two rows are the same or nearly so."), class_="soft"))


def _pairs_of_rows(found: Sequence[Twins]) -> Markup:
    cards = [_twins(twins) for twins in found]
    first, rest = cards[:_SHOWN_TWINS], cards[_SHOWN_TWINS:]
    more = element("details", element("summary", _("{count} more").format(count=len(rest))), rest, class_="more")
    return join([first, more if rest else None])


def _twins(twins: Twins) -> Markup:
    left, right = differences(twins.left, twins.right)
    alike = _("{share} alike").format(share=format_share(twins.similarity))
    if twins.left == twins.right:
        alike = _("the same, letter for letter")
    columns = [
        element(
            "div",
            element("h3", element("code", place)),
            element("div", _marked(parts), class_="text", dir="auto"),
            class_="answer",
        )
        for place, parts in ((twins.first, left), (twins.second, right))
    ]
    return element(
        "article", element("p", alike, class_="card-head"), element("div", columns, class_="columns"), class_="card twins"
    )


def differences(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Both texts in parts, each with whether the other has it not. Compared word by word; very long ones are not compared."""
    one, two = (re.findall(r"\s+|\w+|[^\w\s]", text) for text in (left, right))
    if len(one) + len(two) > 2 * _COMPARED_WORDS:
        return [(left, False)], [(right, False)]
    first, second = [], []
    for tag, start, end, other_start, other_end in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes():
        first.append(("".join(one[start:end]), tag != "equal"))
        second.append(("".join(two[other_start:other_end]), tag != "equal"))
    return [part for part in first if part[0]], [part for part in second if part[0]]


def _marked(parts: Sequence[tuple[str, bool]]) -> list[object]:
    return [element("mark", text) if marked else text for text, marked in parts]


# ── rendered rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _rows(rows: Sequence[ShownRow]) -> Markup:
    if not rows:
        return element("p", _("No row is left to show."), class_="soft")
    legend = element(
        "p",
        element("span", element("span", _("learned"), class_="learned"), _("what the model learns to write")),
        element("span", element("span", _("read"), class_="read"), _("what it only reads")),
        class_="legend rendered",
    )
    names = _side_names()
    cards = [
        element(
            "article",
            element("p", element("code", row.place), element("span", names[row.side][0]), class_="card-head"),
            element(
                "div",
                [
                    element("mark" if trained else "span", text, class_="learned" if trained else "read")
                    for text, trained in row.segments
                ],
                class_="text rendered",
                dir="auto",
            ),
            class_="card",
        )
        for row in rows
    ]
    return join([legend, cards])


# ── tables ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _table(kind: str, first: str, titles: Sequence[str], rows: Sequence[Markup]) -> Markup:
    header = element(
        "tr", element("th", first, scope="col"), [element("th", title, scope="col", class_="number") for title in titles]
    )
    return element("table", element("thead", header), element("tbody", rows), class_=kind)


def _numbers(name: object, titles: Sequence[str], counts: Sequence[int]) -> Markup:
    cells = [
        element("td", grouped(count), class_="number", data_title=title) for title, count in zip(titles, counts, strict=True)
    ]
    return element("tr", element("th", name, scope="row"), cells)
