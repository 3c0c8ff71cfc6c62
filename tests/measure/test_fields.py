import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.measure.fields import field_match, json_value

values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a", "b"]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.sampled_from("abc"), below, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


@pytest.mark.parametrize(
    ("answer", "reference", "share"),
    [
        ('{"a": 1, "b": "x"}', '{"b": "x", "a": 1.0}', 1),
        ('{"a": 1, "b": "y"}', '{"a": 1, "b": "x"}', 1 / 2),
        ('{"a": 1}', '{"a": 1, "b": "x"}', 1 / 2),
        ('{"a": 1, "c": 2}', '{"a": 1}', 1 / 2),
        ('{"a": [1, 2, 3]}', '{"a": [1, 2]}', 2 / 3),
        ('{"a": {"b": true}}', '{"a": {"b": 1}}', 0),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1),
        ("the answer is {}", "{}", 0),
        ("{}", "{}", 1),
        ("{}", "[]", 0),
    ],
)
def test_fields_are_counted_that_either_has(answer: str, reference: str, share: float) -> None:
    assert field_match(answer, reference) == pytest.approx(share)


@given(objects, objects)
def test_it_is_the_share_of_common_leaves_among_all(one: object, other: object) -> None:
    """By another way: the leaves as lines of text, as a set."""

    def lines(value: object, path: str) -> set[str]:
        if isinstance(value, dict | list) and value:
            pairs = value.items() if isinstance(value, dict) else enumerate(value)
            return {line for key, below in pairs for line in lines(below, f"{path}/{key!r}")}
        return {f"{path} = {json.dumps(value)}"}

    ours, theirs = lines(one, ""), lines(other, "")
    paths = {line.partition(" = ")[0] for line in ours | theirs}
    assert field_match(json.dumps(one), json.dumps(other)) == pytest.approx(len(ours & theirs) / len(paths))


@pytest.mark.parametrize("text", ["", "7", '"a"', "{", "[NaN]", "{'a': 1}", "[" * 100_000, '{"a": 1} and more'])
def test_what_is_no_object_or_list_of_json_is_none(text: str) -> None:
    assert json_value(text) is None
