"""Texts found by what they mean: vectors of a model, and their fusion with the search by words.

    question ─┬─▶ word stems ─▶ BM25          ─▶ 3 · 8 · 1 · …
              └─▶ vector     ─▶ nearest texts ─▶ 8 · 5 · 3 · …    fused by ranks ─▶ 8 · 3 · 5 · 1 · …

Ranks and not scores are added up, for BM25's scores and cosines have no common scale: a text gets 1 / (60 + rank) of each list
(reciprocal rank fusion; Cormack, Clarke & Büttcher 2009, with their constant). Vectors are kept by the content of their text.

How many tokens a model reads at once only its server knows, and some cut what is longer without a word. So a long text is
embedded in pieces, and its vector is their mean by length.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from afina.compare.retrieval import Index
from afina.core.errors import ServiceError
from afina.core.files import write_atomic
from afina.core.translation import _
from afina.infer.llama import LlamaServer
from afina.infer.openai import OpenAI
from afina.infer.several import at_once, several

Vectors = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]  # texts to unit vectors (N, D)

RANK_CONSTANT = 60
DEPTH = 100  # results of each search that are fused
BATCH = 32  # texts a request
LOCAL_CONTEXT = 2048  # tokens of a text for a local model; a piece has a few hundred
PIECE = 1400  # bytes of UTF-8, up to about 500 tokens: what the smallest of such models read at once
_KEY_BYTES = 16
_UNIT = re.compile(r"\S{1,64}|\s{1,64}")  # what a piece is made of: words, and parts of long ones


class Hybrid:
    """Texts that are found by their words and by their meaning. The same questions may be put to it as to an ``Index``."""

    def __init__(self, texts: Sequence[str], name: str, embed: Embed) -> None:
        self._words = Index(texts, name)
        self._embed = embed
        self._vectors = embed(texts)

    @property
    def language(self) -> str:
        return self._words.language

    def search(self, question: str, most: int) -> list[int]:
        """Places of at most ``most`` texts, best first."""
        near = self._vectors @ self._embed([question])[0]  # (texts,)
        by_meaning = [int(place) for place in np.argsort(-near, kind="stable")[:DEPTH]]
        return fused([self._words.search(question, DEPTH), by_meaning])[:most]


def fused(rankings: Sequence[Sequence[int]]) -> list[int]:
    """The places of several rankings in the order of their summed 1 / (60 + rank); of equal ones the lower place first."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, place in enumerate(ranking, 1):
            scores[place] = scores.get(place, 0.0) + 1 / (RANK_CONSTANT + rank)
    return sorted(scores, key=lambda place: (-scores[place], place))


@dataclass
class Told:
    """What the vectors cost: texts that were embedded now and texts that were kept, numbers a text, seconds."""

    made: int = 0
    kept: int = 0
    width: int = 0
    seconds: float = 0.0

    @property
    def bytes(self) -> int:
        return 4 * self.width * (self.made + self.kept)


class Kept:
    """An embedder that remembers: each text is embedded once, and its vector lies in ``path`` from then on. ``most``: requests
    at once.
    """

    def __init__(self, embed: Embed, path: Path, told: Told, most: int) -> None:
        self._ask, self._path, self._told, self._most = embed, path, told, most
        self._known: dict[bytes, Vectors] = dict(_read(path))

    def __call__(self, texts: Sequence[str]) -> Vectors:
        cut = [pieces(text) for text in texts]
        vectors = self._of_pieces([piece for its in cut for piece in its])
        lengths = np.array([len(piece) or 1 for its in cut for piece in its], dtype=np.float32)
        starts = np.cumsum([0, *map(len, cut)])[:-1]
        summed = np.add.reduceat(vectors * lengths[:, None], starts)
        unit: Vectors = summed / np.linalg.norm(summed, axis=1, keepdims=True)
        return unit

    def _of_pieces(self, texts: Sequence[str]) -> Vectors:
        start = time.monotonic()
        keys = [blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest() for text in texts]
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
        missing = list(new.items())
        parts = [missing[first : first + BATCH] for first in range(0, len(missing), BATCH)]
        found_parts = several(lambda part: self._ask([text for _key, text in part]), parts, self._most)
        for part, vectors in zip(parts, found_parts, strict=True):
            self._known |= {key: vector for (key, _text), vector in zip(part, vectors, strict=True)}
        self._told.made += len(new)
        self._told.kept += len(texts) - len(new)
        found = np.stack([self._known[key] for key in keys])
        self._told.width = found.shape[1]
        self._told.seconds += time.monotonic() - start
        return found

    def save(self) -> None:
        if self._known:
            keys = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, _KEY_BYTES)
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, save({"keys": keys.copy(), "vectors": np.stack(list(self._known.values()))}))


