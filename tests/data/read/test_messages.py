from __future__ import annotations

import json
from typing import Any

import pytest

from afina.data.conversation import Conversation, Finding, Message, Source, ToolCall
from afina.data.read.shapes import choose_shape, converse
from afina.data.read.strict_json import parse_json

PLACE = Source("x.jsonl", 7)
TOOLS = [{"name": "sum", "parameters": {"type": "object", "properties": {"n": {"type": "number"}}}}, {"name": "now"}]
SUM = ToolCall("sum", '{"n": 1.50}')
USER = {"role": "user", "content": "a"}
ASSISTANT = {"role": "assistant", "content": "b"}


def read(value: Any, notes: list[Finding] | None = None) -> Any:
    row = parse_json(json.dumps(value).replace("1.5", "1.50"))
    return converse(row, PLACE, choose_shape([(PLACE, row)], None), None, "", notes)


def messages_of(value: Any) -> tuple[Message, ...]:
    found = read(value)
    assert isinstance(found, Conversation), found
    return found.messages


def refusal_of(value: Any) -> tuple[str, str]:
    found = read(value)
    assert isinstance(found, Finding), found
    return found.check, found.reason


def openai_call(call_id: str, name: str, arguments: Any) -> Any:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


CALL_AND_RESULT = (
    Message("user", "a"),
    Message("assistant", "", (SUM,)),
    Message("tool", "2", name="sum"),
    Message("assistant", "b"),
)


@pytest.mark.parametrize(
    "row",
    [
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "tool_calls": [openai_call("c1", "sum", '{"n":1.5}')]},
                {"role": "tool", "tool_call_id": "c1", "content": "2"},
                ASSISTANT,
            ],
            "tools": TOOLS,
        },
        {
            "messages": [
                USER,
                {"role": "assistant", "content": None, "function_call": {"name": "sum", "arguments": '{"n": 1.5}'}},
                {"role": "function", "name": "sum", "content": "2"},
                ASSISTANT,
            ],
            "functions": TOOLS,
        },
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": '{"name": "sum", "arguments": {"n": 1.5}}'},
                {"from": "observation", "value": "2"},
                {"from": "gpt", "value": "b"},
            ],
            "tools": json.dumps(TOOLS),
        },
        {
            "messages": [
                USER,
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "hm"},
                        {"type": "tool_call", "value": '{"name": "sum", "arguments": {"n": 1.5}}'},
                    ],
                },
                {"role": "tool", "content": [{"type": "text", "value": "2"}]},
                {"role": "assistant", "content": [{"type": "text", "value": "b"}]},
            ],
            "tools": json.dumps(TOOLS),
        },
    ],
    ids=["OpenAI", "OpenAI before 2024", "ShareGPT", "LLaMA-Factory v1"],
)
def test_a_call_and_its_result_are_read_in_each_way_in_which_they_are_written(row: Any) -> None:
    found = read(row)
    assert isinstance(found, Conversation), found
    assert found.messages == CALL_AND_RESULT
    assert json.loads(found.tools)[0]["function"]["name"] == "sum"


def test_results_know_their_calls_by_their_ids_in_whatever_order_they_come() -> None:
    calls = [openai_call("c1", "sum", "{}"), openai_call("c2", "now", "")]
    row = {
        "messages": [
            USER,
            {"role": "assistant", "content": "Wait.", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c2", "content": "noon"},
            {"role": "tool", "tool_call_id": "c1", "content": {"total": 1.5}},
            ASSISTANT,
        ],
        "tools": TOOLS,
    }
    _user, asked, second, first, _answer = messages_of(row)
    assert asked == Message("assistant", "Wait.", (ToolCall("sum", "{}"), ToolCall("now", "{}")))
    assert second == Message("tool", "noon", name="now")
    assert first == Message("tool", '{"total": 1.50}', name="sum")


def test_a_call_may_be_the_last_answer_and_a_result_may_be_empty() -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [openai_call("c1", "now", "{}")]}
    assert messages_of({"messages": [USER, call], "tools": TOOLS})[-1].calls == (ToolCall("now", "{}"),)
    row = {"messages": [USER, call, {"role": "tool", "content": ""}, ASSISTANT], "tools": TOOLS}
    assert messages_of(row)[2] == Message("tool", "", name="now")


