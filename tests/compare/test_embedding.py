"""Search by meaning, against a server that gives every text a vector of its letters, and against llama.cpp."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from afina.compare.embedding import Hybrid, Told, embedder, fused
from afina.compare.retrieval import Index
from afina.core.errors import ServiceError
from tests.fakes.chain import write_chain_gguf
from tests.fakes.http import Request, Response, answering

TEXTS = ["El martillo cuesta doce euros.", "Devoluciones: treinta días.", "La pintura roja seca en dos horas."]
WIDTH = 64


def letters(text: str) -> list[float]:
    """Counts of the text's runs of three letters: near for words that share a stem, whatever a stemmer knows."""
    vector = np.zeros(WIDTH)
    low = f" {text.lower()} "
    for place in range(len(low) - 2):
        vector[zlib.crc32(low[place : place + 3].encode()) % WIDTH] += 1
    return [float(value) for value in vector]


@dataclass
class Embedder:
    """An OpenAI-compatible server; ``asked`` are the texts that came, ``broken`` makes it answer something else."""

    asked: list[str] = field(default_factory=list)
    broken: object = None
    address: str = ""

    def respond(self, request: Request) -> Response:
        assert (request.path, request.body["model"]) == ("/v1/embeddings", "letters")
        self.asked += request.body["input"]
        data = [{"index": place, "embedding": letters(text)} for place, text in enumerate(request.body["input"])]
        return Response({"data": data[::-1]} if self.broken is None else self.broken)


@pytest.fixture
def server() -> Iterator[Embedder]:
    fake = Embedder()
    with answering(fake.respond) as address:
        fake.address = f"{address}/v1"
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
