"""The cases follow the keywords' definitions in JSON Schema's validation vocabulary (2020-12), sections 6.1 to 6.5 and 10.3."""

from typing import Any

import pytest

from afina.recipe.schema import conforms, problem_of

PRICE = {
    "type": "object",
    "required": ["name", "price"],
    "properties": {
        "name": {"type": "string"},
        "price": {"type": ["number", "null"]},
        "unit": {"enum": ["litre", 1, None]},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("value", "obeys"),
    [
        ({"name": "paint", "price": 9.9}, True),
        ({"name": "paint", "price": None, "unit": "litre", "tags": ["a", "b"]}, True),
        ({"name": "paint"}, False),
        ({"name": 7, "price": 1}, False),
        ({"name": "paint", "price": True}, False),
        ({"name": "paint", "price": 1, "unit": 1.0}, True),
        ({"name": "paint", "price": 1, "unit": True}, False),
        ({"name": "paint", "price": 1, "tags": ["a", 1]}, False),
        ({"name": "paint", "price": 1, "colour": "red"}, False),
        ([], False),
        ("paint", False),
    ],
)
def test_values_obey_or_not(value: Any, obeys: bool) -> None:
    assert problem_of(PRICE) == ""
    assert conforms(value, PRICE) is obeys


@pytest.mark.parametrize(
    ("value", "name", "obeys"),
    [
        (1, "integer", True),
        (1.0, "integer", True),
        (1.5, "integer", False),
        (float("1e400"), "integer", False),
        (True, "integer", False),
        (True, "boolean", True),
        (None, "null", True),
        ("1", "number", False),
        ({}, "object", True),
        ([], "array", True),
    ],
)
def test_types_are_json_s(value: Any, name: str, obeys: bool) -> None:
    assert conforms(value, {"type": name}) is obeys


def test_words_for_objects_do_not_bind_other_values() -> None:
    assert conforms("text", {"required": ["a"], "properties": {"a": {"type": "string"}}})
    assert conforms({"anything": 1}, {})


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ([], "a schema is an object"),
        ({"minimum": 3}, "'minimum' is not among the words"),
        ({"properties": {"a": {"type": "text"}}}, "type 'text' (properties.a) is none of"),
        ({"items": {"pattern": "x"}}, "'pattern' (items) is not"),
        ({"required": "a"}, "required is not a list"),
        ({"additionalProperties": {"type": "string"}}, "additionalProperties may be true or false"),
        ({"properties": []}, "properties is not an object"),
    ],
)
def test_words_that_are_not_known_are_refused_and_not_passed_over(schema: Any, problem: str) -> None:
    assert problem in problem_of(schema)
