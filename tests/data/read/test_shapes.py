from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.conversation import Conversation, Finding, Message, Source
from afina.data.read.shapes import ROLES, Choice, choose_shape, converse
from afina.data.read.strict_json import parse_json
from afina.recipe.recipe import Columns

PLACE = Source("x.jsonl", 7)
USER = {"role": "user", "content": "a"}
ASSISTANT = {"role": "assistant", "content": "b"}
PAIR = {"prompt": "a", "completion": "b"}


def choice_for(*values: Any, columns: Columns | None = None) -> Choice:
    return choose_shape([(PLACE, value) for value in values], columns)


def read(value: Any, columns: Columns | None = None, system: str | None = None) -> Conversation | Finding:
    """One row as it comes out of a file of its own."""
    row = parse_json(json.dumps(value))
    return converse(row, PLACE, choice_for(row, columns=columns), system)


def turns_of(value: Any, columns: Columns | None = None, system: str | None = None) -> list[tuple[str, str]]:
    found = read(value, columns, system)
    assert isinstance(found, Conversation), found
    return [(message.role, message.content) for message in found.messages]


def refusal_of(value: Any, columns: Columns | None = None) -> tuple[str, str]:
    """Check and reason of a row that stands in a file of good prompt/completion rows."""
    choice = choice_for(PAIR) if columns is None else choice_for({"a": "1", "b": "2", "c": "3"}, columns=columns)
    found = converse(parse_json(json.dumps(value)), PLACE, choice, None)
    assert isinstance(found, Finding), found
    assert found.source == PLACE
    return found.check, found.reason


def problem_of(*values: Any, columns: Columns | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        choice_for(*values, columns=columns)
    return caught.value


# ── a conversation written in each shape and read again ───────────────────────────────────────────────────────────────

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: not text.isspace())


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    messages = [Message("system", draw(TEXTS))] if draw(st.booleans()) else []
    for _round in range(draw(st.integers(1, 3))):
        messages += [Message("user", draw(TEXTS)), Message("assistant", draw(TEXTS))]
    return Conversation(tuple(messages), PLACE)


def parts_of(c: Conversation) -> tuple[dict[str, str], list[Message]]:
    """The system message as a key of its own, and the other messages."""
    first = c.messages[0]
    return {"system": first.content} if first.role == "system" else {}, [m for m in c.messages if m.role != "system"]


def as_openai(c: Conversation) -> Any:
    return {"messages": [{"role": m.role, "content": m.content} for m in c.messages]}


def as_openai_parts(c: Conversation) -> Any:
    return {
        "messages": [
            {"role": m.role, "content": [{"type": "text", "text": m.content[:2]}, {"type": "text", "text": m.content[2:]}]}
            for m in c.messages
        ]
    }


def as_list(c: Conversation) -> Any:
    return as_openai(c)["messages"]


def as_sharegpt(c: Conversation) -> Any:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {"id": "1", "conversations": [{"from": names[m.role], "value": m.content} for m in c.messages]}


def as_sharegpt_with_system(c: Conversation) -> Any:
    system, rest = parts_of(c)
    return {**system, "conversations": [{"from": "human" if m.role == "user" else "gpt", "value": m.content} for m in rest]}


def as_alpaca(answer: str) -> Callable[[Conversation], Any]:
    def write(c: Conversation) -> Any:
        system, rest = parts_of(c)
        history = [[q.content, a.content] for q, a in zip(rest[:-2:2], rest[1:-2:2], strict=True)]
        return {"instruction": rest[-2].content, "input": "", answer: rest[-1].content, "history": history, **system}

    return write


def as_prompt_messages(c: Conversation) -> Any:
    messages = as_list(c)
    return {"prompt": messages[:-1], "completion": messages[-1:]}


@settings(deadline=None)
@given(conversations())
@pytest.mark.parametrize(
    "write",
    [
        as_openai,
        as_openai_parts,
        as_list,
        as_sharegpt,
        as_sharegpt_with_system,
        as_alpaca("output"),
        as_alpaca("response"),
        as_prompt_messages,
    ],
)
def test_a_conversation_written_in_a_shape_is_read_as_it_was(
    write: Callable[[Conversation], Any], conversation: Conversation
) -> None:
    assert read(write(conversation)) == conversation


