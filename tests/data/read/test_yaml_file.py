from __future__ import annotations

import time
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.data.read.written import problem_of, rows_of

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(10)
)


def values_of(text: str) -> list[Any]:
    return rows_of(text, "x.yaml")


def test_a_list_of_rows_has_the_lines_on_which_they_begin() -> None:
    text = "# FAQ\n- prompt: a\n  completion: |\n    uno\n    dos\n\n- {prompt: b, completion: 'c'}\n"
    assert values_of(text) == [
        (2, {"prompt": "a", "completion": "uno\ndos\n"}),
        (7, {"prompt": "b", "completion": "c"}),
    ]


def test_an_object_with_a_list_and_several_documents_are_read() -> None:
    row = {"prompt": "a", "completion": "b"}
    assert values_of("version: 1\nrows:\n- prompt: a\n  completion: b\n") == [(3, row)]
    assert values_of("prompt: a\ncompletion: b\n---\nprompt: a\ncompletion: b\n") == [(1, row), (4, row)]
    assert values_of("messages:\n- {role: user, content: a}\n")[0][0] == 1
    assert problem_of("a: [{b: c}]\nd: [{e: f}]\n", "x.yaml").what == "x.yaml:1: the object holds 2 lists: 'a', 'd'"


def test_words_stay_words() -> None:
    text = "- prompt: no\n  completion: 1.50\n  date: 2024-01-31\n  oct: 0o7\n  yes: on\n  t: true\n  n: null\n  e:\n"
    assert values_of(text) == [
        (
            1,
            {
                "prompt": "no", "completion": "1.50", "date": "2024-01-31", "oct": "0o7",
                "yes": "on", "t": True, "n": None, "e": None,
            },
        )
    ]  # fmt: skip


def test_tags_and_keys_that_stand_twice_cost_their_own_row() -> None:
    text = "[{prompt: a, prompt: b}, {prompt: c, completion: d}, {prompt: !!python/object/apply:os.system [ls]}, {[a]: b}]"
    assert [value for _line, value in values_of(text)] == [
        "broken-row: the key 'prompt' stands twice",
        {"prompt": "c", "completion": "d"},
        "broken-row: the tag tag:yaml.org,2002:python/object/apply:os.system asks for more than a text, a list or an object",
        "broken-row: a key is not a text",
    ]


def test_anchors_are_filled_in() -> None:
    text = "- &x {prompt: a, completion: b}\n- *x\n- {<<: *x, completion: c}\n- {prompt: *y, completion: d}\n"
    assert [value for _line, value in values_of(text)] == [
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "completion": "b"},
        {"completion": "c", "prompt": "a"},
        "broken-row: *y refers to nothing that is complete there",
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (BOMB, "x.yaml:7: not YAML: it holds more than 5,000,000 values"),
        ("a: " + "[" * 1_000_000, "x.yaml:1: not YAML: it is nested too deeply"),
        ("- a\n- b: c: d\n", "x.yaml:2: not YAML: mapping values are not allowed in this context"),
        ("- a\n- \x07\n", "x.yaml:2: not YAML: control characters are not allowed"),
    ],
)
def test_what_is_no_yaml_or_unfolds_without_end_is_stopped_at_once(text: str, what: str) -> None:
    start = time.monotonic()
    assert problem_of(text, "x.yaml").what == what
    assert time.monotonic() - start < 5


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff"), max_size=20)


@given(st.lists(st.fixed_dictionaries({"prompt": TEXT, "completion": TEXT}), min_size=1, max_size=5))
def test_what_yaml_writes_is_read_to_the_letter(rows: list[dict[str, str]]) -> None:
    text = yaml.safe_dump(rows, allow_unicode=True, default_style='"')
    assert [value for _line, value in values_of(text)] == rows
