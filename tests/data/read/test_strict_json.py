from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.read.strict_json import BrokenJsonError, parse_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON_VALUES, st.booleans())
def test_what_json_writes_is_read(value: object, ascii_only: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only)) == value


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused_with_a_reason(text: str) -> None:
    try:
        accepted = json.loads(text, parse_constant=lambda _name: 1 / 0) is not Ellipsis
    except (ValueError, ZeroDivisionError):
        accepted = False
    if accepted:
        parse_json(text)
    else:
        with pytest.raises(BrokenJsonError) as caught:
            parse_json(text)
        assert caught.value.reason


@pytest.mark.parametrize("number", ["1.50", "-0", "1E400", "123456789" * 1000])
def test_numbers_stay_as_they_are_written(number: str) -> None:
    assert parse_json(number) == number


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON: it breaks off"),
        ('{"a": 1', "not JSON: it breaks off"),
        ("{'a': 1}", """not JSON from column 2 on: "'a': 1}\""""),
        ('{"a": 1}\n {"b": 2} ', "not JSON from column 2 on: '{\"b\": 2} '"),
        ('{"a": NaN}', "not JSON: NaN is not a JSON number"),
        ('{"a": -Infinity}', "not JSON: -Infinity is not a JSON number"),
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ("[" * 100_000, "it is nested too deeply"),
        ('["tab\there"]', "not JSON from column 6 on: '\\there\"]'"),
    ],
)
def test_what_is_not_json_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(BrokenJsonError) as caught:
        parse_json(text)
    assert caught.value.reason == reason


def test_the_json_test_suite_is_judged_as_it_asks_to_be(shared_data: Path) -> None:
    files = sorted((shared_data / "dirty-json" / "test_parsing").glob("*.json"))
    assert len(files) > 300
    wrong = []
    for file in files:
        try:
            parse_json(file.read_bytes().decode("utf-8"))
            accepted = True
        except (BrokenJsonError, UnicodeDecodeError):
            accepted = False
        if file.name[0] != "i" and accepted != (file.name[0] == "y"):
            wrong.append(file.name)
    # A key twice is JSON, but nobody can say which of the two values an example means.
    assert wrong == ["y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"]