PAIRS = [
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("input", "output"),
    ("pregunta", "respuesta"),
    ("utterance", "intent"),
]


@settings(deadline=None)
@given(question=TEXTS, answer=TEXTS, system=TEXTS | st.none())
@pytest.mark.parametrize(("key", "answer_key"), PAIRS)
def test_two_keys_that_make_a_pair_are_read_to_the_letter(
    key: str, answer_key: str, question: str, answer: str, system: str | None
) -> None:
    row = {"id": 3, f" {key.upper()}": question, f"{answer_key.title()} ": answer, "System": system}
    assert turns_of(row) == [*([("system", system)] if system else []), ("user", question), ("assistant", answer)]


def test_roles_of_all_names_are_read_whatever_their_case() -> None:
    assert set(ROLES) == {"system", "developer", "user", "human", "assistant", "gpt"}
    row = {
        "messages": [{"role": "Developer", "content": "s"}, {"role": " HUMAN", "content": "a"}, {"role": "GPT", "content": "b"}]
    }
    assert turns_of(row) == [("system", "s"), ("user", "a"), ("assistant", "b")]


def test_task_and_input_of_alpaca_stand_below_each_other() -> None:
    assert turns_of({"instruction": "Sum", "input": "1 2", "output": "3"}) == [("user", "Sum\n1 2"), ("assistant", "3")]
    assert turns_of({"instruction": " ", "input": " 1 2 ", "output": "3"}) == [("user", " 1 2 "), ("assistant", "3")]
    assert turns_of({"instruction": "Sum", "context": "1 2", "response": "3"}) == [("user", "Sum\n1 2"), ("assistant", "3")]


def test_numbers_are_texts_as_they_are_written() -> None:
    row = parse_json('{"question": 1.50, "answer": 7}')
    assert converse(row, PLACE, choice_for(row), None) == Conversation(
        (Message("user", "1.50"), Message("assistant", "7")), PLACE
    )


def test_answers_keep_their_blanks() -> None:
    assert turns_of({"prompt": " a\n", "completion": "\n b \u2028"}) == [("user", " a\n"), ("assistant", "\n b \u2028")]


def test_a_system_message_of_the_recipe_stands_in_front_only_where_the_row_has_none() -> None:
    assert turns_of(PAIR, system="S") == [("system", "S"), ("user", "a"), ("assistant", "b")]
    assert turns_of({**PAIR, "system": "own"}, system="S")[0] == ("system", "own")
    assert turns_of({**PAIR, "system": "  "}, system="S")[0] == ("system", "S")
    assert turns_of({"messages": [{"role": "system", "content": ""}, USER, ASSISTANT]}, system="S")[0] == ("system", "S")


