from __future__ import annotations

import pytest

from afina.data.conversation import Conversation, Finding, Message, Source
from afina.data.read.marked import marked_messages, recognise_marks
from afina.data.read.shapes import choose_shape, converse

PLACE = Source("x.jsonl", 7)
TWO_ROUNDS = [("system", "S"), ("user", "a\nb"), ("assistant", "c"), ("user", "d"), ("assistant", "e")]


@pytest.mark.parametrize(
    ("marks", "text"),
    [
        (
            "ChatML",
            (
                "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na\nb<|im_end|>\n<|im_start|>assistant\nc<|im_end|>\n"
                "<|im_start|>user\nd<|im_end|>\n<|im_start|>assistant\ne<|im_end|>\n<|im_start|>assistant\n"
            ),
        ),
        (
            "Llama 3",
            (
                "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\na\nb<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nc<|eot_id|>"
                "<|start_header_id|>user<|end_header_id|>\n\nd<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\ne<|eot_id|>"
            ),
        ),
        ("Zephyr", "<|system|>\nS</s>\n<|user|>\na\nb</s>\n<|assistant|>\nc</s>\n<|user|>\nd</s>\n<|assistant|>\ne</s>\n"),
        (
            "Zephyr",
            "<|system|>\nS<|end|>\n<|user|>\na\nb<|end|>\n<|assistant|>\nc<|end|>\n<|user|>\nd<|end|>\n<|assistant|>\ne<|end|>",
        ),
        ("[INST]", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na\nb [/INST] c </s><s>[INST] d [/INST] e </s>"),
        ("###", "S\n\n### Instruction:\na\n\n### Input:\nb\n\n### Response:\nc\n\n### Human: d\n### Assistant: e"),
        ("###", "### System: S### Human: a\nb### Assistant: c### Human: d### Assistant: e"),
        ("###", "### Sistema\nS\n### Pregunta\na\nb\n### Respuesta\nc\n### Usuario\nd\n### Asistente\ne\n"),
        ("Human:", "System: S\n\nHuman: a\nb\n\nAssistant: c\n\nHuman: d\n\nAssistant: e"),
        ("Human:", "\n\nSistema: S\nUsuario: a\nb\nAsistente: c\nUsuario: d\nAsistente: e\n"),
    ],
)
def test_turns_are_found_by_their_marks(marks: str, text: str) -> None:
    found = recognise_marks(text)
    assert found is not None
    assert found[0] == marks
    assert [(message.role, message.content) for message in found[1]] == TWO_ROUNDS


def test_gemma_calls_the_assistant_model() -> None:
    text = "<bos><start_of_turn>user\na<end_of_turn>\n<start_of_turn>model\n b <end_of_turn>\n"
    assert marked_messages(text) == [Message("user", "a"), Message("assistant", " b ")]


@pytest.mark.parametrize(
    "text",
    [
        "The dialogue begins.\nHuman: a\nAssistant: b",  # a quotation
        "Human: a\nHuman: b",
        "### Results\nNothing.",
        "#### Human: a\n#### Assistant: b",
        "[INST] a [/INST]",
        "<|im_start|>user\na<|im_end|>\n",
        "Some text <|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>",
        "<|im_start|>user\na<|im_end|> lost <|im_start|>assistant\nb<|im_end|>",
        "[INST] a [/INST] b </s> lost [INST] c [/INST] d",
        "lost [INST] a [/INST] b",
    ],
)
def test_a_text_without_both_sides_or_with_something_outside_of_turns_is_no_chat(text: str) -> None:
    assert marked_messages(text) is None


def test_a_text_column_with_marks_makes_conversations_and_says_so() -> None:
    rows = [(PLACE, {"text": "### Human: a### Assistant: b"}), (PLACE, {"text": "x"})]
    choice = choose_shape(rows, None)
    assert choice.reason == "2 of the first 2 rows have 'text'; the turns in it are marked as in ###"
    found = converse(rows[0][1], PLACE, choice, None)
    assert isinstance(found, Conversation)
    assert found.answer == "b"
    plain = converse(rows[1][1], PLACE, choice, None)
    assert isinstance(plain, Finding)
    assert plain.check == "plain-text"


@pytest.mark.parametrize(
    "text", ["[INST]" * 200_000, "### Human:" * 100_000, "<|im_start|>user\n" * 100_000, "Human: \n" * 100_000]
)
def test_a_long_text_of_marks_only_takes_no_long_time(text: str) -> None:
    assert marked_messages(text) is None
