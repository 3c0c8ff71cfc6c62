"""The advice on made-up sets of examples, each of one kind."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import pytest

from afina.compare.advice import Advice, advise, observe
from afina.compare.figure import Example, Figure
from afina.data.documents.document import Chunk

ARTICLES = (
    "clavos tornillos martillos sierras pinturas brochas cintas cables bombillas taladros lijas colas tubos grifos llaves "
    "cubos escaleras guantes cascos palas"
).split()
COUNT = 120


def examples(make: Mapping[str, str] | Sequence[tuple[str, str]]) -> list[Example]:
    pairs = make.items() if isinstance(make, Mapping) else make
    return [Example(question, answer, f"faq.jsonl:{line}") for line, (question, answer) in enumerate(pairs, 1)]


def asked(number: int) -> str:
    return f"Pregunta {number}: ¿qué hago con los {ARTICLES[number % len(ARTICLES)]}?"


def varied(number: int) -> str:
    """Sentences without anything in common."""
    words = [ARTICLES[(number * step + step) % len(ARTICLES)] for step in range(1, 4 + 3 * (number % 7))]
    return f"{ARTICLES[number * 7 % 20].title()} {' '.join(words)} {ARTICLES[number * 3 % 19]}{'.!?'[number % 3]}"


PLAIN = [(asked(number), varied(number)) for number in range(COUNT)]
SIGNED = [(question, f"{answer}\nUn saludo, Lola de la ferretería") for question, answer in PLAIN]
OPENED = [(question, f"¡Hola, vecino! {answer}") for question, answer in PLAIN]
JSON = [
    (question, json.dumps({"tema": ARTICLES[number % 20], "urgente": number % 2 == 0}))
    for number, (question, _answer) in enumerate(PLAIN)
]
LABELS = [(question, ("queja", "pedido", "consulta")[number % 3]) for number, (question, _answer) in enumerate(PLAIN)]
LISTS = [(question, f"- {answer}\n- {answer[::-1]}") for question, answer in PLAIN]
PRICED = [
    (question, f"{('Cuesta', 'Vale', 'Son')[number % 3]} {3 + number % 40},95 € {answer}")
    for number, (question, answer) in enumerate(PLAIN)
]
COPIED = [
    (f"¿Quién inventó el aparato {number}?", f"Lo inventó el ingeniero Prado {number} en su taller de Lugo")
    for number in range(COUNT)
]
DOCUMENTS = [
    Chunk(f"Historia. El aparato {number} tiene fama. Lo inventó el ingeniero Prado {number} en su taller de Lugo, dicen.",
          "docs/historia.md", "", f"line {number}", number)
    for number in range(COUNT)
]  # fmt: skip


def seen(pairs: Sequence[tuple[str, str]], chunks: Sequence[Chunk] = ()) -> dict[str, Figure]:
    return {figure.name: figure for figure in observe(examples(pairs), chunks)}


def advised(pairs: Sequence[tuple[str, str]], chunks: Sequence[Chunk] = (), **answers: str) -> Advice:
    return advise(observe(examples(pairs), chunks), len(pairs), answers)


def sides(advice: Advice) -> dict[str, str]:
    return {reason.name: reason.speaks for reason in advice.reasons}


# ── one kind after the other ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("pairs", "figure"),
    [(JSON, "structure"), (LISTS, "structure"), (SIGNED, "closing"), (OPENED, "opening"), (LABELS, "labels")],
    ids=["json", "lists", "signed", "opened", "labels"],
)
def test_a_steady_form_speaks_for_fine_tuning(pairs: Sequence[tuple[str, str]], figure: str) -> None:
    advice = advised(pairs)
    assert advice.verdict == "tune"
    assert sides(advice)[figure] == "tune"


def test_what_is_seen_of_a_form_is_said_exactly() -> None:
    assert seen(JSON)["structure"].values == {"structure": "json: tema, urgente"}
    assert seen(LISTS)["structure"].values == {"structure": "list"}
    assert seen(SIGNED)["closing"].values == {"phrase": "un saludo lola de la ferretería"}
    assert seen(OPENED)["opening"].values == {"phrase": "hola vecino"}
    assert seen(LABELS)["labels"].values == {"distinct": 3, "most": "queja"}
    assert seen([(question, f"{answer} #### {number}") for number, (question, answer) in enumerate(PLAIN)])["closing"].values == {
        "phrase": "#### ‹n›"
    }


def test_answers_without_a_form_decide_nothing() -> None:
    advice = advised(PLAIN)
    assert advice.verdict == "measure"
    assert {"labels", "opening", "closing"}.isdisjoint(sides(advice))
    assert {tuple(change.when.items()): change.verdict for change in advice.changes} == {
        (("form", "steady"),): "tune",
        (("documents", "mostly"),): "rag",
    }


def test_copies_from_documents_speak_for_retrieval_and_name_the_passage() -> None:
    figure = seen(COPIED, DOCUMENTS)["documents"]
    assert (figure.count, figure.of) == (COUNT, COUNT)
    assert figure.rows[0].place == "faq.jsonl:1"
    assert figure.rows[0].text.endswith("← historia.md, line 0")
    unlike = [(question, f"{number} {answer}") for number, (question, answer) in enumerate(PLAIN)]
    assert advised([*COPIED, *unlike], DOCUMENTS).verdict == "rag"
    assert seen(unlike, DOCUMENTS)["documents"].count == 0


def test_a_short_answer_is_found_only_in_a_passage_about_its_question() -> None:
    chunks = [Chunk("La torre mide 308 metros de altura", "torre.md", "", "", 1)]
    assert seen([("¿Cuántos metros mide la torre?", "308")] * 2, chunks)["documents"].count == 2
    assert seen([("¿Cuántas tuercas trae la caja?", "308")] * 2, chunks)["documents"].count == 0


def test_scripts_without_blanks_are_found_in_documents_too() -> None:
    chunks = [Chunk("这家商店位于马德里市中心，每天上午九点开门。", "店.md", "", "", 1)]
    assert seen([("商店在哪里？", "位于马德里市中心")] * 2, chunks)["documents"].count == 2
    assert seen([("商店在哪里？", "它在巴塞罗那的海边")] * 2, chunks)["documents"].count == 0


def test_a_form_and_facts_from_documents_speak_for_both() -> None:
    advice = advised([(question, f"{answer}\nUn saludo, Lola") for question, answer in COPIED], DOCUMENTS)
    assert advice.verdict == "tune-and-rag"
    assert sides(advice)["documents"] == "rag"
    assert sides(advice)["closing"] == "tune"


def test_too_few_examples_are_told_with_what_enough_would_lead_to() -> None:
    advice = advised(SIGNED[:40])
    assert advice.verdict == "too-few"
    assert [(dict(change.when), change.verdict) for change in advice.changes] == [({"examples": "100"}, "tune")]
    assert advised(SIGNED[:99]).verdict == "too-few"
    assert advised(SIGNED[:100]).verdict == "tune"


def test_questions_with_several_answers_must_be_decided_first() -> None:
    doubled = [*SIGNED, *((question.upper(), f"No. {answer}") for question, answer in SIGNED[:40])]
    figure = seen(doubled)["contradictions"]
    assert (figure.count, figure.values["groups"]) == (80, 40)
    assert [row.place for row in figure.rows[:2]] == ["faq.jsonl:1", f"faq.jsonl:{COUNT + 1}"]
    advice = advised(doubled)
    assert advice.verdict == "contradicting"
    assert advice.changes[-1].verdict == "tune"
    few = advised([*SIGNED, (SIGNED[0][0], "No.\nUn saludo, Lola de la ferretería")])
    assert few.verdict == "tune"  # one row is told and decides nothing


def test_the_same_answer_twice_is_no_contradiction() -> None:
    assert seen([*PLAIN, *((question, answer.upper()) for question, answer in PLAIN)])["contradictions"].count == 0


def test_answers_that_differ_in_their_numbers_changed_over_time() -> None:
    later = [(question, answer.replace(",95 €", ",25 €")) for question, answer in PRICED[:30]]
    figures = seen([*PRICED, *later])
    assert (figures["moved"].count, figures["contradictions"].count) == (60, 0)
    assert advised([*PRICED, *later]).verdict == "rag"
    assert advised([*PRICED, *later], facts_change="never").verdict == "measure"


def test_prices_and_dates_depend_on_how_often_the_facts_change() -> None:
    dated = [(question, f"{answer} Desde el {1 + number % 28} de marzo.") for number, (question, answer) in enumerate(SIGNED)]
    for pairs, name in ((PRICED, "price"), (dated, "date")):
        advice = advised(pairs)
        assert sides(advice)[name] == "rag"
        assert "facts_change" in advice.unanswered
        assert advised(pairs, facts_change="often").verdict in ("rag", "tune-and-rag")
        assert advised(pairs, facts_change="sometimes").verdict in ("rag", "tune-and-rag")
        assert "rag" not in advised(pairs, facts_change="never").verdict


def test_a_form_with_prices_that_change_is_a_mixed_verdict() -> None:
    signed = [(question, f"{answer}. ¡Gracias por venir!") for question, answer in PRICED]
    assert advised(signed).verdict == "tune"
    assert [change.verdict for change in advised(signed).changes if dict(change.when) == {"facts_change": "often"}] == [
        "tune-and-rag"
    ]
    assert advised(signed, facts_change="often").verdict == "tune-and-rag"


def test_values_that_the_question_brings_along_are_no_facts() -> None:
    sums = [(f"Cuesta {n} € y pago {n + 5} €. ¿Cuánto me devuelven?", f"Te devuelven {5} € de {n + 5}") for n in range(1, COUNT)]
    assert "price" not in seen(sums)


@pytest.mark.parametrize(
    ("kind", "texts", "others"),
    [
        ("price", ["Cuesta 3 €", "It is $5.20", "Son 12,95 euros", "20 pesos"], ["Son 3 cajas", "el euro", "5 centimeters"]),
        (
            "date",
            ["el 3 de marzo", "on March 3", "3rd of may", "2026-11-26", "Desde 1/2/24", "el 3.4.2025"],
            ["10/1.25=8", "3/4 de taza", "en marzo", "0.40 / 0.05", "versión 1.2.3"],
        ),
        ("time", ["a las 9:30", "at 5 pm", "10 a.m."], ["2:1", "versión 1:2:3", "5 amigos"]),
        ("contact", ["Mira www.tienda.es", "https://tienda.es", "Escribe a lola@tienda.es"], ["wwwoofer", "@lola"]),
    ],
)
def test_what_may_change_is_known_by_its_form(kind: str, texts: Sequence[str], others: Sequence[str]) -> None:
    assert seen([("¿Y?", text) for text in texts])[kind].count == len(texts)
    assert kind not in seen([("¿Y?", text) for text in others])


def test_facts_that_change_often_do_not_concern_labels() -> None:
    assert advised(LABELS, facts_change="often").verdict == "tune"
    assert "facts_change" not in advised(LABELS).unanswered


def test_a_long_prompt_to_a_large_model_is_tried_first() -> None:
    assert advised(JSON, prompt_budget="long").verdict == "tune"
    assert advised(JSON, runs_on="anywhere").verdict == "tune"
    assert advised(JSON, prompt_budget="long", runs_on="anywhere").verdict == "prompt"
    assert set(advised(JSON).unanswered) >= {"prompt_budget", "runs_on"}
    advice = advised(JSON, prompt_budget="short", runs_on="own", facts_change="never")
    assert advice.unanswered == ()
    assert sides(advice)["prompt_budget=short"] == "tune"


def test_a_change_leads_to_the_verdict_that_it_names() -> None:
    for pairs, chunks in ((JSON, ()), (PRICED, ()), (LABELS, ()), (SIGNED, DOCUMENTS), (PLAIN, DOCUMENTS)):
        for change in advised(pairs, chunks).changes:
            if not {"form", "documents"} & change.when.keys():
                assert advised(pairs, chunks, **change.when).verdict == change.verdict


# ── the rows ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_figures_name_the_rows_that_are_so_and_one_that_is_not() -> None:
    pairs = [("¿Y eso?", "Sin firma ni nada"), *SIGNED]
    figure = seen(pairs)["closing"]
    assert [row.place for row in figure.rows] == ["faq.jsonl:2", "faq.jsonl:3"]
    assert [row.place for row in figure.others] == ["faq.jsonl:1"]
    assert figure.rows[0].text.endswith("Un saludo, Lola de la ferretería")
    assert (figure.count, figure.of) == (COUNT, COUNT + 1)
    priced = seen([*PLAIN, ("¿Cuánto es?", f"{'Depende de muchas cosas. ' * 20}El martillo cuesta 12,95 € con IVA.")])["price"]
    assert [row.place for row in priced.rows] == [f"faq.jsonl:{COUNT + 1}"]
    assert "12,95 €" in priced.rows[0].text


def test_personal_data_never_shows_in_an_excerpt() -> None:
    pairs = [(f"{question} Mi correo es ana.perez{n}@correo.es", f"{answer} Escribe a ana.perez{n}@correo.es o a lola@tienda.es")
             for n, (question, answer) in enumerate(PLAIN)]  # fmt: skip
    figures = observe(examples([*pairs, *pairs[:3]]))
    assert any(figure.name == "contact" for figure in figures)
    told = json.dumps([[figure.values, [row.text for row in (*figure.rows, *figure.others)]] for figure in figures], default=dict)
    assert "ana.perez" not in told
    assert "lola@tienda.es" not in told


def test_the_register_of_spanish_answers_is_told() -> None:
    tu = seen([(question, f"{answer} Tú puedes.") for question, answer in PLAIN])["register"]
    assert (tu.values["register"], tu.share) == ("tú", 1.0)
    usted = seen([(question, f"{answer} Como usted guste.") for question, answer in PLAIN])["register"]
    assert usted.values["register"] == "usted"
    assert "register" not in seen([(question, f"{answer} Thank you.") for question, answer in PLAIN])


def test_answers_made_of_their_prompt_are_reading_and_not_knowing() -> None:
    texts = [f"la reunión del comité {number} será en la sala azul" for number in range(COUNT)]
    pairs = [(f"{text}. ¿Dónde será?", text) for text in texts]
    assert seen(pairs)["prompt"].share == 1.0
    assert sides(advised(pairs))["prompt"] == "note"


@pytest.mark.parametrize(
    "pairs",
    [
        [("¿?", "!")],
        [("", "{}")],
        [("a", "[]"), ("a", "[[[")],
        [("¿Y?", "\u0000\ud800 \u202e")],
        [("x" * 50_000, "y " * 50_000)],
        [("0", "0"), ("0", "1")],
        [("a", '{"' + "k" * 5000 + '": 1}')],
    ],
)
def test_odd_examples_are_counted_like_others(pairs: Sequence[tuple[str, str]]) -> None:
    chunks = [Chunk("!", "a.md", "", "", 1), Chunk("", "b.md", "", "", 2)]
    for figures in (observe(examples(pairs)), observe(examples(pairs), chunks)):
        assert all(0 <= figure.count <= figure.of for figure in figures)
        assert all(len(row.text) < 250 for figure in figures for row in (*figure.rows, *figure.others))
        assert advise(figures, len(pairs), {}).verdict == "too-few"