def conversation(*turns: Any, tools: Any = TOOLS) -> Any:
    calls = {"role": "assistant", "content": None, "tool_calls": [openai_call("c1", "now", "{}")]}
    known = {"user": USER, "assistant": ASSISTANT, "call": calls, "result": {"role": "tool", "content": "2"}}
    return {"messages": [known.get(turn, turn) if isinstance(turn, str) else turn for turn in turns], "tools": tools}


@pytest.mark.parametrize(
    ("row", "check", "reason"),
    [
        (
            conversation("user", "result", "assistant"),
            "broken-tools",
            "message 2 is a tool's, but no call stands before it that waits for a result",
        ),
        (
            conversation("user", "assistant", "result", "assistant"),
            "broken-tools",
            "message 3 is a tool's, but no call stands before it that waits for a result",
        ),
        (
            conversation("user", "call", "result", "result", "assistant"),
            "broken-tools",
            "message 4 is a tool's, but no call stands before it that waits for a result",
        ),
        (conversation("user", "call", "user", "assistant"), "broken-tools", "message 2 calls a tool, and no result follows"),
        (conversation("user", "call", "call", "result"), "broken-tools", "message 2 calls a tool, and no result follows"),
        (
            conversation("user", "call", "result", "user", "assistant"),
            "role-order",
            "message 4 is the user's, but the assistant has not answered the tool's result before it",
        ),
        (conversation("user", "call", "result"), "no-answer", "the last message is a tool's: there is no answer to learn"),
        (
            conversation("user", "call", "result", "assistant", tools=[{"name": "other"}, {"name": "sum"}]),
            "broken-tools",
            "message 2 calls the tool 'now'; on offer are 'other', 'sum'",
        ),
        (
            conversation("user", "call", "result", "assistant", tools="[]"),
            "broken-tools",
            "message 2 calls the tool 'now', but the row offers no tools",
        ),
        (
            conversation({"role": "user", "content": "", "tool_calls": [openai_call("c", "now", "{}")]}, "assistant"),
            "broken-tools",
            "message 1 calls a tool, but it is the user's",
        ),
        (
            conversation("user", {"role": "assistant", "tool_calls": [{"id": "1"}], "content": None}),
            "broken-tools",
            "message 2 calls a tool in a way that cannot be read: a call has no name",
        ),
        (
            conversation("user", {"role": "assistant", "tool_calls": [openai_call("1", "now", "{'a'}")], "content": None}),
            "broken-tools",
            "message 2 calls a tool in a way that cannot be read: not JSON: \"'a'}\"",
        ),
        (
            conversation("user", "call", {"role": "tool", "tool_call_id": "c9", "content": "2"}, "assistant"),
            "broken-tools",
            "message 3 is the result of a call that nobody made",
        ),
        (conversation("user", "assistant", tools="[{"), "broken-tools", "the row's tools: not JSON: it breaks off"),
        (
            conversation("user", "assistant", tools=[{"name": "\ud800"}]),
            "broken-row",
            "the row's tools have half of a surrogate pair, which is no character",
        ),
        (
            conversation("user", {"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]}),
            "broken-tools",
            "message 2 has a part of type 'tool_use': not supported yet",
        ),
    ],
)
def test_calls_and_results_that_do_not_fit_together_are_refused(row: Any, check: str, reason: str) -> None:
    assert refusal_of(row) == (check, reason)


def test_words_that_are_left_out_of_the_tools_are_told() -> None:
    notes: list[Finding] = []
    tools = [{"name": "now", "strict": True}]
    assert isinstance(read(conversation("user", "assistant", tools=tools), notes), Conversation)
    reason = "words that Ollama does not show to the model are left out of the tools: 'now: strict'"
    assert notes == [Finding(PLACE, "tool-keywords", reason, "changed")]


@pytest.mark.parametrize("weight", [0, 0.0, -0.0, "0", "0.00"])
@pytest.mark.parametrize("key", ["weight", "loss_weight"])
def test_an_answer_of_weight_0_is_context_and_not_learned(key: str, weight: Any) -> None:
    row = {"messages": [{**USER, key: 0}, {**ASSISTANT, key: weight}, USER, {**ASSISTANT, key: 1}]}
    assert [message.trained for message in messages_of(row)] == [True, False, True, True]
