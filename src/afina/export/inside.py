"""How near a file is, inside Ollama, to the same file in the embedded llama.cpp, at places within held-out answers.

The proof compares what a model would say first. Here places of the ladder are asked, all along the answers: Ollama is given the
text up to a place as it stands, and tells the likeliest tokens to follow. It tells no more than a few, and no ids, so that a
place's own token has a loss only where it is among them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from afina.core.errors import QualityError
from afina.core.translation import _
from afina.data.tokenizer import Tokenizer
from afina.export.ladder import spread
from afina.export.proof import TOP
from afina.export.served import Inside
from afina.infer.llama import LlamaServer
from afina.infer.ollama import NextWords
from afina.model.streamed import Passage

ROWS = 16  # of those of the ladder
SECONDS = 120.0  # after which neither side is asked any more
LARGEST_DIVERGENCE = 0.02  # nats a place
_LEAST = 1e-12

Told = Mapping[bytes, float]


@dataclass(frozen=True)
class Place:
    """A place within an answer: the ``text`` before it, of so many tokens (``read``), and what this file says here.

    ``here``: log-probabilities of the likeliest tokens. ``token``: the text of the one that stands there, where it is among them.
    """

    text: str
    read: int
    here: Told
    token: bytes | None


def places_here(server: LlamaServer, passages: Sequence[Passage], tokenizer: Tokenizer) -> list[Place]:
    """What the file says here, at places whose text is cut into the very ids of the row; not where it would end."""
    places = []
    for passage, place, text in _texts(passages, tokenizer):
        likely = server.likeliest(passage.ids[:place], TOP)
        if not likely[0].text:
            continue  # an end has no text, and by their text alone Ollama tells tokens
        token = next((one.text for one in likely if one.token == passage.ids[place] and one.text), None)
        places.append(Place(text, place, {one.text: one.log_probability for one in likely if one.text}, token))
    return places


def compare_inside(served: Callable[[str], NextWords], places: Sequence[Place]) -> Inside | None:
    """The same places asked where it is ``served``; None where no likelihoods are told there.

    Raises QualityError where they are others than rounding explains.
    """
    asked: list[tuple[Place, Told]] = []
    end = time.monotonic() + SECONDS
    for place in places:
        if time.monotonic() > end:
            break
        told = served(place.text)
        if told.read == place.read and told.first:
            asked.append((place, told.first))
    if not asked:
        return None
    losses = [(-there[one.token], -one.here[one.token]) for one, there in asked if one.token is not None and one.token in there]
    found = Inside(
        places=len(asked),
        agreement=math.fsum(_first(one.here) == _first(there) for one, there in asked) / len(asked),
        divergence=math.fsum(_divergence(one.here, there) for one, there in asked) / len(asked),
        told=len(losses),
        loss=math.fsum(there for there, _here in losses) / len(losses) if losses else None,
        loss_here=math.fsum(here for _there, here in losses) / len(losses) if losses else None,
    )
    if found.divergence > LARGEST_DIVERGENCE:
        raise QualityError(
            _(
                "inside Ollama the model says other things than its file does here: divergence {found:.2g} at {count} places"
            ).format(found=found.divergence, count=found.places)
            + _("; at most {allowed:.2g} is rounding").format(allowed=LARGEST_DIVERGENCE),
            fix=_("look whether the server changes the file (its own quantizing, an adapter); or take deploy.to: embedded"),
        )
    return found


def _texts(passages: Sequence[Passage], tokenizer: Tokenizer) -> Iterator[tuple[Passage, int, str]]:
    """Passage, place and the text before it; rows from all over the list, until time is up."""
    end = time.monotonic() + SECONDS
    for passage in spread(passages, ROWS):
        if time.monotonic() > end:
            return
        for place in passage.places:
            before = passage.ids[:place]
            text = tokenizer.text(before)
            if tuple(tokenizer.encode(text)) == before:
                added = tokenizer.adds_bos and before[0] == tokenizer.bos_id  # the server writes it itself
                yield passage, place, text.removeprefix(tokenizer.bos_token or "") if added else text


def _first(told: Told) -> bytes:
    return max(told, key=lambda token: told[token])


def _divergence(here: Told, there: Told) -> float:
    """Kullback–Leibler divergence of ``there`` from ``here`` in nats, all tokens that not both tell taken as one."""
    common = [token for token in here if token in there]
    told = math.fsum(math.exp(here[token]) * (here[token] - there[token]) for token in common)
    rest = [max(1.0 - math.fsum(math.exp(side[token]) for token in common), _LEAST) for side in (here, there)]
    return max(told + rest[0] * math.log(rest[0] / rest[1]), 0.0)
