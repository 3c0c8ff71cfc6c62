"""From the text of a file to its records, each with the line on which it begins.

What a file is follows from its content; its ending only decides where the content leaves two readings. A record that cannot
be read becomes a refusal and the reading goes on behind it.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Finding, Source
from afina.data.read.files import TextFile
from afina.data.read.shapes import BROKEN_ROW, is_message
from afina.data.read.strict_json import BrokenJsonError, broken_at, parse_json, parse_json_at, skip_blanks

DELIMITERS = (",", ";", "\t", "|")
LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")

Kind = Literal["jsonl", "json", "csv"]
Knows = Callable[[Collection[str]], bool]  # whether rows with these keys can be made into conversations

_SAMPLE = 20  # lines that decide between JSON and JSON Lines
_CSV_SAMPLE = 200  # records that decide between delimiters
_LONGEST_REST = 100  # lines that a torn record of a CSV can have
_MARK = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_CLOSES = {"[": "]", "{": "}"}


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file: an object, a list, or whatever else the file holds there."""

    source: Source
    value: Any


Item = Record | Finding


@dataclass(frozen=True)
class Records:
    """A file's rows in order; ``items`` can be gone through once. ``delimiter`` stands between the columns of a CSV."""

    kind: Kind
    items: Iterator[Item]
    delimiter: str = ""


def read_records(file: TextFile, knows: Knows) -> Records:
    """The rows of a file. Raises DataError where the file as a whole cannot be read."""
    name, ending = str(file.path), file.path.suffix.lower()
    match _kind(file.text, ending, knows):
        case "jsonl":
            return Records("jsonl", _json_lines(name, file.text))
        case "json":
            return Records("json", _json_rows(name, file.text, knows))
        case "csv":
            delimiter = _delimiter(file.text, knows)
            return Records("csv", _csv_rows(name, file.text, delimiter), delimiter)
        case None:
            raise DataError(
                _("{path}:1: this is neither JSONL nor JSON nor CSV: it begins with {start!r}").format(
                    path=name, start=file.text.lstrip()[:40].split("\n")[0]
                ),
                fix=_("write one JSON object a line, or a CSV whose first line names the columns"),
            )


def _kind(text: str, ending: str, knows: Knows) -> Kind | None:
    sample = [line for line in text[: 1 << 20].split("\n") if line.strip()][:_SAMPLE]
    whole = sum(_is_container(line) for line in sample)
    first_is_whole = ending in LINES or _is_container(sample[0])
    if len(sample) > 1 and 2 * whole >= len(sample) + (0 if first_is_whole else 1):
        return "jsonl"
    if text.lstrip()[0] in "[{" and (ending not in (*LINES, *TABLES) or _is_container(text)):
        return "json"
    if ending in TABLES or knows(_header(text, _delimiter(text, knows))):
        return "csv"
    return "jsonl" if ending in LINES else None


def _is_container(text: str) -> bool:
    """Whether ``text`` is one whole JSON object or list."""
    try:
        return isinstance(parse_json(text), dict | list)
    except BrokenJsonError:
        return False


# ── JSON Lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _json_lines(name: str, text: str) -> Iterator[Item]:
    # JSON has no bare line ends inside texts, but may have U+2028 and its like, at which splitlines() would cut.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n") if "\r" in text else text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line or line.isspace():
            continue
        source = Source(name, number)
        try:
            yield Record(source, parse_json(line))
        except BrokenJsonError as error:
            yield Finding(source, BROKEN_ROW, error.reason)


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Lines:
    """Line numbers of positions that only go forward."""

    def __init__(self, text: str) -> None:
        self._text, self._position, self._line = text, 0, 1

    def at(self, position: int) -> int:
        self._line += self._text.count("\n", self._position, position)
        self._position = position
        return self._line


def _json_rows(name: str, text: str, knows: Knows) -> Iterator[Item]:
    """The elements of the list that the file is, or that its one object holds; else that object or conversation itself."""
    start = skip_blanks(text, 0)
    lines = _Lines(text)
    line = lines.at(start)
    try:
        if text[start] == "{":
            rows, end = _object_rows(name, text, start, lines, knows)
            yield from rows
        elif text[start] == "[" and _begins_with_message(text, start):
            conversation, end = parse_json_at(text, start)
            yield Record(Source(name, line), conversation)
        elif text[start] == "[":
            end = yield from _elements(name, text, start, lines)
        else:
            raise broken_at(text, start)
        end = skip_blanks(text, end)
        if end != len(text):
            raise broken_at(text, end)
    except BrokenJsonError as error:
        place = line if error.position is None else text.count("\n", 0, error.position) + 1
        raise DataError(
            f"{name}:{place}: {error.reason}",
            fix=_("mend the JSON there; in JSONL (one object a line) only the broken line would be left out"),
        ) from None


