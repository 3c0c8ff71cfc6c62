from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.conversation import Conversation, Finding, Message, Preference, Source
from afina.data.read.row import ROLES
from afina.data.read.shapes import Choice, choose_shape, converse, knows
from afina.data.read.strict_json import parse_json
from afina.recipe.recipe import Columns

PLACE = Source("x.jsonl", 7)
USER = {"role": "user", "content": "a"}
ASSISTANT = {"role": "assistant", "content": "b"}
PAIR = {"prompt": "a", "completion": "b"}


def choice_for(*values: Any, columns: Columns | None = None) -> Choice:
    return choose_shape([(PLACE, value) for value in values], columns)


def read(value: Any, columns: Columns | None = None, system: str | None = None) -> Conversation | Preference | Finding:
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
    ("prompt", "output"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("instruction", "answer"),
    ("input", "output"),
    ("input", "response"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("problem", "solution"),
    ("q", "a"),
    ("pregunta", "respuesta"),
    ("consulta", "respuesta"),
    ("instrucción", "respuesta"),
    ("instruccion", "respuesta"),
    ("entrada", "salida"),
    ("pergunta", "resposta"),
    ("utterance", "intent"),
    ("text", "label"),
    ("text", "summary"),
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
    assert {name for name, role in ROLES.items() if role != "tool"} == {
        *("system", "developer", "user", "human"),
        *("assistant", "gpt", "model", "bot"),
    }
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
    assert choice.unused == ("id", "source")


def test_keys_of_messages_that_are_not_used_are_named_too() -> None:
    thought = {**ASSISTANT, "weight": 1, "reasoning_content": "hm"}
    assert choice_for({"messages": [{**USER, "at": "noon"}, thought]}).unused == ("messages[].at", "messages[].reasoning_content")
    parts = {"role": "assistant", "content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "b"}]}
    assert choice_for({"messages": [USER, parts]}).unused == ("messages[].content[].reasoning",)


def test_a_thought_is_learned_only_where_it_stands_in_the_text() -> None:
    assert turns_of({"messages": [USER, {**ASSISTANT, "reasoning_content": "hm"}]})[-1] == ("assistant", "b")
    inside = "<think>hm</think>\n\nb"
    assert turns_of({"messages": [USER, {"role": "assistant", "content": inside}]})[-1] == ("assistant", inside)


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
    error = problem_of({"n": "1", "id": "x", "Título": "a", 'Texto "x"': "b", "Vino": "c"})
    assert error.what == """x.jsonl:7: the keys 'n', 'id', 'Título', 'Texto "x"', 'Vino' are of no known shape"""
    assert error.fix == (
        "say in the recipe which is the question and which the answer:\n"
        '  data:\n    map: {prompt: "Título", answer: "Texto \\"x\\""}'
    )


def test_two_columns_of_text_are_question_and_answer_by_their_order() -> None:
    row = {"n": 17, "URL": "https://x.org", "¿Qué?": "a", "Así": "b", "vacía": ""}
    assert turns_of(row) == [("user", "a"), ("assistant", "b")]
    choice = choice_for(row, {**row, "¿Qué?": "2", "Así": "3"})
    assert choice.shape.name == "two columns"
    assert choice.reason == "there are two columns of text: '¿Qué?' is taken for the question and 'Así' for the answer"
    assert choice.unused == ("n", "URL", "vacía")
    found = converse({"¿Qué?": "a"}, PLACE, choice, None)
    assert isinstance(found, Finding)
    assert (found.check, found.reason) == ("no-answer", "the row has no 'así'")


@pytest.mark.parametrize(
    "row", [{"a": "x", "b": "y", "c": ["z"]}, {"a": "x", "b": 1}, {"a": "x", "b": "1.5"}, {"id": "x", "a": "y"}]
)
def test_one_column_of_text_or_a_list_beside_two_is_no_table_of_questions(row: Any) -> None:
    assert problem_of(parse_json(json.dumps(row))).what.endswith("are of no known shape")


def test_a_table_is_known_by_its_names_and_not_by_its_number_of_columns() -> None:
    assert knows(["Pregunta", " respuesta"], None)
    assert not knows(["foo", "bar"], None)
    assert knows(["foo", "bar"], Columns(prompt="Foo", answer="{bar}"))
    assert not knows(["foo"], Columns(prompt="Foo", answer="{bar}"))


def test_a_row_with_too_few_texts_is_told_which_keys_are_known() -> None:
    error = problem_of({"foo": "a"})
    assert error.what == "x.jsonl:7: the keys 'foo' are of no known shape"
    assert error.fix.startswith("give each row a question and an answer; these keys are known: messages, conversations, ")
    assert "prompt + completion, " in error.fix
    assert "pregunta + respuesta, " in error.fix


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
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, ASSISTANT]},
            "not-text",
            "message 1 has a part of type 'image_url': not supported yet",
        ),
        ({"messages": [USER, ASSISTANT], "images": ["a.png"]}, "not-text", "the row has 'images': only text is supported"),
        ({**PAIR, "label": False}, "preference", "the answer is marked as a bad one (label: false)"),
        (
            {"messages": [USER, {**ASSISTANT, "weight": 0}]},
            "no-answer",
            "all answers have weight 0: there is nothing to learn",
        ),
        (
            {"text": "a"},
            "plain-text",
            "a text without a question: name its file in data.documents, or write questions for it (afina draft)",
        ),
        ({"text": "\n"}, "empty", "'text' is empty"),
        ({**PAIR, "status": "Draft "}, "draft", "a draft: read it, then change its status to ok or delete the line"),
        ({"foo": "a"}, "unknown-shape", "the keys 'foo' are of no known shape"),
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


