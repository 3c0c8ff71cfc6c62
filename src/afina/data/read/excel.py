"""Excel (.xlsx, .xlsm): each visible sheet is a table of its own, ``faq.xlsx[Sheet1]``.

Every cell becomes the text that the sheet shows:

- a text stays to the letter (``1,50`` stays ``1,50``); a formula is its stored value;
- a number is written as its format says (``0.00``, ``#,##0``, ``0 %``, ``1.5 €``), with a point for decimals and commas between
  thousands, for the file does not say how its reader's country writes them; without a format, by its shortest digits;
- a date or a time is written as its format says where that has numbers only (``dd/mm/yyyy``), else as ISO (``2024-01-31``,
  ``08:30``): names of months and the standard date format follow the reader's country;
- a merged cell stands in each of the cells that it covers.

The columns' names stand in the first of the first rows that makes a table that is known, else in the first row with two cells.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any

import openpyxl
from openpyxl.utils import get_column_letter

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import MIB, format_bytes
from afina.data.conversation import Source
from afina.data.read.item import Item, Knows, Record, broken, column_names
from afina.data.read.shown import shown_number, shown_time
from afina.data.read.unpack import BREAKS

LARGEST_SHEETS = 64 * MIB  # bytes of the sheets' XML: each cell takes ten times its text
_HEADER_ROWS = 10  # rows that may stand above the columns' names
_FORMULA = re.compile(rb"<f[ >/]")
_MEMBER = re.compile(r"xl/worksheets/[^/]+\.xml")


@dataclass(frozen=True)
class _Sheet:
    """The cells of a sheet as shown: row number → texts. ``problems``: row number → what cannot be read in it."""

    title: str
    rows: dict[int, list[str]]
    problems: dict[int, str]


def excel_rows(name: str, data: bytes, knows: Knows, notes: list[str]) -> Iterator[Item]:
    """The rows of all sheets. Raises DataError where the file is broken, locked or too large."""
    has_formulas = _check(name, data)
    book = _load(name, data, values=True)
    formulas = _load(name, data, values=False) if has_formulas else None
    sheets = []
    for sheet in book.worksheets:
        if sheet.sheet_state != "visible":
            notes.append(_("the hidden sheet '{sheet}' is not read").format(sheet=sheet.title))
        elif (found := _cells(sheet, formulas[sheet.title] if formulas else None)).rows:
            sheets.append(found)
    headers = [_header_row(sheet, knows) for sheet in sheets]
    known = [header is not None and knows(sheet.rows[header]) for sheet, header in zip(sheets, headers, strict=True)]
    for sheet, header, is_known in zip(sheets, headers, known, strict=True):
        if header is None or (any(known) and not is_known):
            first = next(iter(sheet.rows.values()))
            shown = ", ".join(repr(cell) for cell in (sheet.rows[header] if header is not None else first) if cell)
            notes.append(
                _("the sheet '{sheet}' is not read, for its columns are {columns}").format(sheet=sheet.title, columns=shown)
            )
        else:
            yield from _table(f"{name}[{sheet.title}]", sheet, header, notes)


def _check(name: str, data: bytes) -> bool:
    """Whether there are formulas. Raises DataError where the sheets are larger than what can be held."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > LARGEST_SHEETS:
                raise DataError(
                    _("{name} unpacks to {size}; a workbook has to be held as a whole, and {limit} are the most").format(
                        name=name, size=format_bytes(size), limit=format_bytes(LARGEST_SHEETS)
                    ),
                    fix=_("save each sheet as CSV in UTF-8, without pictures"),
                )
            return any(_FORMULA.search(archive.read(member)) for member in archive.namelist() if _MEMBER.fullmatch(member))
    except BREAKS as error:
        raise _broken(name, error) from None


def _load(name: str, data: bytes, *, values: bool) -> Any:
    try:
        return openpyxl.load_workbook(io.BytesIO(data), data_only=values)
    except Exception as error:  # noqa: BLE001  # openpyxl lets any error of its XML reading out
        raise _broken(name, error) from None


def _broken(name: str, error: Exception) -> DataError:
    return DataError(
        _("{name} cannot be read as a workbook of Excel: {reason}").format(name=name, reason=str(error).split("\n")[0]),
        fix=_("open it in the spreadsheet program and save it again as .xlsx, or as CSV in UTF-8"),
    )


def _cells(sheet: Any, formulas: Any) -> _Sheet:
    """The texts of all rows that have any; merged cells are filled but in none of the first rows, where they are titles."""
    rows: dict[int, list[str]] = {}
    problems: dict[int, str] = {}
    for row in sheet.iter_rows():
        texts = [_shown(cell) for cell in row]
        for cell in row:
            place = f"{get_column_letter(cell.column)}{cell.row}"
            if cell.data_type == "e":
                problems.setdefault(cell.row, _("the cell {place} holds the error {error}").format(place=place, error=cell.value))
            elif formulas is not None and cell.value is None and formulas[place].data_type == "f":
                reason = _(
                    "the cell {place} is a formula without a stored value: open the file in the spreadsheet program and save it"
                )
                problems.setdefault(cell.row, reason.format(place=place))
        if any(texts) or row[0].row in problems:
            rows[row[0].row] = texts
    for area in sheet.merged_cells.ranges:
        value = rows.get(area.min_row, [""] * area.max_col)[area.min_col - 1]
        for number in range(area.min_row, area.max_row + 1):
            if value and number in rows and number > 1:
                cells = rows[number]
                cells[area.min_col - 1 : area.max_col] = [value] * (area.max_col - area.min_col + 1)
    return _Sheet(sheet.title, rows, problems)


def _shown(cell: Any) -> str:
    match cell.value:
        case None:
            return ""
        case str() as text:
            return text
        case bool() as truth:
            return "TRUE" if truth else "FALSE"
        case int() | float() as number:
            return shown_number(number, cell.number_format)
        case datetime() | date() | time() | timedelta() as moment:
            return shown_time(moment, cell.number_format)
        case other:
            return str(other)


def _header_row(sheet: _Sheet, knows: Knows) -> int | None:
    """The number of the row that names the columns."""
    first = [number for number, cells in sheet.rows.items() if sum(map(bool, cells)) >= 2][:_HEADER_ROWS]
    return next((number for number in first if knows(_named(sheet.rows[number]))), first[0] if first else None)


def _named(cells: Sequence[str]) -> list[str]:
    return [cell for cell in cells if cell.strip()]


def _table(name: str, sheet: _Sheet, header: int, notes: list[str]) -> Iterator[Item]:
    names = column_names(Source(name, header), sheet.rows[header])
    above = [number for number in sheet.rows if number < header]
    if above:
        notes.append(_("{sheet}: the rows above the columns' names are not read ({count})").format(sheet=name, count=len(above)))
    nameless = 0
    for number, cells in sheet.rows.items():
        if number <= header:
            continue
        source = Source(name, number)
        if reason := sheet.problems.get(number):
            yield broken(source, reason)
            continue
        nameless += sum(bool(cell) for cell, column in zip(cells, names, strict=True) if not column)
        yield Record(source, {column: cell for column, cell in zip(names, cells, strict=True) if column})
    if nameless:
        notes.append(
            _("{sheet}: {count} cells stand in columns without a name and are not read").format(sheet=name, count=nameless)
        )
