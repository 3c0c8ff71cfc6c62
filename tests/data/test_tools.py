from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.data.conversation import ToolCall
from afina.data.read.strict_json import parse_json
from afina.data.tools import BrokenToolsError, normalise_arguments, normalise_tools, read_calls, tool_names

WEATHER = {
    "function": {
        "parameters": {
            "additionalProperties": False,
            "properties": {
                "place": {"description": "Where", "minLength": 2, "type": "string", "default": "Úbeda"},
                "days": {"enum": [1, 2.50], "type": ["integer"], "anyOf": []},
                "hours": {"type": ["array", "null"], "items": {"type": "integer", "minimum": 0, "enum": [2, 1]}},
                "at": {"required": ["x"], "properties": {"x": {"type": "number", "format": "float"}}, "type": "object"},
            },
            "required": ["place"],
            "$defs": {"z": {"type": "string", "a": 1}},
            "type": "object",
        },
        "description": 'El "tiempo" <hoy> & mañana',
        "name": "weather",
        "strict": True,
    },
    "type": "function",
}
WRITTEN = (
    '[{"type": "function", "function": {"name": "weather", "description": "El \\"tiempo\\" <hoy> & mañana", "parameters": '
    '{"type": "object", "$defs": {"z": {"a": 1, "type": "string"}}, "required": ["place"], "properties": {'
    '"place": {"type": "string", "description": "Where"}, '
    '"days": {"type": "integer", "enum": [1, 2.50]}, '
    '"hours": {"type": ["array", "null"], "items": {"enum": [2, 1], "minimum": 0, "type": "integer"}}, '
    '"at": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}}}}}]'
)
LEFT_OUT = (
    "weather: strict",
    "weather: parameters.additionalProperties",
    "weather: parameters.place.minLength",
    "weather: parameters.place.default",
    "weather: parameters.at.x.format",
)


def as_read(value: Any) -> Any:
    """The value as it comes out of a JSONL file; 2.5 is written as 2.50."""
    return parse_json(json.dumps(value).replace("2.5", "2.50"))


def test_tools_are_written_as_the_server_will_write_them() -> None:
    assert normalise_tools(as_read([WEATHER])) == (WRITTEN, LEFT_OUT)


def test_tools_may_be_a_text_one_tool_or_bare_functions() -> None:
    text = json.dumps([WEATHER]).replace("2.5", "2.50")
    assert normalise_tools(text) == (WRITTEN, LEFT_OUT)
    assert normalise_tools(as_read(WEATHER)) == (WRITTEN, LEFT_OUT)
    assert normalise_tools(as_read([WEATHER["function"]])) == (WRITTEN, LEFT_OUT)
    assert normalise_tools(as_read({"type": "function", **WEATHER["function"]})) == (WRITTEN, LEFT_OUT)  # type: ignore[dict-item]


def test_what_is_normalised_stays_as_it_is() -> None:
    assert normalise_tools(WRITTEN) == (WRITTEN, ())


def test_a_tool_without_parameters_has_an_empty_object_of_them() -> None:
    written = '[{"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]'
    for tool in ({"name": "now"}, {"name": "now", "description": "", "parameters": {"required": []}}):
        assert normalise_tools([tool]) == (written, ())


@pytest.mark.parametrize("value", [None, "", "[]", [], {}])
def test_no_tools_are_no_text(value: Any) -> None:
    assert normalise_tools(value) == ("", ())
    assert tool_names("") == frozenset()


def test_names_of_tools() -> None:
    assert tool_names(normalise_tools([{"name": "a"}, {"name": "b"}])[0]) == {"a", "b"}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("[{", "not JSON: it breaks off"),
        ("[{'name': 'a'}]", "not JSON: \"'name': 'a'}]\""),
        ('[{"name": "a", "name": "b"}]', "a key stands twice in the JSON"),
        ('[{"name": NaN}]', "not JSON: NaN is not a JSON number"),
        ("7", "a tool is not an object"),
        ([{}], "a tool has no name"),
        ([{"name": ""}], "a tool has no name"),
        ([{"type": "function", "function": "f"}], "a tool has no name"),
        (
            [{"name": "w", "type": "web_search"}],
            "the tool 'w' is of type 'web_search'; only functions can be offered to a model of one's own",
        ),
        ([{"name": "a"}, {"name": "a"}], "two tools have the same name"),
        ([{"name": "a", "description": ["x"]}], "the tool 'a': description is not a text"),
        ([{"name": "a", "parameters": ["x"]}], "the tool 'a' has parameters that are not an object"),
        ([{"name": "a", "parameters": {"properties": ["x"]}}], "the tool 'a' has properties that are not an object"),
        ([{"name": "a", "parameters": {"properties": {"p": True}}}], "the tool 'a': parameters.p is not an object"),
        ([{"name": "a", "parameters": {"properties": {"p": {"enum": "x"}}}}], "the tool 'a': parameters.p.enum is not a list"),
        (
            [{"name": "a", "parameters": {"properties": {"p": {"anyOf": {"a": 1}}}}}],
            "the tool 'a': parameters.p.anyOf is not a list",
        ),
        ([{"name": "a", "parameters": {"required": "p"}}], "the tool 'a': required is not a list of names"),
        ("[" * 100_000, "it is nested too deeply"),
        ([{"name": "a", "x": {1, 2}}], "{1, 2} is nothing that JSON can hold"),
    ],
)
def test_tools_that_cannot_be_read_are_refused_with_the_reason(value: Any, reason: str) -> None:
    with pytest.raises(BrokenToolsError) as caught:
        normalise_tools(value)
    assert caught.value.reason == reason


def test_tools_nested_deeper_than_one_can_walk_are_refused() -> None:
    deep: Any = {}
    for _step in range(5000):
        deep = {"properties": {"p": deep}}
    with pytest.raises(BrokenToolsError):
        normalise_tools([{"name": "a", "parameters": deep}])


# ── calls ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_arguments_are_the_same_json_as_python_writes(arguments: dict[str, Any]) -> None:
    text = json.dumps(arguments, ensure_ascii=False)
    assert normalise_arguments(arguments) == text
    assert normalise_arguments(json.dumps(arguments, indent=2)) == text
    assert normalise_arguments(parse_json(text)) == text


def test_arguments_keep_the_order_of_their_keys_and_the_form_of_their_numbers() -> None:
    assert normalise_arguments('{"z":1.50,"a":"1.50" , "ñ":[1e3]}') == '{"z": 1.50, "a": "1.50", "ñ": [1e3]}'


@pytest.mark.parametrize("value", [None, "", " ", "{}", {}])
def test_no_arguments_are_an_empty_object(value: Any) -> None:
    assert normalise_arguments(value) == "{}"


@pytest.mark.parametrize("value", ["[1]", "7", ["a"], "{'a': 1}", "{", True])
def test_arguments_that_are_no_object_are_refused(value: Any) -> None:
    with pytest.raises(BrokenToolsError):
        normalise_arguments(value)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "f", "arguments": {"a": 1}},
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        [{"name": "f", "parameters": {"a": 1}}],
        '{"name": "f", "arguments": {"a": 1}}',
        '[{"name": "f", "arguments": "{\\"a\\": 1}"}]',
    ],
)
def test_a_call_is_read_in_each_way_in_which_it_is_written(value: Any) -> None:
    assert read_calls(value) == (ToolCall("f", '{"a": 1}'),)


@pytest.mark.parametrize("value", ["", "x", {}, ["f"], {"name": 7}, {"function": {}}, None])
def test_a_call_without_a_name_is_refused(value: Any) -> None:
    with pytest.raises(BrokenToolsError):
        read_calls(value)