def test_a_draft_is_refused_with_a_map_too_unless_the_status_is_what_is_learned() -> None:
    row = {"a": "1", "b": "2", "status": "draft"}
    assert refusal_of(row, Columns(prompt="a", answer="b"))[0] == "draft"
    assert turns_of(row, Columns(prompt="a", answer="status")) == [("user", "1"), ("assistant", "draft")]
    assert turns_of({**PAIR, "status": "ok"}) == [("user", "a"), ("assistant", "b")]


def test_a_map_with_unknown_columns_shows_those_that_there_are() -> None:
    error = problem_of(RECIPE_ROW, columns=Columns(prompt="Nombres", answer="{Pasos} {Vino}"))
    assert error.what == (
        "data.map.prompt names 'Nombres', but x.jsonl has 'Nombre', 'Ingredientes', 'Pasos'; did you mean 'Nombre'?\n"
        "data.map.answer names 'Vino', but x.jsonl has 'Nombre', 'Ingredientes', 'Pasos'"
    )
    assert error.fix == "correct data.map in the recipe: each is a column's name, or a text with {columns} in braces"


# ── real files ────────────────────────────────────────────────────────────────────────────────────────────────────────

REAL = {
    "alpaca_en_demo.json": ("Alpaca", {"Conversation": 999}),
    "alpaca_zh_demo.json": ("Alpaca", {"Conversation": 1000}),
    "c4_demo.jsonl": ("text", {"plain-text": 300}),
    "dpo_en_demo.json": ("preference pairs", {"Preference": 300}),
    "dpo_zh_demo.json": ("preference pairs", {"Preference": 300}),
    "glaive_toolcall_en_demo.json": ("ShareGPT", {"Conversation": 300}),
    "glaive_toolcall_zh_demo.json": ("ShareGPT", {"Conversation": 298, "broken-tools": 2}),
    "identity.json": ("Alpaca", {"Conversation": 91}),
    "kto_en_demo.json": ("OpenAI messages", {"Conversation": 150, "preference": 150}),
    "mllm_demo.json": ("OpenAI messages", {"not-text": 6}),
    "reason_tool_use_demo_50.jsonl": ("OpenAI messages", {"Conversation": 48, "broken-tools": 2}),
    "v1_dpo_demo.jsonl": ("preference pairs", {"Preference": 10}),
    "v1_sft_demo.jsonl": ("OpenAI messages", {"Conversation": 500}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_in_their_shapes_with_each_row_accounted_for(shared_data: Path, name: str) -> None:
    text = (shared_data / "ds-llamafactory" / name).read_text(encoding="utf-8")
    values = [parse_json(line) for line in text.splitlines()] if name.endswith("l") else parse_json(text)
    rows = [(Source(name, number), value) for number, value in enumerate(values, start=1)]
    choice = choose_shape(rows[:50], None)
    found = [converse(value, source, choice, None) for source, value in rows]
    counts = Counter(item.check if isinstance(item, Finding) else type(item).__name__ for item in found)
    assert (choice.shape.name, counts) == REAL[name]


# ── data.split.by ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("value", "group"), [("t-1", "t-1"), (7, "7"), (None, ""), (["a"], '["a"]'), (True, "true")])
def test_rows_with_one_value_in_the_column_of_the_split_are_one_group(value: Any, group: str) -> None:
    row = parse_json(json.dumps({**PAIR, "Thread ": value}))
    choice = choose_shape([(PLACE, row)], None, "thread")
    assert choice.unused == ()
    found = converse(row, PLACE, choice, None, "thread")
    assert isinstance(found, Conversation)
    assert found.group == group


def test_a_file_without_the_column_of_the_split_is_told() -> None:
    with pytest.raises(DataError) as caught:
        choose_shape([(PLACE, {**PAIR, "thread": "a"})], None, "treads")
    assert caught.value.what == (
        "data.split.by names 'treads', but x.jsonl has 'prompt', 'completion', 'thread'; did you mean 'thread'?"
    )


# ── numbers, dates and other things of tables that are not JSON ───────────────────────────────────────────────────────


def test_numbers_of_a_table_are_texts_and_an_empty_cell_is_empty() -> None:
    assert turns_of({"question": "a", "answer": "b"}) == [("user", "a"), ("assistant", "b")]
    choice = choice_for(PAIR)
    found = converse({"prompt": 3, "completion": 1.5}, PLACE, choice, None)
    assert isinstance(found, Conversation)
    assert [message.content for message in found.messages] == ["3", "1.5"]
    for value, check in ((float("nan"), "empty"), (dt.date(2024, 1, 31), "broken-row"), (b"x", "broken-row")):
        refused = converse({"prompt": "a", "completion": value}, PLACE, choice, None)
        assert isinstance(refused, Finding)
        assert refused.check == check


def test_keys_that_are_no_texts_do_no_harm() -> None:
    found = converse({1: "x", "prompt": "a", "completion": "b"}, PLACE, choice_for(PAIR), None)
    assert isinstance(found, Conversation)


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
        "tool_calls",
        "function",
        "name",
        "arguments",
        "status",
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
    found = converse(parse_json(json.dumps(value)), PLACE, choice_for(PAIR), "S", "role", [])
    if isinstance(found, Finding):
        assert found.check == found.check.lower()
        assert found.reason.encode()
        assert "\n" not in found.reason
        return
    turns = found.messages if isinstance(found, Conversation) else found.prompt
    roles = [message.role for message in turns if message.role != "tool"]
    assert roles[0] == "system"
    assert roles[1:3] == (["user", "assistant"] if isinstance(found, Conversation) else ["user"])
    assert all(
        message.content.encode() and (message.content.strip() or message.calls) for message in turns if message.role != "tool"
    )
