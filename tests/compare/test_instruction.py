import json

import pytest

from afina.compare.instruction import Instruction, write_instruction
from afina.compare.prompts import Room
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Renderer
from afina.data.template import ChatTemplate, choose_template
from afina.data.tokenizer import Tokenizer
from tests.fakes.models import write_tokenizer

THINGS = ("martillo", "cubo de pintura", "saco de cemento")


def talks(answers: list[str]) -> list[Conversation]:
    return [
        Conversation((Message("user", f"¿{number}?"), Message("assistant", answer)), Source("a.jsonl", number))
        for number, answer in enumerate(answers, 1)
    ]


def test_opening_closing_length_and_address_are_told_in_the_examples_language() -> None:
    answers = [
        f"Estimado cliente: el {THINGS[n % 3]} que usted quiere cuesta {n} euros en la tienda. Gracias." for n in range(40)
    ]
    assert write_instruction(talks(answers)).splitlines() == [
        "Empieza la respuesta con: Estimado cliente: el",
        "Termina la respuesta con: que usted quiere cuesta (un número) euros en la tienda. Gracias.",
        "Escribe la respuesta en una sola línea.",
        "Escribe unas 16 palabras, 20 como mucho.",
        "Trata de usted al lector.",
    ]


def test_labels_and_json_need_no_other_words() -> None:
    assert (
        write_instruction(talks(["refund", "invoice"] * 20))
        == "Answer with one of these labels and nothing else: invoice, refund."
    )
    rows = [json.dumps({"kind": "ab"[n % 2], "price": n + 0.5}) for n in range(40)]
    assert write_instruction(talks(rows)) == (
        "Answer with one JSON object and nothing else. Its keys: kind (a | b), price (number)."
    )


def test_answers_of_a_word_are_told_as_one() -> None:
    answers = [f"word{number}x" for number in range(150)]
    assert write_instruction(talks(answers)).splitlines()[-1] == "Write one word, at most 5."


def test_answers_without_a_form_have_no_instruction() -> None:
    assert write_instruction(talks(["yes, of course", "no"])) == ""


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    tokenizer = Tokenizer.load(folder)
    return Renderer.build(choose_template("auto", tokenizer), tokenizer)


def test_it_stands_behind_the_system_message_or_is_one(renderer: Renderer) -> None:
    instruction = Instruction("Be short.", Room(renderer, 10_000, 20))
    (talk,) = talks(["yes"])
    asked = instruction.ask(talk)
    assert asked.conversation.messages[0] == Message("system", "Be short.")
    assert asked.prompt_tokens == len(renderer.prompt_ids(asked.conversation.prompt))
    with_system = Conversation((Message("system", "You sell paint."), *talk.messages), talk.source)
    assert instruction.ask(with_system).conversation.messages[0].content == "You sell paint.\n\nBe short."
    assert Instruction("", instruction.room).ask(talk).conversation == talk


def test_a_template_without_a_system_message_has_it_in_the_question(renderer: Renderer) -> None:
    source = "{% for m in messages if m['role'] != 'system' %}{{ m['role'] + ': ' + m['content'] + eos_token }}{% endfor %}"
    source += "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    mute = Renderer.build(ChatTemplate("mute", source, renderer.template.tokens), renderer.tokenizer)
    (talk,) = talks(["yes"])
    asked = Instruction("Be short.", Room(mute, 10_000, 20)).ask(talk)
    assert [message.content for message in asked.conversation.prompt] == ["Be short.\n\n¿1?"]


def test_without_room_the_question_is_asked_as_it_is(renderer: Renderer) -> None:
    (talk,) = talks(["yes"])
    plain = Room(renderer, 10_000, 20).ask(talk).prompt_tokens
    assert Instruction("word " * 50, Room(renderer, plain + 30, 20)).ask(talk).conversation == talk
