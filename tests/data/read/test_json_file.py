from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from tests.data.read.written import problem_of, rows_of


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
        (8, "broken-row: not JSON from column 12 on: ']'"),
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
    assert rows_of(json.dumps([row, row]), "x.json") == [(1, row), (2, row)], "in one line rows are numbered"


@settings(deadline=None)
@given(st.lists(st.dictionaries(st.text(), st.text(), max_size=3), min_size=1, max_size=6), st.integers(0, 3) | st.none())
def test_no_row_of_a_json_list_vanishes(rows: list[dict[str, str]], indent: int | None) -> None:
    assert [value for _line, value in rows_of(json.dumps(rows, indent=indent), "x.json")] == rows


@settings(deadline=None)
@given(st.text(alphabet='[]{},:"\\ \n1ae', max_size=60))
def test_any_json_like_text_is_read_or_stopped_with_its_place(text: str) -> None:
    try:
        rows = rows_of("[" + text, "x.json")
    except DataError as error:
        assert re.match(r"x\.json:\d+: .", error.what)
    else:
        numbers = [line for line, _value in rows]
        assert numbers == sorted(set(numbers)), "no two rows have the same place"
        assert all(1 <= line <= text.count("\n") + len(rows) for line in numbers)
