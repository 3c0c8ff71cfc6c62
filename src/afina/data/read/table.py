"""CSV: each record as column → cell, cells exactly as they are; lines are taken from a stream, one record is held at a time."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import grouped
from afina.data.conversation import Source
from afina.data.read.item import LONGEST_LINE, Item, Knows, Record, broken, column_names
from afina.data.read.lines import skip_line, too_long, undecodable

DELIMITERS = (",", ";", "\t", "|")
_SEPARATOR = re.compile(r"sep=(.)\r?\n")  # Excel's own first line
_SAMPLE = 200  # records that decide between delimiters
_LONGEST_REST = 100  # lines that a torn record can have


def find_delimiter(sample: str, knows: Knows) -> str:
    """The delimiter that makes the header one we know, then the one that gives most rows the header's number of columns."""

    if stated := _SEPARATOR.match(sample):
        return stated[1]

    def score(delimiter: str) -> tuple[bool, float, int]:
        rows = _first_rows(sample, delimiter)
        if not rows or len(rows[0]) < 2:
            return False, 0.0, 0
        width = len(rows[0])
        return knows(rows[0]), sum(len(row) == width for row in rows) / len(rows), width

    return max(DELIMITERS, key=score)


def header(sample: str, delimiter: str) -> list[str]:
    """The first record's cells; none where it cannot be read."""
    return next(iter(_first_rows(sample, delimiter)), [])


def _first_rows(sample: str, delimiter: str) -> list[list[str]]:
    rows: list[list[str]] = []
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True)
    try:
        rows.extend(row for row in itertools.islice(reader, _SAMPLE) if row)
    except csv.Error:
        return rows  # the reader of all rows tells it with its line
    return rows


def table_rows(name: str, stream: BinaryIO, encoding: str, delimiter: str) -> Iterator[Item]:
    """The records behind the first, which names the columns; blank lines are passed over.

    A quote that is never closed would take the rest of the file with it. So a torn record is refused alone and the reading goes
    on behind it; from there on a record with an odd number of quotes counts as a part of a torn one.
    """
    lines = _Lines(stream, encoding)
    names: list[str] = []
    torn = False
    while True:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            for cells in reader:
                source = Source(name, lines.number - len(lines.taken) + 1)
                if reason := lines.problem():
                    yield broken(source, reason)
                elif not any(cell and not cell.isspace() for cell in cells):
                    pass
                elif not names:
                    if not (source.line == 1 and _SEPARATOR.match(lines.taken[0])):
                        names = column_names(source, cells)
                elif torn and "".join(lines.taken).count('"') % 2:
                    yield broken(source, _("a part of a record whose quotes do not pair"))
                else:
                    yield _record(source, names, cells)
                lines.taken.clear()
        except csv.Error as error:
            source = Source(name, lines.number - len(lines.taken) + 1)
            if not names:
                raise DataError(
                    _("{path}:{line}: the first line, which names the columns, cannot be read ({problem})").format(
                        path=name, line=source.line, problem=error
                    ),
                    fix=_("mend its quotes"),
                ) from None
            lines.give_back(1)
            lines.skip(_rest_of_torn(lines.peek(_LONGEST_REST), len(names), delimiter))
            yield broken(source, _torn_text(error, source.line, lines.number))
            torn = True
        else:
            return


class _Lines(Iterator[str]):
    """Lines of a stream as text, with their ends. Those of the record that is being read (``taken``) can be given back."""

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream, self._encoding = stream, encoding
        self._ahead: deque[str] = deque()
        self._problems: dict[int, str] = {}  # number of a line → why it is no text
        self._read = 0  # lines taken from the stream
        self.taken: list[str] = []
        self.number = 0  # of the line that was given last

    def __next__(self) -> str:
        if not self._ahead and not self._fill():
            raise StopIteration
        line = self._ahead.popleft()
        self.number += 1
        self.taken.append(line)
        return line

    def peek(self, count: int) -> list[str]:
        """The next lines, at most ``count``."""
        while len(self._ahead) < count and self._fill():
            pass
        return list(itertools.islice(self._ahead, count))

    def give_back(self, keep: int) -> None:
        """All lines taken but the first ``keep`` come again."""
        back = self.taken[keep:]
        self._ahead.extendleft(reversed(back))
        self.number -= len(back)
        self.taken.clear()

    def skip(self, count: int) -> None:
        for _line in range(count):
            self._ahead.popleft()
        self.number += count

    def problem(self) -> str:
        """Why one of the lines taken is no text; empty where all are. Asked once for each line."""
        if not self._problems:
            return ""
        first = self.number - len(self.taken) + 1
        reasons = [self._problems.pop(number, "") for number in range(first, self.number + 1)]
        return next(filter(None, reasons), "")

    def _fill(self) -> bool:
        """Takes a line from the stream, or several where old Macs' line ends part it; False at the end."""
        line = self._stream.readline(LONGEST_LINE + 1)
        if not line:
            return False
        self._read += 1
        if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            skip_line(self._stream)
            self._problems[self._read] = too_long()
            line = b"\n"
        try:
            text = line.decode(self._encoding)
        except UnicodeDecodeError as error:
            self._problems[self._read] = undecodable(line, error, self._encoding)
            text = line.decode(self._encoding, "surrogateescape")  # only to find the record's end
        if "\r" in text and "\r" in text.removesuffix("\n").removesuffix("\r"):
            parts = list(io.StringIO(text, newline=""))
            self._ahead.extend(parts)
            self._read += len(parts) - 1
        else:
            self._ahead.append(text)
        return True


def _rest_of_torn(following: list[str], columns: int, delimiter: str) -> int:
    """How many of the lines that follow a torn record's first one belong to it.

    Its rest reaches to the next line with an odd number of quotes, unless the lines up to there are rows by themselves.
    """
    end = next((index for index, line in enumerate(following) if line.count('"') % 2), None)
    if end is None:
        return 0
    try:
        rows_by_themselves = all(len(cells) == columns for cells in csv.reader(following[:end], delimiter=delimiter) if cells)
    except csv.Error:  # a line longer than a cell can be
        rows_by_themselves = False
    return 0 if rows_by_themselves else end + 1


def _torn_text(error: csv.Error, line: int, last: int) -> str:
    if "field larger" in str(error):
        limit = csv.field_size_limit()
        reason = _("a quote is never closed, or a cell has more than {limit} characters").format(limit=grouped(limit))
    else:
        reason = _("a quote stands inside a cell or is never closed")
    return reason + (_(" (left out up to line {last})").format(last=last) if last > line else "")


def _record(source: Source, names: list[str], cells: list[str]) -> Item:
    if len(cells) < len(names) or any(cells[len(names) :]):
        reason = _("{cells} cells where the first line names {columns} columns").format(cells=len(cells), columns=len(names))
        return broken(source, reason)
    return Record(source, {column: cell for column, cell in zip(names, cells, strict=False) if column})