def test_lists_may_stand_as_json_in_the_cells_of_a_table() -> None:
    assert turns_of({"messages": json.dumps([USER, ASSISTANT])}) == [("user", "a"), ("assistant", "b")]
    row = {"instruction": "c", "input": "", "output": "d", "history": '[["a", "b"]]'}
    assert turns_of(row) == [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    assert turns_of({**row, "history": ""}) == [("user", "c"), ("assistant", "d")]


def test_null_is_as_good_as_not_there() -> None:
    assert turns_of({"messages": None, "chosen": None, "system": None, **PAIR}) == [("user", "a"), ("assistant", "b")]


# ── which shape, and why ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_choice_says_its_reason_and_what_is_not_used() -> None:
    choice = choice_for({"Prompt ": "a", "completion": "b", "id": 1}, {**PAIR, "source": "x"}, {"text": "c"})
    assert choice.shape.name == "prompt/completion"
    assert choice.reason == "2 of the first 3 rows have 'Prompt', 'completion'"
    assert choice.unused == ("id", "source", "text")


def test_keys_of_messages_that_are_not_used_are_named_too() -> None:
    assert choice_for({"messages": [{**USER, "name": "Ana"}, {**ASSISTANT, "weight": 1}]}).unused == ("messages[].name",)


def test_a_list_of_messages_is_a_shape_without_keys() -> None:
    assert choice_for([USER, ASSISTANT]).reason == "1 of the first 1 rows have a list of messages"


def test_more_keys_make_the_nearer_shape() -> None:
    assert choice_for({"instruction": "i", "input": "a", "output": "b"}).shape.name == "Alpaca"
    assert choice_for({"messages": [USER, ASSISTANT], "prompt": "a", "response": "b"}).shape.name == "OpenAI messages"


def test_a_row_of_another_shape_in_the_same_file_is_recognised() -> None:
    choice = choice_for(PAIR)
    for row in ({"question": "a", "answer": "b"}, [USER, ASSISTANT], {"instruction": "a", "output": "b"}):
        found = converse(row, PLACE, choice, None)
        assert isinstance(found, Conversation)
        assert [m.content for m in found.messages] == ["a", "b"]


def test_unknown_keys_are_shown_with_the_map_to_write() -> None:
    error = problem_of({"n": 1, "Título": "a", 'Texto "x"': "b"})
    assert error.what == """x.jsonl:7: the keys 'n', 'Título', 'Texto "x"' are of no known shape"""
    assert error.fix == (
        "say in the recipe which is the question and which the answer:\n"
        '  data:\n    map: {prompt: "Título", answer: "Texto \\"x\\""}'
    )


def test_a_file_with_one_text_a_row_is_told_what_is_missing() -> None:
    error = problem_of({"text": "a"})
    assert error.what == "x.jsonl:7: the keys 'text' are of no known shape"
    assert error.fix == (
        "give each row a question and an answer; these keys are known: messages, conversations, instruction + output, "
        "instruction + response, prompt + completion, prompt + response, prompt + answer, question + answer, input + output, "
        "pregunta + respuesta, utterance + intent"
    )


def test_many_unknown_keys_are_not_all_listed() -> None:
    assert problem_of({f"k{n}": [] for n in range(20)}).what.endswith("'k10', 'k11' and 8 more are of no known shape")


@pytest.mark.parametrize("value", ["a", None, ["a"], [], 3])
def test_rows_that_are_no_objects_are_told_what_an_example_looks_like(value: Any) -> None:
    error = problem_of(value)
    assert error.what == "x.jsonl:7: the rows are neither objects with keys nor lists of messages"
    assert error.fix == 'write each example as an object: {"prompt": "…", "completion": "…"}'


# ── the checks ────────────────────────────────────────────────────────────────────────────────────────────────────────


def messages(*roles_and_texts: str) -> Any:
    return {"messages": [{"role": part.partition(" ")[0], "content": part.partition(" ")[2]} for part in roles_and_texts]}


@pytest.mark.parametrize(
    ("row", "check", "reason"),
    [
        ({"prompt": "", "completion": "b"}, "empty", "message 1 (user) has no text"),
        ({"prompt": "a", "completion": " \n"}, "empty", "message 2 (assistant) has no text"),
        ({"messages": []}, "empty", "there is no user turn"),
        (messages("system s"), "empty", "there is no user turn"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "empty", "message 2 (assistant) has no text"),
        ({"prompt": "a"}, "no-answer", "the row has no 'completion'"),
        ({"prompt": "a", "completion": None}, "no-answer", "the row has no 'completion'"),
        (messages("user a"), "no-answer", "the last message is the user's: there is no answer to learn"),
        (messages("system s", "user a"), "no-answer", "the last message is the user's: there is no answer to learn"),
        (messages("user a", "assistant b", "user c"), "no-answer", "the last message is the user's: there is no answer to learn"),
        (messages("user a", "user b", "assistant c"), "role-order", "messages 1 and 2 are both the user's"),
        (messages("system s", "user a", "assistant b", "assistant c"), "role-order", "messages 3 and 4 are both the assistant's"),
        (messages("assistant a"), "role-order", "the conversation begins with the assistant; it must begin with the user"),
        (
            messages("system s", "assistant a", "user b", "assistant c"),
            "role-order",
            "the conversation begins with the assistant; it must begin with the user",
        ),
        (messages("user a", "system s", "assistant b"), "role-order", "message 2 is the system message; it must be the first"),
        (messages("user a", "robot b"), "unknown-role", "message 2 has the role 'robot'"),
        (messages("system a", "system b", "user c", "assistant d"), "several-systems", "2 system messages; there can be one"),
        (
            {"system": "s", **messages("system t", "user a", "assistant b")},
            "several-systems",
            "2 system messages; there can be one",
        ),
        (messages("user a", "tool b", "assistant c"), "tools", "message 2 calls a tool or is a tool's: not supported yet"),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{}"}]},
            "tools",
            "message 2 calls a tool or is a tool's: not supported yet",
        ),
        (
            {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}]},
            "tools",
            "message 2 calls a tool or is a tool's: not supported yet",
        ),
        ({"messages": [USER, ASSISTANT], "tools": [{"name": "f"}]}, "tools", "the row offers tools: not supported yet"),
        (
            {"messages": [USER, {"role": "assistant", "content": [{"type": "tool_call", "value": "{}"}]}]},
            "tools",
            "message 2 has a part of type 'tool_call': not supported yet",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ASSISTANT]},
            "not-text",
            "message 1 has a part of type 'image_url': not supported yet",
        ),
        ({"messages": [USER, ASSISTANT], "images": ["a.png"]}, "not-text", "the row has 'images': only text is supported"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            "preference",
            "a preference pair (a chosen and a rejected answer): not supported yet",
        ),
        ({**PAIR, "label": False}, "preference", "the answer is marked as a bad one (label: false)"),
        (
            {"messages": [USER, {**ASSISTANT, "weight": 0}]},
            "untrained-turn",
            "message 2 has weight 0, but all answers of a conversation are learned",
        ),
        ({"text": "a"}, "unknown-shape", "the keys 'text' are of no known shape"),
        ("a", "broken-row", "the row is not an object with keys"),
        (["a"], "broken-row", "message 1 is not an object"),
        ({"prompt": "a", " Prompt": "b", "completion": "c"}, "broken-row", "the key 'prompt' stands twice"),
        (
            {"messages": "[{'role': 'user'}]"},
            "broken-row",
            """'messages' is a text and no list (not JSON from column 3 on: "'role': 'user'}]")""",
        ),
        ({"messages": {}}, "broken-row", "'messages' is not a list"),
        ({"messages": [{"content": "a"}]}, "broken-row", "message 1 has no role"),
        ({"messages": [{"role": "user", "content": {"a": 1}}]}, "broken-row", """message 1 is {"a": "1"}, not a text"""),
        ({"prompt": "a", "completion": True}, "broken-row", "'completion' is true, not a text"),
        ({"prompt": "a", "completion": ["b"]}, "broken-row", "'completion' has a part without text"),
        (
            {"instruction": "a", "output": "b", "history": [["c"]]},
            "broken-row",
            "round 1 of 'history' is not a list of two texts",
        ),
        (
            {"prompt": "a", "completion": "\ud800"},
            "broken-row",
            "message 2 (assistant) has half of a surrogate pair, which is no character",
        ),
    ],
)
def test_a_row_that_teaches_nothing_is_refused_with_its_reason(row: Any, check: str, reason: str) -> None:
    assert refusal_of(row) == (check, reason)


