from __future__ import annotations

import datetime as dt
import io
import zipfile
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.read import excel
from afina.data.read.item import Record
from tests.data.read.written import problem_of, records_of, rows_of


def workbook(**sheets: list[list[Any]]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    return book


def saved(book: openpyxl.Workbook) -> bytes:
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def test_each_sheet_is_a_table_of_its_own() -> None:
    book = workbook(
        FAQ=[["Prompt", "Completion"], ["a", "b"], [None, None], ["c", "1,50"]],
        More=[["prompt", "completion", None], ["d", "e", None]],
        Prices=[["Producto", "Precio"], ["x", 1]],
        Empty=[],
    )
    book.create_sheet("Secret").append(["prompt", "completion"])
    book["Secret"].sheet_state = "hidden"
    records = records_of(saved(book), "faq.xlsx")
    assert records.kind == "excel"
    assert [(str(item.source), getattr(item, "value", None)) for item in records.items] == [
        ("faq.xlsx[FAQ]:2", {"Prompt": "a", "Completion": "b"}),
        ("faq.xlsx[FAQ]:4", {"Prompt": "c", "Completion": "1,50"}),
        ("faq.xlsx[More]:2", {"prompt": "d", "completion": "e"}),
    ]
    assert records.notes == [
        "the hidden sheet 'Secret' is not read",
        "the sheet 'Prices' is not read, for its columns are 'Producto', 'Precio'",
    ]


def test_merged_cells_stand_in_each_of_the_cells_that_they_cover() -> None:
    book = workbook(S=[["prompt", "completion", "topic"], ["a", "b", "t"], ["c", "d", None], ["e", None, None]])
    book["S"].merge_cells("C2:C4")
    book["S"].merge_cells("A4:B4")
    assert rows_of(saved(book), "x.xlsx") == [
        (2, {"prompt": "a", "completion": "b", "topic": "t"}),
        (3, {"prompt": "c", "completion": "d", "topic": "t"}),
        (4, {"prompt": "e", "completion": "e", "topic": "t"}),
    ]


def test_numbers_and_dates_are_read_as_the_sheet_shows_them() -> None:
    moment = dt.datetime.fromisoformat("2024-01-31 18:05")
    values = [(1234.5, "General"), (1234.5, '#,##0.00 "€"'), (0.25, "0%"), (28001, "00000"), (True, "General")]
    times = [(moment, "dd/mm/yyyy"), (moment, "mm-dd-yy"), (moment, "yyyy-mm-dd hh:mm"), (dt.time(8, 30), "h:mm")]
    book = workbook(S=[["prompt", "completion"], *[["a", value] for value, _form in (*values, *times)]])
    for row, (_value, form) in enumerate((*values, *times), start=2):
        book["S"].cell(row, 2).number_format = form
    assert [value["completion"] for _line, value in rows_of(saved(book), "x.xlsx")] == [
        "1234.5", "1,234.50 €", "25%", "28001", "TRUE", "31/01/2024", "2024-01-31 18:05", "2024-01-31 18:05", "8:30",
    ]  # fmt: skip


def test_a_formula_without_a_stored_value_and_an_error_cost_their_row() -> None:
    book = workbook(S=[["prompt", "completion"], ["a", "=1+1"], ["b", "#N/A"], ["c", "d"]])
    rows = rows_of(saved(book), "x.xlsx")
    assert rows[0][1].startswith("broken-row: the cell B2 is a formula without a stored value")
    assert rows[1:] == [(3, "broken-row: the cell B3 holds the error #N/A"), (4, {"prompt": "c", "completion": "d"})]


def test_a_formula_is_read_by_its_stored_value() -> None:
    content = saved(workbook(S=[["prompt", "completion"], ["a", "=1+1"]]))
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(changed, "w") as after:
        for member in before.namelist():
            after.writestr(
                member,
                before.read(member)
                .replace(b"<f>1+1</f><v></v>", b"<f>1+1</f><v>2</v>")
                .replace(b"<f>1+1</f><v/>", b"<f>1+1</f><v>2</v>"),
            )
    assert rows_of(changed.getvalue(), "x.xlsx") == [(2, {"prompt": "a", "completion": "2"})]


def test_a_title_above_the_columns_names_is_told() -> None:
    book = workbook(S=[["Our questions", None], [None, None], ["prompt", "completion"], ["a", "b"]])
    book["S"].merge_cells("A1:B1")
    records = records_of(saved(book), "x.xlsx")
    assert [item.source.line for item in records.items] == [4]
    assert records.notes == ["x.xlsx[S]: the rows above the columns' names are not read (1)"]


def test_a_sheet_of_unknown_columns_is_given_where_none_is_known() -> None:
    book = workbook(S=[["Nombre", "Pasos", None], ["Pan", "amasar", "loose"]])
    records = records_of(saved(book), "x.xlsx")
    assert [getattr(item, "value", None) for item in records.items] == [{"Nombre": "Pan", "Pasos": "amasar"}]
    assert records.notes == ["x.xlsx[S]: 1 cells stand in columns without a name and are not read"]


def test_two_columns_of_one_name_are_told_with_the_sheet() -> None:
    error = problem_of(saved(workbook(S=[["prompt", "completion", "Prompt"], ["a", "b", "c"]])), "x.xlsx")
    assert error.what == "x.xlsx[S]:1: two columns are called 'prompt'"


def test_broken_and_too_large_workbooks_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(workbook(S=[["prompt", "completion"], ["a", "b"]]))
    assert problem_of(content[:-200], "x.xlsx").what.startswith("x.xlsx cannot be read as a workbook of Excel: ")
    with_broken_sheet = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(with_broken_sheet, "w") as after:
        for member in before.namelist():
            after.writestr(member, b"<broken" if "sheet1" in member else before.read(member))
    assert problem_of(with_broken_sheet.getvalue(), "x.xlsx").what.startswith("x.xlsx cannot be read as a workbook of Excel: ")
    monkeypatch.setattr(excel, "LARGEST_SHEETS", 100)
    assert "a workbook has to be held as a whole" in problem_of(content, "x.xlsx").what


CELL = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=9).filter(
    lambda text: text[0] != "=" and text not in ("#N/A", "#REF!") and "_x" not in text and not text.isspace()
)


@settings(max_examples=25)
@given(st.lists(st.tuples(CELL, CELL), min_size=1, max_size=4))
def test_what_a_sheet_holds_is_read_to_the_letter(rows: list[tuple[str, str]]) -> None:
    content = saved(workbook(S=[["prompt", "completion"], *map(list, rows)]))
    values = [item.value for item in records_of(content, "x.xlsx").items if isinstance(item, Record)]
    assert values == [{"prompt": prompt, "completion": completion} for prompt, completion in rows]
