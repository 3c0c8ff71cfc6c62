"""An OpenAI-compatible server that gives every text a vector of its letters."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tests.fakes.http import Request, Response, answering

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


@contextmanager
def embedding() -> Iterator[Embedder]:
    """Such a server at its ``address``; ``letters@address`` names its model in a recipe."""
    fake = Embedder()
    with answering(fake.respond) as address:
        fake.address = f"{address}/v1"
        yield fake