def test_a_row_that_offers_no_tools_and_no_images_is_taken() -> None:
    assert turns_of({"messages": [USER, ASSISTANT], "tools": "[]", "images": [], "label": True}) == [
        ("user", "a"),
        ("assistant", "b"),
    ]


# ── data.map ──────────────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE_ROW = {"Nombre": "Gazpacho", "Ingredientes": "tomate {rojo}", "Pasos": " Triturar.\n"}


def test_a_map_takes_columns_and_fills_texts() -> None:
    columns = Columns(prompt="Receta de {nombre} con {Ingredientes} {{así}}", answer="PASOS", system="Cocina {Nombre}")
    assert turns_of(RECIPE_ROW, columns) == [
        ("system", "Cocina Gazpacho"),
        ("user", "Receta de Gazpacho con tomate {rojo} {así}"),
        ("assistant", " Triturar.\n"),
    ]
    choice = choice_for({**RECIPE_ROW, "Otra": "x"}, columns=columns)
    assert choice.reason == "data.map names 'Nombre', 'Ingredientes', 'Pasos'"
    assert choice.unused == ("Otra",)


def test_a_system_column_may_be_empty_or_absent_in_a_row() -> None:
    columns = Columns(prompt="q", answer="a", system="s")
    choice = choice_for({"q": "1", "a": "2", "s": "3"}, columns=columns)
    for row in ({"q": "1", "a": "2", "s": ""}, {"q": "1", "a": "2"}, {"q": "1", "a": "2", "s": None}):
        found = converse(row, PLACE, choice, "of the recipe")
        assert isinstance(found, Conversation)
        assert found.messages[0] == Message("system", "of the recipe")


