from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.conversation import Finding
from afina.data.read.files import TextFile
from afina.data.read.records import DELIMITERS, Record, Records, read_records

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}, {"prompt": "e", "completion": "f"}]


def knows(keys: Collection[str]) -> bool:
    return {"prompt", "completion"} <= {key.strip().lower() for key in keys} or "messages" in keys


def records_of(text: str, name: str = "x.jsonl") -> Records:
    return read_records(TextFile(Path(name), text), knows)


def rows_of(text: str, name: str = "x.jsonl") -> list[tuple[int, Any]]:
    """Line and value of each record; line and reason of each refusal."""
    return [
        (item.source.line, item.value if isinstance(item, Record) else f"{item.check}: {item.reason}")
        for item in records_of(text, name).items
    ]


def problem_of(text: str, name: str) -> DataError:
    with pytest.raises(DataError) as caught:
        rows_of(text, name)
    return caught.value


def table(rows: list[list[str]], delimiter: str = ",", **options: Any) -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=delimiter, **options).writerows(rows)
    return file.getvalue()


# ── which kind ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".txt", ""])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("jsonl", "\n".join(map(json.dumps, ROWS))),
        ("json", json.dumps(ROWS)),
        ("json", json.dumps(ROWS, indent=2)),
        ("json", json.dumps({"version": "1", "data": ROWS}, indent=2)),
        ("csv", "prompt;completion\na;b\nc;d\ne;f\n"),
    ],
)
def test_content_decides_what_a_file_is_whatever_it_is_called(kind: str, text: str, ending: str) -> None:
    records = records_of(text, f"x{ending}")
    assert records.kind == kind
    assert [item.value for item in records.items if isinstance(item, Record)] == ROWS


@pytest.mark.parametrize("name", ["notes.md", "notes.json", "x"])
def test_a_file_of_no_known_kind_shows_how_it_begins(name: str) -> None:
    error = problem_of("\n  # Notes, of today\nmore\n", name)
    assert error.what == f"{name}:1: this is neither JSONL nor JSON nor CSV: it begins with '# Notes, of today'"
    assert error.fix == "write one JSON object a line, or a CSV whose first line names the columns"


# ── JSON Lines ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_numbers_count_blank_lines_and_every_kind_of_line_end(end: str) -> None:
    assert rows_of(end.join(['{"a": "1"}', "", "   ", '{"a": "\\r2\u2028"}', ""])) == [(1, {"a": "1"}), (4, {"a": "\r2\u2028"})]


def test_one_broken_line_among_a_thousand_is_one_refusal() -> None:
    lines = [json.dumps({"prompt": str(i), "completion": "x"}) for i in range(1000)]
    lines[500] = lines[500][:-4]
    items = list(records_of("\n".join(lines)).items)
    assert sum(isinstance(item, Record) for item in items) == 999
    assert [item for item in items if isinstance(item, Finding)] == [items[500]]
    assert str(items[500].source) == "x.jsonl:501"


@pytest.mark.parametrize("first", ["{", '{"a": NaN}', "[" * 99_999, "hello"])
def test_a_broken_first_line_does_not_hide_that_a_file_is_json_lines(first: str) -> None:
    rows = rows_of(first + "\n" + "\n".join(map(json.dumps, ROWS)))
    assert [line for line, _value in rows] == [1, 2, 3, 4]
    assert rows[0][1].startswith("broken-row: ")


# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_elements_of_a_json_list_have_the_line_on_which_they_begin() -> None:
    assert rows_of('[\n {"a": "1"},\n {\n  "a": "2"\n }\n,"b"]\n', "x.json") == [(2, {"a": "1"}), (3, {"a": "2"}), (6, "b")]


def test_a_broken_element_of_a_list_is_refused_and_the_next_one_read() -> None:
    text = (
        '[{"a": "1"},\n{"a": NaN},\n{"a": "]",\n "b" 3, "c": [{}]},\n{"a": "4", "a": "5"},\n'
        + "[" * 9999
        + "]" * 9999
        + ',\n{"a": "6"},]'
    )
    assert rows_of(text, "x.json") == [
        (1, {"a": "1"}),
        (2, "broken-row: not JSON: NaN is not a JSON number"),
        (3, """broken-row: not JSON from column 6 on: '3, "c": [{}]},' (line 4)"""),
        (5, "broken-row: the key 'a' stands twice"),
        (6, "broken-row: it is nested too deeply"),
        (7, {"a": "6"}),
        (7, "broken-row: not JSON from column 12 on: ']'"),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[{"a": 1},\n {"b": 2}', "x.json:2: not JSON: it breaks off"),
        ('[{"a": 1}\n {"b": 2}]', "x.json:2: not JSON from column 2 on: '{\"b\": 2}]'"),
        ('[{"a": 1},\n {"b": "2}]', "x.json:2: not JSON from column 8 on: '\"2}]'"),
        ('[{"a": 1},\n2]\n]', "x.json:3: not JSON from column 1 on: ']'"),
        ('{"data": [{"a": 1}]\n "b": 2}', "x.json:2: not JSON from column 2 on: '\"b\": 2}'"),
        ('{"a": 1} {"b": 2}', "x.json:1: not JSON from column 10 on: '{\"b\": 2}'"),
        ("[" * 99_999, "x.json:1: it is nested too deeply"),
    ],
)
def test_json_in_which_rows_cannot_be_told_apart_stops_the_file_with_its_line(text: str, what: str) -> None:
    error = problem_of(text, "x.json")
    assert error.what == what
    assert error.fix == "mend the JSON there; in JSONL (one object a line) only the broken line would be left out"


def test_an_object_with_one_list_of_objects_holds_the_rows_in_it() -> None:
    text = '{"version": 1, "tags": ["x"],\n"data": [\n{"a": "1"},\n"b"], "empty": []}'
    assert rows_of(text, "x.json") == [(3, {"a": "1"}), (4, "b")]


def test_an_object_with_two_lists_of_objects_is_asked_about() -> None:
    error = problem_of('{"train": [{}], "test": [{}]}', "my x.json")
    assert error.what == "my x.json:1: the object holds 2 lists: 'train', 'test'"
    assert error.fix == """write the one to use to a file of its own: jq '."train"' 'my x.json' > train.json"""


def test_an_object_that_is_itself_a_row_is_one_row() -> None:
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert rows_of(json.dumps(row, indent=1), "x.json") == [(1, row)]
    assert rows_of(json.dumps(row), "x.jsonl") == [(1, row)]


def test_a_list_of_messages_is_one_conversation_and_not_many_rows() -> None:
    row = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert rows_of("\n" + json.dumps(row), "x.json") == [(2, row)]
    assert rows_of(json.dumps([row, row]), "x.json") == [(1, row), (1, row)]


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), min_size=1, max_size=6), st.integers(0, 3) | st.none())
def test_no_row_of_a_json_list_vanishes(rows: list[dict[str, str]], indent: int | None) -> None:
    assert [value for _line, value in rows_of(json.dumps(rows, indent=indent), "x.json")] == rows


@settings(deadline=None)
@given(st.text(alphabet='[]{},:"\\ \n1ae', max_size=60))
def test_any_json_like_text_is_read_or_stopped_with_its_place(text: str) -> None:
    problem = ""
    items = records_of("[" + text, "x.json").items
    while not problem:
        try:
            item = next(items, None)
        except DataError as error:
            problem = error.what
        else:
            if item is None:
                return
            assert 1 <= item.source.line <= text.count("\n") + 1
    assert re.match(r"x\.json:\d+: .", problem)


# ── CSV ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


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
