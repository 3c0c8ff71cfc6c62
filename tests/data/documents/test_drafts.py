"""Drafts of a teacher: how its reply is read, and what is refused before a person sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.data.documents.document import Chunk
from afina.data.documents.drafts import Draft, parse, problem, request, request_again, threes
from afina.data.read.strict_json import BrokenJsonError

PASSAGE = (
    "La tienda de herramientas abre de lunes a viernes de 9:00 a 14:00. En agosto permanece cerrada por vacaciones. "
    "El martillo rojo cuesta 12,50 euros y tiene una garantía de 1.200 días."
)
GOOD = Draft("¿Cuándo abre la tienda de herramientas?", "La tienda abre de lunes a viernes, de 9:00 a 14:00.")


def chunk(text: str) -> Chunk:
    return Chunk(text, "docs/tienda.pdf", "La tienda", "page 3", 1)


def test_the_teacher_is_asked_in_the_language_of_the_passage() -> None:
    spanish = request(chunk(PASSAGE), 3, "auto")
    english = request(chunk("The shop opens on weekdays and it is closed in August for the holidays."), 2, "auto")
    assert "Escribe 3 preguntas" in spanish[1].content
    assert "Write 2 questions" in english[1].content
    assert PASSAGE in spanish[1].content
    assert "La tienda, page 3" in spanish[1].content
    assert "Write 1 questions" in request(chunk(PASSAGE), 1, "en")[1].content


def test_a_second_request_holds_the_first_the_reply_and_the_reason() -> None:
    asked = request(chunk(PASSAGE), 3, "es")
    again = request_again(asked, "no list", "it is not a list")
    assert again[:2] == asked
    assert [message.role for message in again] == ["system", "user", "assistant", "user"]
    assert "Eso no sirve: it is not a list" in again[3].content


LIST = json.dumps([{"question": " ¿Qué? ", "answer": "Eso."}], ensure_ascii=False)


@pytest.mark.parametrize(
    "reply", [LIST, f"\n{LIST}\n", f"```json\n{LIST}\n```", f"```\n{LIST}\n```", f"<think>[1, 2]\nso…</think>\n\n{LIST}"]
)
def test_a_list_is_read_with_thoughts_and_fence_taken_off(reply: str) -> None:
    assert parse(reply) == [Draft("¿Qué?", "Eso.")]


def test_an_empty_list_is_a_reply() -> None:
    assert parse("[]") == []


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "Here is the list: " + LIST,
        LIST[:-1],
        '{"question": "a", "answer": "b"}',
        '["a"]',
        '[{"question": "a"}]',
        '[{"question": "a", "answer": "b", "more": "c"}]',
        '[{"question": "a", "answer": 7}]',
        '[{"question": "a", "answer": ["b"]}]',
        "[NaN]",
        "[" * 100_000,
    ],
)
def test_anything_else_is_no_reply(reply: str) -> None:
    with pytest.raises(BrokenJsonError):
        parse(reply)


def test_a_good_draft_passes() -> None:
    assert problem(GOOD, PASSAGE, []) == ""


def test_inflected_words_and_other_separators_are_found() -> None:
    assert problem(Draft("¿Cierra en agosto?", "Sí, en agosto permanecen cerradas las tiendas por vacación."), PASSAGE, []) == ""
    assert problem(Draft("¿Qué garantía tiene el martillo?", "Una garantía de 1200 días."), PASSAGE, []) == ""


def test_a_short_answer_is_judged_by_its_question() -> None:
    assert problem(Draft("¿Cuánto cuesta el martillo rojo?", "12,50 €"), PASSAGE, []) == ""
    assert problem(Draft("¿Cuánto cuesta la sierra azul eléctrica?", "12,50 €"), PASSAGE, []) != ""


@pytest.mark.parametrize(
    ("draft", "reason"),
    [
        (Draft("", "Abre a las 9:00."), "empty"),
        (Draft("¿Cuándo abre?", ""), "empty"),
        (Draft("¿Cuándo abre?", "Lo siento, no puedo responder a esa pregunta."), "the answer refuses"),
        (Draft("¿Quién es el dueño de la tienda?", "La tienda no menciona quién es el dueño."), "the answer refuses"),
        (Draft("Según el texto, ¿cuándo abre la tienda?", "La tienda abre de lunes a viernes."), "speaks of the passage itself"),
        (Draft("When does it open according to the passage?", "La tienda abre."), "speaks of the passage itself"),
        (Draft("¿Cuándo abre [NOMBRE]?", "La tienda abre de lunes a viernes."), "has a placeholder"),
        (Draft("¿Cuánto cuesta el martillo rojo?", "El martillo rojo cuesta 13,50 euros."), "a number is not in the passage"),
        (Draft("¿Qué pasó en 1975?", "La tienda permanece cerrada."), "a number is not in the passage"),
        (
            Draft("¿Dónde está la tienda?", "Queda junto al ayuntamiento, detrás del mercado central."),
            "the answer is not in the passage",
        ),
    ],
)
def test_each_kind_of_bad_draft_is_refused_with_its_reason(draft: Draft, reason: str) -> None:
    assert problem(draft, PASSAGE, []) == reason


def test_a_question_asked_before_is_refused_and_a_different_one_is_not() -> None:
    known = [threes("¿Cuando abre la tienda de las herramientas?")]
    assert problem(GOOD, PASSAGE, known) == "the same question is there already"
    assert problem(Draft("¿Cuándo cierra la tienda por vacaciones?", "En agosto permanece cerrada."), PASSAGE, known) == ""


@pytest.mark.parametrize("language", ["es", "en"])
def test_real_answers_pass_with_their_passage_and_fail_with_another(shared_data: Path, language: str) -> None:
    articles = json.loads((shared_data / "rag-xquad" / f"xquad.{language}.json").read_text(encoding="utf-8"))["data"]
    rows = [
        (Draft(asked["question"], asked["answers"][0]["text"]), paragraph["context"])
        for article in articles
        for paragraph in article["paragraphs"]
        for asked in paragraph["qas"]
    ]
    shifted = [passage for _draft, passage in rows[len(rows) // 2 :] + rows[: len(rows) // 2]]
    right = sum(problem(draft, passage, []) == "" for draft, passage in rows)
    wrong = sum(problem(draft, passage, []) == "" for (draft, _own), passage in zip(rows, shifted))
    assert right >= 0.94 * len(rows)
    assert wrong <= 0.02 * len(rows)