def test_a_map_is_obeyed_where_the_row_could_be_read_in_another_way() -> None:
    row = {"question": "a", "answer": "b", "long_answer": "c"}
    assert turns_of(row, Columns(prompt="question", answer="long_answer")) == [("user", "a"), ("assistant", "c")]


@pytest.mark.parametrize(
    ("row", "check", "reason"),
    [
        ({"a": "1"}, "empty", "the row has no 'b'"),
        ({"a": "1", "b": "2", "c": " "}, "empty", "'c' is empty"),
        ({"a": "1", "b": "", "c": "3"}, "empty", "message 2 (assistant) has no text"),
        ([USER, ASSISTANT], "broken-row", "the row is not an object with keys"),
    ],
)
def test_a_row_without_a_mapped_column_is_refused(row: Any, check: str, reason: str) -> None:
    columns = Columns(prompt="a", answer="b") if "c" not in row else Columns(prompt="{a} and {c}", answer="b")
    assert refusal_of(row, columns) == (check, reason)


def test_a_map_with_unknown_columns_shows_those_that_there_are() -> None:
    error = problem_of(RECIPE_ROW, columns=Columns(prompt="Nombres", answer="{Pasos} {Vino}"))
    assert error.what == (
        "data.map.prompt names 'Nombres', but x.jsonl has 'Nombre', 'Ingredientes', 'Pasos'; did you mean 'Nombre'?\n"
        "data.map.answer names 'Vino', but x.jsonl has 'Nombre', 'Ingredientes', 'Pasos'"
    )
    assert error.fix == "correct data.map in the recipe: each is a column's name, or a text with {columns} in braces"


# ── whatever may come ─────────────────────────────────────────────────────────────────────────────────────────────────

KEYS = st.sampled_from(
    [
        "role",
        "from",
        "content",
        "value",
        "messages",
        "conversations",
        "prompt",
        "completion",
        "system",
        "history",
        "instruction",
        "input",
        "output",
        "tools",
        "label",
        "type",
        "text",
        "chosen",
        "rejected",
        "weight",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["user", "assistant", "system", "text", "[]", "", "\ud800", "{"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


TURNS = st.lists(
    st.builds(
        lambda role, text: {"role": role, "content": text},
        st.sampled_from(["system", "user", "user", "assistant", "assistant", "tool", "x"]),
        st.sampled_from(["a", " b\n", "é", "", "  ", None, "\ud800"]),
    ),
    max_size=5,
)


@settings(deadline=None)
@given(
    ANYTHING
    | TURNS
    | st.builds(lambda turns, system: {"messages": turns, "system": system}, TURNS, st.sampled_from(["", "s", None]))
)
def test_any_row_becomes_a_sound_conversation_or_a_refusal(value: Any) -> None:
    found = converse(parse_json(json.dumps(value)), PLACE, choice_for(PAIR), "S")
    if isinstance(found, Finding):
        assert found.check == found.check.lower()
        assert found.reason.encode()
        assert "\n" not in found.reason
        return
    roles = [message.role for message in found.messages]
    assert roles == ["system", *["user", "assistant"] * (len(roles) // 2)]
    assert all(message.content.strip() and message.content.encode() for message in found.messages)
