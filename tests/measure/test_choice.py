import pytest

from afina.measure.abstention import abstention, says_so
from afina.measure.choice import choose_metrics, main_metric

LABELS = ["refund", "invoice", "cancel order"] * 20
SUMS = [f"She has {number} and 2 more.\n#### {number + 2}" for number in range(30)]
OBJECTS = [f'{{"name": "x", "price": {number}}}' for number in range(30)]
SHORT = [f"The shop number {number} opens at nine." for number in range(30)]
LONG = [" ".join(f"word{place}" for place in range(30 + number)) for number in range(30)]


@pytest.mark.parametrize(
    ("answers", "names", "main", "reason"),
    [
        (LABELS, ["loss", "label", "macro_f1", "ended"], "label", "the answers are 3 labels that come again and again"),
        (SUMS, ["loss", "number", "exact", "f1", "chrf", "ended"], "number", "30 of 30 answers end in a number"),
        (OBJECTS, ["loss", "json", "fields", "ended"], "fields", "30 of 30 answers are JSON"),
        (SHORT, ["loss", "exact", "f1", "chrf", "ended"], "f1", "half of the answers have no more than 7 words"),
        (LONG, ["loss", "f1", "chrf", "ended"], "f1", "the answers are texts, half of them with more than 44 words"),
    ],
)
def test_the_metrics_fit_what_the_answers_are(answers: list[str], names: list[str], main: str, reason: str) -> None:
    chosen = choose_metrics(answers, answers)
    assert [one.metric for one in chosen] == names
    assert main_metric(names) == main
    assert reason in [one.text for one in chosen]


def test_a_pattern_and_rules_add_theirs_and_named_ones_take_the_place_of_all() -> None:
    chosen = choose_metrics(SHORT, SHORT, with_pattern=True, checks=3, learned=True)
    assert [one.metric for one in chosen] == ["loss", "pattern", "checks", "exact", "f1", "chrf", "ended"]
    assert main_metric([one.metric for one in chosen]) == "pattern"
    assert "3 rules, learned from the training answers" in [one.text for one in chosen]
    named = choose_metrics(LABELS, LABELS, named=("chrf", "loss"), checks=1)
    assert [(one.metric, one.text) for one in named] == [
        ("loss", "compare.metrics names it"),
        ("checks", "1 rules, from compare.checks"),
        ("chrf", "compare.metrics names it"),
    ]


@pytest.mark.parametrize(("answers", "told"), [(LABELS, False), (OBJECTS, False), (SHORT, True), (LONG, True), (SUMS, True)])
def test_an_embedding_model_adds_the_similarity_of_texts(answers: list[str], told: bool) -> None:
    names = [one.metric for one in choose_metrics(answers, answers, with_embeddings=True)]
    assert ("similarity" in names) == told
    assert "similarity" not in [one.metric for one in choose_metrics(answers, answers)]
    assert main_metric(names) != "similarity"
    assert [one.metric for one in choose_metrics(SHORT, SHORT, named=("f1",), with_embeddings=True)] == ["f1"]
    assert main_metric(["loss", "similarity"]) == "similarity"


def test_answers_that_say_that_it_is_not_there_are_measured_where_some_are_expected() -> None:
    expected = [*SHORT[:27], "I cannot find that in the documents.", "No lo encuentro.", "NO_ANSWER"]
    said = next(one for one in choose_metrics(SHORT, expected) if one.metric == "abstention")
    assert said.text == "3 of 30 expected answers say that it is not there"


@pytest.mark.parametrize(
    "text",
    [
        "NO_ANSWER",
        "I do not find it in the passages.",
        "That isn't mentioned in the documents.",
        "There is no information about it.",
        "No lo encuentro en los pasajes.",
        "No se menciona en el documento.",
        "La respuesta no está en los documentos.",
        "No tengo esa información.",
        "No lo sé.",
    ],
)
def test_it_is_understood_in_both_languages(text: str) -> None:
    assert says_so(text)


@pytest.mark.parametrize("text", ["It costs 12 euros.", "No, we close at nine.", "No hay problema: mañana llega.", "Norte", ""])
def test_other_answers_do_not_say_so(text: str) -> None:
    assert not says_so(text)
    assert abstention(text, "NO_ANSWER") == 0
    assert abstention(text, "12") == 1
