from __future__ import annotations

import json
from typing import Any

import pytest

from afina.data.conversation import Finding, Message, Preference, Source
from afina.data.read.shapes import choose_shape, converse
from afina.data.read.strict_json import parse_json

PLACE = Source("x.jsonl", 7)
USER = {"role": "user", "content": "a"}
BETTER = {"role": "assistant", "content": "b"}
WORSE = {"role": "assistant", "content": "c"}
PROMPT = (Message("user", "a"),)


def read(value: Any, system: str | None = None) -> Any:
    row = parse_json(json.dumps(value))
    return converse(row, PLACE, choose_shape([(PLACE, row)], None), system)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"question": "a", "chosen": "b", "rejected": "c", "system": " "},
        {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"},
        {"prompt": [USER], "chosen": [BETTER], "rejected": [WORSE]},
        {"prompt": "a", "chosen": [USER, BETTER], "rejected": [USER, WORSE]},
        {"chosen": [USER, BETTER], "rejected": [USER, WORSE]},
        {"chosen_messages": [USER, BETTER], "rejected_messages": [USER, WORSE]},
        {"prompt": "a", "chosen_response": "b", "rejected_response": "c"},
        {
            "conversations": [{"from": "human", "value": "a"}],
            "chosen": {"from": "gpt", "value": "b"},
            "rejected": {"from": "gpt", "value": "c"},
        },
        {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    ],
)
def test_a_pair_is_read_in_each_way_in_which_it_is_written(row: Any) -> None:
    assert read(row) == Preference(PROMPT, "b", "c", PLACE)


def test_a_pair_may_have_earlier_turns_and_a_system_message() -> None:
    earlier = [USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]
    found = read({"system": "S", "messages": earlier, "chosen": BETTER, "rejected": WORSE}, system="of the recipe")
    assert isinstance(found, Preference)
    assert [message.content for message in found.prompt] == ["S", "a", "x", "y"]
    found = read({"prompt": "a", "chosen": "b", "rejected": "c"}, system="of the recipe")
    assert found.prompt == (Message("system", "of the recipe"), *PROMPT)


@pytest.mark.parametrize(
    ("row", "check", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "preference", "the better and the worse answer are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty", "'rejected' has no text"),
        ({"chosen": "b", "rejected": "c"}, "empty", "there is no user turn"),
        (
            {"chosen": [USER, BETTER], "rejected": [{**USER, "content": "z"}, WORSE]},
            "preference",
            "'chosen' and 'rejected' differ before their last message",
        ),
        ({"chosen": [USER], "rejected": [USER]}, "role-order", "'chosen' or 'rejected' does not end with the assistant"),
        (
            {"messages": [USER, BETTER], "chosen": BETTER, "rejected": WORSE},
            "role-order",
            "the prompt of the pair does not end with the user",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c", "tools": [{"name": "f"}]},
            "broken-tools",
            "a preference pair that offers tools: not supported yet",
        ),
        ({"prompt": "a", "chosen": 1, "rejected": True}, "broken-row", "'rejected' is true, not a text"),
    ],
)
def test_a_pair_that_compares_nothing_is_refused(row: Any, check: str, reason: str) -> None:
    found = read(row)
    assert isinstance(found, Finding)
    assert (found.check, found.reason) == (check, reason)