def _begins_with_message(text: str, start: int) -> bool:
    try:
        first, _end = parse_json_at(text, skip_blanks(text, start + 1))
    except BrokenJsonError:
        return False
    return is_message(first)


def _elements(name: str, text: str, start: int, lines: _Lines) -> Generator[Item, None, int]:
    """The elements of the list that opens at ``start``; returns the position behind it.

    A broken element whose brackets still close is refused. Raises BrokenJsonError where it cannot be told where the next one
    begins.
    """
    position = skip_blanks(text, start + 1)
    if text[position : position + 1] == "]":
        return position + 1
    parse = parse_json_at
    while True:
        source = Source(name, lines.at(position))
        try:
            value, end = parse(text, position)
            yield Record(source, value)
        except BrokenJsonError as error:
            behind = _skip_value(text, position)
            if behind is None:
                raise
            end = behind
            parse = _parse_alone
            yield Finding(source, BROKEN_ROW, _with_line(error, text, position, source.line))
        end = skip_blanks(text, end)
        match text[end : end + 1]:
            case ",":
                position = skip_blanks(text, end + 1)
            case "]":
                return end + 1
            case _:
                raise broken_at(text, end)


def _parse_alone(text: str, start: int) -> tuple[Any, int]:
    """As ``parse_json_at``, from a copy of the element alone: an error of ``json`` counts all lines before it."""
    end = _skip_value(text, start)
    if end is None:
        return parse_json_at(text, start)
    try:
        value, length = parse_json_at(text[start:end], 0)
    except BrokenJsonError as error:
        if error.position is None:
            raise
        raise broken_at(text, start + error.position) from None
    return value, start + length


def _with_line(error: BrokenJsonError, text: str, start: int, line: int) -> str:
    further = 0 if error.position is None else text.count("\n", start, error.position)
    return _("{reason} (line {line})").format(reason=error.reason, line=line + further) if further else error.reason


def _skip_value(text: str, start: int) -> int | None:
    """The position of the comma or bracket behind the broken value at ``start``; None where its brackets do not pair."""
    open_brackets: list[str] = []
    for mark in _MARK.finditer(text, start):
        token = mark.group()
        if token in _CLOSES:
            open_brackets.append(_CLOSES[token])
        elif token == '"':  # a text that never ends
            return None
        elif token in ",]" and not open_brackets:
            return mark.start()
        elif token in "]}" and (not open_brackets or open_brackets.pop() != token):
            return None
    return None


def _object_rows(name: str, text: str, start: int, lines: _Lines, knows: Knows) -> tuple[list[Item], int]:
    """The rows of a file that is one object: its only list of objects, or the object itself; and the position behind it."""
    source = Source(name, lines.at(start))
    keys: list[str] = []
    lists: dict[str, list[Item]] = {}
    position = skip_blanks(text, start + 1)
    while text[position : position + 1] != "}":
        key, position = parse_json_at(text, position)
        position = skip_blanks(text, position)
        if not isinstance(key, str) or text[position : position + 1] != ":":
            raise broken_at(text, position)
        keys.append(key)
        position = skip_blanks(text, position + 1)
        if text[position : position + 1] == "[":
            items, position = _collected(_elements(name, text, position, lines))
            if any(isinstance(item, Record) and isinstance(item.value, dict | list) for item in items):
                lists[key] = items
        else:
            _value, position = parse_json_at(text, position)
        position = skip_blanks(text, position)
        if text[position : position + 1] == ",":
            position = skip_blanks(text, position + 1)
        elif text[position : position + 1] != "}":
            raise broken_at(text, position)
    if knows(keys) or not lists:
        value, end = parse_json_at(text, start)
        return [Record(source, value)], end
    if len(lists) > 1:
        first = next(iter(lists))
        raise DataError(
            _("{place}: the object holds {count} lists: {names}").format(
                place=source, count=len(lists), names=", ".join(repr(key) for key in lists)
            ),
            fix=_("write the one to use to a file of its own: {command}").format(
                command=f"jq {shlex.quote('.' + json.dumps(first))} {shlex.quote(name)} > {shlex.quote(f'{first}.json')}"
            ),
        )
    return next(iter(lists.values())), position + 1


