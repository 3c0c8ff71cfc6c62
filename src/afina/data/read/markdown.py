"""Markdown (and plain text) that asks and answers.

Two ways of writing are known; the first that a file has is taken:

1. Marks. A line that begins with ``Q:`` or ``Question:`` (``P:``, ``Pregunta:``), bold or not, as a heading or in a list, begins
   a question; one with ``A:`` or ``Answer:`` (``R:``, ``Respuesta:``) its answer. Each reaches to the next mark or heading.
2. Headings. The level of headings that asks is the one with most headings that end in a question mark; where none does, the one
   with most headings that have text below. The text up to the next heading of the same or a higher level is the answer, lower
   headings within it included. Higher headings are titles.

Text is kept as it is written, without the blanks around it. What lies before the first question, or below a title, belongs
to none, and so does YAML between ``---`` at the beginning: a note names the lines. In code blocks nothing is looked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from afina.core.translation import _
from afina.data.conversation import Source
from afina.data.read.item import Item, NoExamplesError, Record

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_FRONT = re.compile(r"---[ \t]*\n(?:[^\n]*\n)*?---[ \t]*(?:\n|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_MARK = re.compile(
    r"\s{0,3}(?:#{1,6}[ \t]+|[-*+][ \t]+|\d+[.)][ \t]+|>[ \t]?)?"
    r"(?P<bold>\*\*|__)?(?P<word>Question|Pregunta|Answer|Respuesta|[QPAR])(?:[ \t]*\d+)?[ \t]*"
    r"(?:(?(bold)(?:[:.][ \t]*(?P=bold)|(?P=bold)[ \t]*[:.])|:))[ \t]*(?P<rest>.*)$",
    re.IGNORECASE,
)
_ASKS = frozenset({"q", "p", "question", "pregunta"})
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_SHOWN = 5  # places that a note names


@dataclass(frozen=True)
class _Line:
    """``level`` of a heading (1 to 6), else 0; ``text`` of the heading, or the line itself."""

    number: int
    text: str
    level: int = 0
    is_code: bool = False


def has_questions(text: str) -> bool:
    """Whether a text has marks of questions and answers: ``Q: … A: …``."""
    return any(answer is not None for _line, _question, answer in _marked(_lines(text), []))


def markdown_rows(name: str, text: str, notes: list[str]) -> Iterator[Item]:
    """Each question with its answer. Raises DataError where there is none."""
    lines = _lines(text)
    loose: list[int] = []
    pairs = list(_marked(lines, loose))
    if all(answer is None for _line, _question, answer in pairs):
        loose.clear()
        pairs = list(_headed(lines, loose))
    if not pairs:
        raise NoExamplesError(
            _("{path}:1: there are no questions with answers in it").format(path=name),
            fix=_("write each question as a heading with its answer below, or as Q: … A: …; documents belong in data.documents"),
        )
    for line, question, answer in pairs:
        yield Record(Source(name, line), {"question": question, "answer": answer or ""})
    if loose:
        shown = ", ".join(map(str, loose[:_SHOWN])) + (" …" if len(loose) > _SHOWN else "")
        notes.append(_("text that belongs to no question is not used: lines {lines}").format(lines=shown))


def _lines(text: str) -> list[_Line]:
    """The lines with their headings found; those of code blocks are left alone."""
    found: list[_Line] = []
    fence = ""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    front = _FRONT.match(plain)
    for number, line in enumerate(plain.split("\n"), start=1):
        if front and number <= front[0].count("\n"):
            found.append(_Line(number, line, is_code=True))
        elif mark := _FENCE.match(line):
            if not fence:
                fence = mark[1]
            elif mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
            found.append(_Line(number, line, is_code=True))
        elif fence:
            found.append(_Line(number, line, is_code=True))
        elif heading := _HEADING.match(line):
            found.append(_Line(number, _heading_text(line[heading.end() :]), len(heading[1])))
        elif (rule := _UNDERLINE.match(line)) and found and _is_underlined(found):
            before = found.pop()
            found.append(_Line(before.number, before.text.strip(), 1 if rule[1][0] == "=" else 2))
        else:
            found.append(_Line(number, line))
    return found


def _heading_text(text: str) -> str:
    """A heading without the #s that may close it."""
    stripped = text.strip()
    bare = stripped.rstrip("#")
    return bare.rstrip() if not bare or bare[-1].isspace() else stripped


def _is_underlined(found: Sequence[_Line]) -> bool:
    """Whether the last line can be a heading above a rule: one line of text with nothing above it."""
    last = found[-1]
    alone = len(found) == 1 or not found[-2].text.strip() or found[-2].level > 0
    return alone and not last.level and not last.is_code and bool(last.text.strip())


def _marked(lines: Sequence[_Line], loose: list[int]) -> Iterator[tuple[int, str, str | None]]:
    """Line, question and answer (None: it has no mark) of each question; ``loose`` takes the lines that belong to none."""
    start = 0
    question: list[str] = []
    answer: list[str] | None = None
    for line in lines:
        mark = None if line.is_code else _MARK.match(f"{'#' * line.level} {line.text}" if line.level else line.text)
        if mark and mark["word"].lower() in _ASKS:
            if start:
                yield start, _joined(question), None if answer is None else _joined(answer)
            start, question, answer = line.number, [mark["rest"]], None
        elif mark and start and answer is None:
            answer = [mark["rest"]]
        elif line.level and start:
            yield start, _joined(question), None if answer is None else _joined(answer)
            start, question, answer = 0, [], None
        elif start:
            (question if answer is None else answer).append(line.text)
        elif line.text.strip() and not line.level:
            loose.append(line.number)
    if start:
        yield start, _joined(question), None if answer is None else _joined(answer)


def _headed(lines: Sequence[_Line], loose: list[int]) -> Iterator[tuple[int, str, str | None]]:
    """Line, question and answer of each heading of the level that asks."""
    level = _asking_level(lines)
    start, question = 0, ""
    answer: list[str] = []
    for line in lines:
        if line.level and line.level <= level:
            if start:
                yield start, question, _joined(answer)
            start, question, answer = (line.number, line.text, []) if line.level == level else (0, "", [])
        elif start:
            answer.append(f"{'#' * line.level} {line.text}" if line.level else line.text)
        elif line.text.strip():
            loose.append(line.number)
    if start:
        yield start, question, _joined(answer)


def _asking_level(lines: Sequence[_Line]) -> int:
    """The level of the headings that are questions; 0 where no heading has text below."""
    headings = [place for place, line in enumerate(lines) if line.level]
    asked: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for place, behind in zip(headings, [*headings[1:], len(lines)], strict=False):
        line = lines[place]
        asked[line.level] += line.text.rstrip("*_ ").endswith(("?", "？"))
        answered[line.level] += any(below.text.strip() for below in lines[place + 1 : behind])
    counts = asked if any(asked.values()) else answered
    return max(counts, key=lambda level: (counts[level], level)) if any(counts.values()) else 0


def _joined(lines: Sequence[str]) -> str:
    """The lines as a text, without the blank ones around it; the first keeps its indentation."""
    return _BLANK_LINES.sub("", "\n".join(lines)).rstrip()
