"""What every reader of files gives: records and findings in the order of the file, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Finding, Source
from afina.data.read.row import BROKEN_ROW

Kind = Literal["jsonl", "json", "csv", "excel", "parquet", "arrow", "yaml", "markdown", "text"]
Knows = Callable[[Collection[str]], bool]  # whether rows with these keys can be made into conversations

MEBIBYTE = 1 << 20
LONGEST_LINE = 16 * MEBIBYTE  # bytes of a line; a longer one is refused without being held
LONGEST_TEXT = 512 * MEBIBYTE  # bytes of a text that has to be held as a whole


@dataclass(frozen=True)
class Record:
    """One row as it stands in the file: an object, a list, or whatever else the file holds there.

    ``value`` is made of what JSON knows, with numbers as ``Number``.
    """

    source: Source
    value: Any


Item = Record | Finding


@dataclass(frozen=True)
class Records:
    """A file's rows in order; ``items`` can be gone through once. ``delimiter`` stands between the columns of a CSV.

    ``notes`` are texts for the user, complete when ``items`` is at its end. Several tables of one file (sheets) follow each
    other; ``Source.file`` tells them apart.
    """

    kind: Kind
    items: Iterator[Item]
    delimiter: str = ""
    encoding: str = "utf-8"
    notes: list[str] = field(default_factory=list)


class NoExamplesError(DataError):
    """A file that can be read, but holds nothing that is written like examples."""


class BrokenFileError(DataError):
    """A file that holds rows and cannot be read from ``source`` on, for ``reason``."""

    def __init__(self, source: Source, reason: str, *, fix: str) -> None:
        super().__init__(f"{source}: {reason}", fix=fix)
        self.source, self.reason = source, reason


def broken(source: Source, reason: str) -> Finding:
    return Finding(source, BROKEN_ROW, reason)


def column_names(source: Source, cells: list[str]) -> list[str]:
    """The names in the first line of a table; DataError where two are the same."""
    names = [cell.strip() for cell in cells]
    folded = [column.casefold() for column in names if column]
    for column in folded:
        if folded.count(column) > 1:
            raise DataError(
                _("{place}: two columns are called {column!r}").format(place=source, column=column),
                fix=_("give each column a name of its own"),
            )
    return names
