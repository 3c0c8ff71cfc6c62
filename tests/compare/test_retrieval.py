import pytest

from afina.compare.retrieval import Index
from afina.core.errors import DataError

SHOP = [
    "El martillo de bola cuesta doce euros y pesa medio kilo; está en el pasillo de las herramientas.",
    "Devoluciones: hay treinta días desde la compra, con el recibo y en el embalaje original.",
    "The paint is in the second aisle; red paint is nine euros a litre and it dries in two hours.",
    "La garantía de las máquinas es de dos años desde el día de la compra y la cubre el fabricante.",
]


@pytest.mark.parametrize(
    ("question", "place"),
    [
        ("¿Cuánto cuestan los martillos?", 0),
        ("quiero devolver una compra", 1),
        ("Which paints do you have?", 2),
        ("garantias", 3),
        ("GARANTÍA", 3),
    ],
)
def test_a_question_finds_its_text_whatever_the_ending_the_accent_and_the_language(question: str, place: int) -> None:
    assert Index(SHOP, "shop").search(question, 1) == [place]


def test_a_question_about_nothing_that_is_there_finds_nothing() -> None:
    assert Index(SHOP, "shop").search("zebra xylophone", 5) == []
    assert Index(SHOP, "shop").search("¿¡…!?", 5) == []


def test_equal_texts_come_in_their_order() -> None:
    texts = ["saw", *["a hammer and a nail"] * 7, "saw"]
    assert Index(texts, "tools").search("nail hammer", 4) == [1, 2, 3, 4]


def test_the_order_is_that_of_the_library_used_by_itself() -> None:
    import bm25s
    import numpy as np

    texts = ["red hammer", "hammer hammer nail", "nail", "blue saw and red saw", "hammer saw"]
    scorer = bm25s.BM25()
    scorer.index([text.split() for text in texts], show_progress=False)
    expected = np.argsort(-scorer.get_scores(["hammer", "red"]), kind="stable")[:4].tolist()
    assert Index(texts, "tools").search("hammer red", 5) == expected


def test_a_repeated_question_gives_the_same_places_from_a_new_index() -> None:
    found = [Index(SHOP, "shop").search("la compra y el recibo de los años", 4) for _time in range(3)]
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("texts", [[], ["", "…"]])
def test_an_index_without_a_word_is_an_error(texts: list[str]) -> None:
    with pytest.raises(DataError, match="prepare/chunks.jsonl: there is no word to be found") as caught:
        Index(texts, "prepare/chunks.jsonl")
    assert "compare.contenders" in caught.value.fix
