from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.read.item import Record
from afina.data.read.table import DELIMITERS
from tests.data.read.written import problem_of, records_of, rows_of


def table(rows: list[list[str]], delimiter: str = ",", **options: Any) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, **options).writerows(rows)
    return file.getvalue()


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_is_found_although_cells_are_full_of_the_others(delimiter: str) -> None:
    text = table([["prompt", "completion"], *[[f"a, b; c|d\te {i}", "1, 2; 3, 4"] for i in range(9)]], delimiter)
    records = records_of(text, "x.csv")
    assert records.delimiter == delimiter
    assert [item.value for item in records.items if isinstance(item, Record)] == [
        {"prompt": f"a, b; c|d\te {i}", "completion": "1, 2; 3, 4"} for i in range(9)
    ]


def test_the_delimiter_of_unknown_columns_is_the_one_that_makes_equal_rows() -> None:
    assert records_of("Nombre;Pasos, muchos\nsopa;cortar, hervir, servir\npan;amasar\n", "x.csv").delimiter == ";"


def test_lines_are_counted_through_line_breaks_inside_of_quotes() -> None:
    text = 'prompt,completion\n"a\nb","c\r\n\r\nd"\n\n"say ""x""",e\n,\n'
    assert rows_of(text, "x.csv") == [
        (2, {"prompt": "a\nb", "completion": "c\r\n\r\nd"}),
        (7, {"prompt": 'say "x"', "completion": "e"}),
    ]


def test_cells_are_kept_to_the_letter() -> None:
    assert rows_of('prompt , completion,\n a ," b ",\n', "x.csv") == [(2, {"prompt": " a ", "completion": " b "})]


def test_a_row_with_another_number_of_cells_is_refused() -> None:
    assert rows_of("prompt,completion\na\na,b,c\na,b,\n", "x.csv") == [
        (2, "broken-row: 1 cells where the first line names 2 columns"),
        (3, "broken-row: 3 cells where the first line names 2 columns"),
        (4, {"prompt": "a", "completion": "b"}),
    ]


def test_a_quote_that_is_never_closed_costs_its_own_row_and_not_the_file() -> None:
    rows = rows_of('prompt,completion\n"a,b\nc,d\ne,f\n', "x.csv")
    assert rows == [
        (2, "broken-row: a quote stands inside a cell or is never closed"),
        (3, {"prompt": "c", "completion": "d"}),
        (4, {"prompt": "e", "completion": "f"}),
    ]


def test_the_tail_of_a_torn_record_is_not_taken_for_a_row() -> None:
    rows = rows_of('prompt,completion\na,"say "x" and\nthen, go"\nc,"d"\n', "x.csv")
    assert rows == [
        (2, "broken-row: a quote stands inside a cell or is never closed"),
        (3, "broken-row: a part of a record whose quotes do not pair"),
        (4, {"prompt": "c", "completion": "d"}),
    ]


def test_the_middle_of_a_torn_record_is_not_taken_for_rows() -> None:
    rows = rows_of('prompt,completion\na,"say "x" and\nthen, go\non\nto, this"\nc,"d\nd"\n', "x.csv")
    assert rows == [
        (2, "broken-row: a quote stands inside a cell or is never closed (left out up to line 5)"),
        (6, {"prompt": "c", "completion": "d\nd"}),
    ]


def test_a_cell_without_end_is_refused_and_the_next_line_read() -> None:
    rows = rows_of('prompt,completion\n"a,b\n' + "c,d\n" * 40_000, "x.csv")
    assert rows[0] == (2, "broken-row: a quote is never closed, or a cell has more than 131,072 characters")
    assert len(rows) == 40_001


def test_a_cell_that_is_too_long_behind_a_torn_record_is_a_part_of_it() -> None:
    long = "x" * 200_000
    rows = rows_of(f'prompt,completion\n"a"b,c\n{long},d\ne"\nf,g\n', "x.csv")
    assert rows == [
        (2, "broken-row: a quote stands inside a cell or is never closed (left out up to line 4)"),
        (5, {"prompt": "f", "completion": "g"}),
    ]


def test_columns_of_the_same_name_are_an_error() -> None:
    error = problem_of("prompt,completion,Prompt\na,b,c\n", "x.csv")
    assert error.what == "x.csv:1: two columns are called 'prompt'"
    assert error.fix == "give each column a name of its own"


def test_a_header_that_cannot_be_read_is_an_error() -> None:
    error = problem_of('prompt,"comp"letion\na,b\n', "x.csv")
    assert error.what == """x.csv:1: the first line, which names the columns, cannot be read (',' expected after '"')"""
    assert error.fix == "mend its quotes"


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda cell: not cell.isspace()
)


@settings(deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8), st.sampled_from(DELIMITERS), st.sampled_from(["\n", "\r\n"]))
def test_what_csv_writes_is_read_to_the_letter(rows: list[tuple[str, str]], delimiter: str, end: str) -> None:
    text = table([["prompt", "completion"], *map(list, rows)], delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    assert [value for _line, value in rows_of(text, "x.csv")] == [{"prompt": a, "completion": b} for a, b in rows]


@settings(deadline=None)
@given(st.text(alphabet='ab,;"\n\r', max_size=80))
def test_any_table_is_read_and_every_line_of_it_is_accounted_for(text: str) -> None:
    rows = rows_of("prompt,completion\n" + text, "x.csv")
    lines = [line for line, _value in rows]
    assert lines == sorted(set(lines))
    assert all(line > 1 for line in lines)