def _collected(elements: Generator[Item, None, int]) -> tuple[list[Item], int]:
    """What a generator yields, and what it returns."""
    items: list[Item] = []
    while True:
        try:
            items.append(next(elements))
        except StopIteration as stop:
            return items, stop.value


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _delimiter(text: str, knows: Knows) -> str:
    """The delimiter that makes the header one we know, then the one that gives most rows the header's number of columns."""

    def score(delimiter: str) -> tuple[bool, float, int]:
        rows = _first_rows(text, delimiter)
        if not rows or len(rows[0]) < 2:
            return False, 0.0, 0
        width = len(rows[0])
        return knows(rows[0]), sum(len(row) == width for row in rows) / len(rows), width

    return max(DELIMITERS, key=score)


def _header(text: str, delimiter: str) -> list[str]:
    return next(iter(_first_rows(text, delimiter)), [])


def _first_rows(text: str, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(text[: 1 << 20], newline=""), delimiter=delimiter, strict=True)
    try:
        rows.extend(row for row in itertools.islice(reader, _CSV_SAMPLE) if row)
    except csv.Error:
        return rows  # the reader of all rows tells it with its line
    return rows


def _csv_rows(name: str, text: str, delimiter: str) -> Iterator[Item]:
    """Each record as column → cell, cells exactly as they are; blank lines are passed over.

    A quote that is never closed would take the rest of the file with it. So a torn record is refused alone and the reading goes
    on behind it; from there on a record with an odd number of quotes counts as a part of a torn one.
    """
    lines = list(io.StringIO(text, newline=""))
    names: list[str] = []
    torn = False
    first = 0  # index of the line on which the next record begins
    while first < len(lines):
        start = first
        reader = csv.reader((lines[index] for index in range(start, len(lines))), delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                line, first = first + 1, start + reader.line_num
                if not any(cell and not cell.isspace() for cell in cells):
                    continue
                if not names:
                    names = _column_names(name, line, cells)
                elif torn and "".join(lines[line - 1 : first]).count('"') % 2:
                    yield Finding(Source(name, line), BROKEN_ROW, _("a part of a record whose quotes do not pair"))
                else:
                    yield _csv_record(Source(name, line), names, cells)
        except csv.Error as error:
            if not names:
                raise DataError(
                    _("{path}:{line}: the first line, which names the columns, cannot be read ({problem})").format(
                        path=name, line=first + 1, problem=error
                    ),
                    fix=_("mend its quotes"),
                ) from None
            source = Source(name, first + 1)
            first = _behind_torn(lines, first + 1, len(names), delimiter)
            yield Finding(source, BROKEN_ROW, _torn_text(error, source.line, first))
            torn = True


def _behind_torn(lines: list[str], start: int, columns: int, delimiter: str) -> int:
    """Index of the line behind a torn record whose first line is the one before ``start``.

    Its rest reaches to the next line with an odd number of quotes, unless the lines up to there are rows by themselves.
    """
    stop = min(start + _LONGEST_REST, len(lines))
    end = next((index for index in range(start, stop) if lines[index].count('"') % 2), None)
    if end is None:
        return start
    try:
        rows_by_themselves = all(len(cells) == columns for cells in csv.reader(lines[start:end], delimiter=delimiter) if cells)
    except csv.Error:  # a line longer than a cell can be
        rows_by_themselves = False
    return start if rows_by_themselves else end + 1


def _torn_text(error: csv.Error, line: int, last: int) -> str:
    if "field larger" in str(error):
        limit = csv.field_size_limit()
        reason = _("a quote is never closed, or a cell has more than {limit:,} characters").format(limit=limit)
    else:
        reason = _("a quote stands inside a cell or is never closed")
    return reason + (_(" (left out up to line {last})").format(last=last) if last > line else "")


def _column_names(name: str, line: int, cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    folded = [column.casefold() for column in names if column]
    for column in folded:
        if folded.count(column) > 1:
            raise DataError(
                _("{path}:{line}: two columns are called {column!r}").format(path=name, line=line, column=column),
                fix=_("give each column a name of its own"),
            )
    return names


def _csv_record(source: Source, names: list[str], cells: list[str]) -> Item:
    if len(cells) < len(names) or any(cells[len(names) :]):
        reason = _("{cells} cells where the first line names {columns} columns").format(cells=len(cells), columns=len(names))
        return Finding(source, BROKEN_ROW, reason)
    return Record(source, {column: cell for column, cell in zip(names, cells, strict=False) if column})