def pieces(text: str) -> list[str]:
    """The text in pieces of at most PIECE bytes, cut between words where there are any; joined they are the text."""
    if len(text.encode("utf-8", "surrogatepass")) <= PIECE:
        return [text]
    found, size = [""], 0
    for unit in _UNIT.findall(text):
        more = len(unit.encode("utf-8", "surrogatepass"))
        if size + more > PIECE:
            found.append("")
            size = 0
        found[-1] += unit
        size += more
    return found


def _read(path: Path) -> Iterator[tuple[bytes, Vectors]]:
    """What was kept; nothing where the file is torn: then everything is embedded again."""
    if not path.is_file():
        return
    try:
        tensors = load_file(path)
    except SafetensorError:
        return
    for key, vector in zip(tensors["keys"], tensors["vectors"], strict=True):
        yield key.tobytes(), vector


@dataclass(frozen=True)
class Meaning:
    """The embedding model of ``compare.embeddings``, and the file in which its vectors are kept."""

    model: str
    vectors: Path

    def similarities(self, answers: Sequence[str], expected: Sequence[str]) -> list[float]:
        """The cosine of each answer and what was expected, from 0 to 1: a negative one is as far away as one of 0.

        An empty answer has no meaning: 0, but where nothing was expected. Raises as ``embedder`` does.
        """
        with embedder(self.model, self.vectors, Told()) as embed:
            cosines = np.clip((embed(answers) * embed(expected)).sum(axis=1), 0.0, 1.0)
        return [
            float(cosine) if answer.strip() and wanted.strip() else float(answer.strip() == wanted.strip())
            for cosine, answer, wanted in zip(cosines, answers, expected, strict=True)
        ]

    def apart(self, texts: Sequence[str], told: Told) -> float:
        """The mean cosine of each text with every other: how near texts are that answer different questions."""
        with embedder(self.model, self.vectors, told) as embed:
            summed = embed(texts).sum(axis=0)
        count = len(texts)
        return float(summed @ summed - count) / (count * (count - 1)) if count > 1 else 0.0


@contextmanager
def embedder(setting: str, path: Path, told: Told) -> Iterator[Embed]:
    """The embedder of ``compare.embeddings``: a GGUF file here, or ``model@address``; its vectors are kept in ``path``.

    Raises ServiceError where nobody answers there, DataError for a file that llama.cpp refuses.
    """
    if setting.endswith(".gguf"):
        file = Path(setting)
        with (
            LlamaServer(file, context=LOCAL_CONTEXT, name=file.stem, embeddings=True) as server,
            _remembering(_kept(OpenAI(f"{server.address}/v1"), file.stem, path, told)) as kept,
        ):
            yield kept
        return
    model, _at, address = setting.rpartition("@")
    with _remembering(_kept(OpenAI.at(address), model, path, told)) as kept:
        yield kept


def _kept(server: OpenAI, model: str, path: Path, told: Told) -> Kept:
    return Kept(_of_server(server, model), path, told, at_once(server.address))


@contextmanager
def _remembering(kept: Kept) -> Iterator[Kept]:
    """Saves what was embedded, however the block ends: what was paid for is not asked for again."""
    try:
        yield kept
    finally:
        kept.save()


def _of_server(server: OpenAI, model: str) -> Embed:
    def embed(texts: Sequence[str]) -> Vectors:
        # An empty text has no meaning, and some servers refuse it.
        found = np.array(server.embeddings(model, [text or " " for text in texts]), dtype=np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(found).all() or not lengths.all():
            raise ServiceError(
                _("{address} gives vectors that are none (zero, or not a number)").format(address=server.address),
                fix=_("take a model that is made for embeddings"),
            )
        unit: Vectors = found / lengths
        return unit

    return embed
