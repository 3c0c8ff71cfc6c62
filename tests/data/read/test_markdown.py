from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.read.written import problem_of, records_of


def pairs_of(text: str, name: str = "faq.md") -> list[tuple[int, str, str]]:
    values: list[Any] = list(records_of(text, name).items)
    return [(item.source.line, item.value["question"], item.value["answer"]) for item in values]


def test_headings_that_ask_are_questions_and_the_text_below_is_the_answer() -> None:
    text = "# Preguntas\n\nHola.\n\n## ¿A qué hora abren?\n\nA las 9.\n\n### Nota\n- no en agosto\n\n## ¿Dónde?\nAquí.\n# Otro\n"
    records = records_of(text, "faq.md")
    assert [getattr(item, "value", None) for item in records.items] == [
        {"question": "¿A qué hora abren?", "answer": "A las 9.\n\n### Nota\n- no en agosto"},
        {"question": "¿Dónde?", "answer": "Aquí."},
    ]
    assert records.notes == ["text that belongs to no question is not used: lines 3"]


def test_headings_without_question_marks_ask_at_the_level_that_has_text_below() -> None:
    assert pairs_of("# Tienda\n## Horario\nDe 9 a 5\n## Lugar ##\nAquí\n") == [(2, "Horario", "De 9 a 5"), (4, "Lugar", "Aquí")]
    assert pairs_of("Horario\n-------\nDe 9 a 5\n\nLugar\n-----\nAquí") == [(1, "Horario", "De 9 a 5"), (5, "Lugar", "Aquí")]


@pytest.mark.parametrize(
    "text",
    [
        "Q: a?\nA: b\n\nQ: c?\nA: d\n",
        "**Q:** a?\n**A:** b\n\n**Q:** c?\n\n**A:** d",
        "**P**: a?\n\n**R**: b\n\n**P**: c?\n\n**R**: d\n",
        "1. **Pregunta 1:** a?\n   Respuesta: b\n2. **Pregunta 2:** c?\n   Respuesta: d\n",
        "### Question: a?\nAnswer: b\n### Question: c?\nAnswer: d\n",
        "- q: a?\n- a: b\n- q: c?\n- a: d\n",
    ],
)
@pytest.mark.parametrize("name", ["faq.md", "faq.txt"])
def test_marks_of_questions_and_answers_are_known_in_two_languages(text: str, name: str) -> None:
    assert [pair[1:] for pair in pairs_of(text, name)] == [("a?", "b"), ("c?", "d")]


def test_a_question_without_an_answer_is_given_with_an_empty_one() -> None:
    assert pairs_of("Q: a?\nA: b\nQ: c?\n## titulo\nresto") == [(1, "a?", "b"), (3, "c?", "")]


def test_answers_have_several_lines_and_code_that_looks_like_marks() -> None:
    text = "Q: a?\nA: b\n\n    c\n```\nQ: not one\n# nor one\n```\n\nQ: d?\nA:\n\n  e\n"
    assert pairs_of(text) == [(1, "a?", "b\n\n    c\n```\nQ: not one\n# nor one\n```"), (10, "d?", "  e")]


def test_words_that_only_begin_like_marks_are_text() -> None:
    error = problem_of("P. ej. esto: nada\nAsí: no\n", "faq.md")
    assert error.what == "faq.md:1: there are no questions with answers in it"
    assert "data.documents" in error.fix


def test_front_matter_is_no_question() -> None:
    assert pairs_of("---\ntitle: FAQ?\n---\n# ¿A?\nb\n") == [(4, "¿A?", "b")]


LINE = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="#`~-=*_>:.)"), min_size=1, max_size=9)


@given(st.lists(st.tuples(LINE, LINE), min_size=1, max_size=5))
def test_what_is_written_as_headings_is_read_to_the_letter(pairs: list[tuple[str, str]]) -> None:
    text = "".join(f"## {question}?\n\n{answer}\n\n" for question, answer in pairs)
    assert [pair[1:] for pair in pairs_of(text)] == [(f"{question}?", answer) for question, answer in pairs]
