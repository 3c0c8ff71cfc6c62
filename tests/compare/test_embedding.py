"""Search by meaning, against a server that gives every text a vector of its letters, and against llama.cpp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity

from afina.compare.embedding import PIECE, Hybrid, Meaning, Told, embedder, fused, pieces
from afina.compare.retrieval import Index
from afina.core.errors import ServiceError
from tests.fakes.chain import write_chain_gguf
from tests.fakes.embedder import WIDTH, Embedder, embedding, letters

TEXTS = ["El martillo cuesta doce euros.", "Devoluciones: treinta días.", "La pintura roja seca en dos horas."]


@pytest.fixture
def server() -> Iterator[Embedder]:
    with embedding() as fake:
        yield fake


def test_ranks_are_fused_as_the_formula_says() -> None:
    # 1/61 + 1/63 for 8, 1/62 + 1/61 for 3, 1/63 for 1, 1/62 for 5
    assert fused([[8, 3, 1], [3, 5, 8]]) == [3, 8, 5, 1]
    assert fused([[], [2, 1]]) == [2, 1]
    assert fused([[4], [2]]) == [2, 4], "equal scores: the earlier text first"


def test_a_text_that_shares_no_word_is_found_by_its_vector(server: Embedder, tmp_path: Path) -> None:
    with embedder(f"letters@{server.address}", tmp_path / "vectors.safetensors", Told()) as embed:
        both = Hybrid(TEXTS, "shop", embed)
        assert both.search("repintar rojas", 1) == [2]
        assert both.search("¿Cuánto cuesta un martillo?", 1) == [0]
        assert sorted(both.search("nada de esto", 5)) == [0, 1, 2]
        assert both.language == Index(TEXTS, "shop").language


def test_a_text_is_embedded_once_and_kept_from_then_on(server: Embedder, tmp_path: Path) -> None:
    path, setting = tmp_path / "vectors.safetensors", f"letters@{server.address}"
    told = Told()
    with embedder(setting, path, told) as embed:
        first = embed([*TEXTS, TEXTS[0]])
    assert server.asked == TEXTS
    assert (told.made, told.kept, told.width, told.bytes) == (3, 1, WIDTH, 4 * 4 * WIDTH)
    assert np.linalg.norm(first, axis=1) == pytest.approx(1.0)
    with embedder(setting, path, told) as embed:
        assert (embed([*TEXTS, TEXTS[0]]) == first).all()
    assert server.asked == TEXTS
    path.write_bytes(b"torn")
    with embedder(setting, path, told) as embed:
        assert (embed(TEXTS) == first[:3]).all()
    assert server.asked == [*TEXTS, *TEXTS]


def test_what_was_embedded_before_a_failure_is_kept(server: Embedder, tmp_path: Path) -> None:
    path, setting = tmp_path / "vectors.safetensors", f"letters@{server.address}"

    def fail_at_the_third() -> None:
        with embedder(setting, path, Told()) as embed:
            embed(TEXTS[:2])
            server.broken = {"data": [{"index": 0, "embedding": []}]}
            embed(TEXTS)

    with pytest.raises(ServiceError):
        fail_at_the_third()
    server.broken = None
    with embedder(setting, path, Told()) as embed:
        embed(TEXTS)
    assert server.asked == [*TEXTS[:2], TEXTS[2], TEXTS[2]]


@pytest.mark.parametrize(
    "reply",
    [
        {"data": [{"index": 0, "embedding": [0.0, 0.0]}]},
        {"data": [{"index": 0, "embedding": [1.0, "x"]}]},
        {"data": []},
        ["no vectors"],
    ],
)
def test_vectors_that_are_none_are_an_error_of_the_service(server: Embedder, tmp_path: Path, reply: object) -> None:
    server.broken = reply
    with pytest.raises(ServiceError), embedder(f"letters@{server.address}", tmp_path / "v.safetensors", Told()) as embed:
        embed(["a"])


def test_a_file_is_asked_through_llama_cpp(tmp_path: Path) -> None:
    gguf = write_chain_gguf(tmp_path / "chain.gguf")
    with embedder(str(gguf), tmp_path / "vectors.safetensors", Told()) as embed:
        vectors = embed(["Hello.", "What does the hammer cost?", "Hello."])
    assert vectors[0] == pytest.approx(vectors[2])
    assert abs(float(vectors[0] @ vectors[1])) < 0.9999
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)


@given(st.text(max_size=40).map(lambda text: text * 120) | st.text(alphabet="añ 語\n", max_size=4000))
def test_a_long_text_is_cut_between_words_into_pieces_that_are_the_text(text: str) -> None:
    cut = pieces(text)
    assert "".join(cut) == text
    assert max(len(piece.encode()) for piece in cut) <= PIECE
    assert len(cut) == 1 or all(cut)


def test_the_vector_of_a_long_text_is_the_mean_of_its_pieces_by_length(server: Embedder, tmp_path: Path) -> None:
    long = "El martillo rojo cuesta doce euros. " * 60 + "Y la pintura seca."
    with embedder(f"letters@{server.address}", tmp_path / "vectors.safetensors", Told()) as embed:
        short, found = embed(["corto", long])
    assert server.asked == ["corto", *pieces(long)]
    assert len(pieces(long)) == 2
    assert short == pytest.approx(np.array(letters("corto")) / np.linalg.norm(letters("corto")))
    parts = [len(piece) * np.array(letters(piece)) / np.linalg.norm(letters(piece)) for piece in pieces(long)]
    assert found == pytest.approx(sum(parts) / np.linalg.norm(sum(parts)), abs=1e-6)


def test_a_text_longer_than_the_file_reads_at_once_is_embedded_all_the_same(tmp_path: Path) -> None:
    gguf = write_chain_gguf(tmp_path / "chain.gguf")
    with embedder(str(gguf), tmp_path / "vectors.safetensors", Told()) as embed:
        assert np.linalg.norm(embed(["The hammer costs twelve euros. " * 400]), axis=1) == pytest.approx(1.0, abs=1e-5)


def test_similarity_is_scikit_learns_cosine_and_nothing_is_near_an_empty_answer(server: Embedder, tmp_path: Path) -> None:
    meaning = Meaning(f"letters@{server.address}", tmp_path / "vectors.safetensors")
    answers = ["El martillo vale doce euros.", "Treinta días.", "", "", TEXTS[0]]
    expected = [TEXTS[0], TEXTS[1], TEXTS[2], " ", TEXTS[0]]
    found = meaning.similarities(answers, expected)
    for place in (0, 1):
        want = cosine_similarity([letters(answers[place])], [letters(expected[place])])[0, 0]
        assert found[place] == pytest.approx(want, abs=1e-6)
    assert found[2:] == [0.0, 1.0, pytest.approx(1.0, abs=1e-6)]
    assert 0 < found[0] < 1


def test_a_negative_cosine_counts_as_zero(server: Embedder, tmp_path: Path) -> None:
    server.broken = {"data": [{"index": 0, "embedding": [1.0, 0.0]}]}
    meaning = Meaning(f"letters@{server.address}", tmp_path / "vectors.safetensors")
    assert meaning.similarities(["sí"], ["sí"]) == [1.0]
    server.broken = {"data": [{"index": 0, "embedding": [-1.0, 0.1]}]}
    assert meaning.similarities(["no"], ["sí"]) == [0.0]


def test_texts_that_have_nothing_to_do_with_each_other_are_told(server: Embedder, tmp_path: Path) -> None:
    meaning = Meaning(f"letters@{server.address}", tmp_path / "vectors.safetensors")
    every = cosine_similarity([letters(text) for text in TEXTS])
    want = (every.sum() - len(TEXTS)) / (len(TEXTS) * (len(TEXTS) - 1))
    told = Told()
    assert meaning.apart(TEXTS, told) == pytest.approx(want, abs=1e-6)
    assert told.made == len(TEXTS)
    assert meaning.apart(TEXTS[:1], told) == 0.0
