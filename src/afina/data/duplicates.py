"""Which conversations are the same, and which nearly so.

Near duplicates are found by MinHash: of each conversation's set of words a signature of 60 numbers is kept; the share of equal
numbers estimates the Jaccard similarity of the sets (standard error 0.05 at 0.85). Only pairs that agree in one of ten bands of
six numbers are compared: a pair of similarity 0.85 is met with a probability of 0.99, one of 0.5 with 0.15.
A. Broder, On the resemblance and containment of documents, 1997.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from afina.data.conversation import Conversation, Message

SIMILAR = 0.85
NUMBERS, BANDS = 60, 10
_SEED = 7
_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~¿¡«»“”‘’…–—"
_WITHOUT_BLANKS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
)  # Thai, Lao, Burmese, Khmer, kana, Han
_PAIRS_AT_ONCE = 200_000
_MOST_REMEMBERED = 50_000  # words, about 10 MB


@dataclass(frozen=True)
class Keys:
    """64-bit hashes of a conversation: to the letter but for blanks at the ends (``whole``), and of what is asked and answered
    without case and blanks.
    """

    whole: int
    prompt: int
    answer: int


def keys(conversation: Conversation) -> Keys:
    return compared(conversation)[0]


def compared(conversation: Conversation) -> tuple[Keys, set[str]]:
    """The hashes and the words of a conversation, which is folded once for both."""
    messages = conversation.messages
    parts = [message.content.casefold().split() for message in messages]
    *asked, answered = [_said(message, " ".join(own)) for message, own in zip(messages, parts, strict=True)]
    exact = [_said(message, message.content.strip()) for message in messages]
    found = Keys(
        digest("\x1e".join((conversation.tools, *exact))),
        digest("\x1e".join((folded(conversation.tools), *asked))),
        digest(answered),
    )
    spoken = [own for message, own in zip(messages, parts, strict=True) if message.role != "system"]
    return found, _words(list(chain.from_iterable(spoken)))


def _said(message: Message, text: str) -> str:
    said = f"{message.role}\x1f{text}"
    return f"{said}\x1f{message.calls}" if message.calls else said


def folded(text: str) -> str:
    """The text without its case and with single blanks."""
    return " ".join(text.casefold().split())


def words(messages: Sequence[Message]) -> set[str]:
    """The folded words of a conversation; of a script without blanks between words, every three letters."""
    return _words([part for message in messages if message.role != "system" for part in message.content.casefold().split()])


class _Bare(dict[str, str]):
    """Words without the signs around them, each worked out once; a blank for one in a script without blanks."""

    def __missing__(self, part: str) -> str:
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[part] = word = " " if not part.isascii() and _WITHOUT_BLANKS.search(part) else part.strip(_SIGNS)
        return word


_BARE = _Bare()


def _words(parts: Sequence[str]) -> set[str]:
    found = set(map(_BARE.__getitem__, set(parts)))
    if " " in found:
        letters = "".join(part.strip(_SIGNS) for part in parts)
        return {letters[place : place + 3] for place in range(max(1, len(letters) - 2))}
    found.discard("")
    return found


def signatures(sets: Sequence[Iterable[str]]) -> NDArray[np.uint16]:
    """MinHash signatures, (texts, NUMBERS): of each number the lower 16 bits, which hardly ever agree by chance."""
    made = RMinHash.digest_matrix_from_token_sets(sets, NUMBERS, _SEED).to_rows()
    return np.array(made, dtype=np.uint32).astype(np.uint16).reshape(len(sets), NUMBERS)


def similar_pairs(matrix: NDArray[np.uint16], threshold: float = SIMILAR) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Pairs of numbers of signatures, (pairs, 2), and their estimated similarities; of each band's bucket every member against
    the first. A pair is named once.
    """
    count = len(matrix)
    found: list[NDArray[np.int64]] = []  # each pair as one number: first * count + second
    for band in np.split(matrix, BANDS, axis=1) if count else ():
        mixed = np.zeros(count, np.uint64)
        for column in band.T:
            mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        order = np.argsort(mixed, kind="stable")
        ordered = mixed[order]
        begins = np.concatenate([[True], ordered[1:] != ordered[:-1]])  # of places in the order: those of a new bucket
        firsts = np.maximum.accumulate(np.where(begins, np.arange(count), 0))
        goes_on = np.flatnonzero(~begins)
        found.append(order[firsts[goes_on]] * count + order[goes_on])
    if not sum(map(len, found)):
        return np.zeros((0, 2), np.int64), np.zeros(0, np.float32)
    pairs = np.stack(np.divmod(np.unique(np.concatenate(found)), count), axis=1)
    scores = np.concatenate(
        [
            (matrix[part[:, 0]] == matrix[part[:, 1]]).mean(axis=1, dtype=np.float32)
            for part in np.array_split(pairs, max(1, len(pairs) // _PAIRS_AT_ONCE))
        ]
    )
    near = scores >= threshold
    return pairs[near], scores[near]


def jaccard(left: Iterable[str], right: Iterable[str]) -> float:
    """Shared words by all words, as sets; 1 where both are empty."""
    one, other = set(left), set(right)
    return len(one & other) / len(one | other) if one | other else 1.0


class Groups:
    """Numbers that belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def join(self, one: int, other: int) -> None:
        first, second = self.find(one), self.find(other)
        self._parent[max(first, second)] = min(first, second)

    def find(self, number: int) -> int:
        """The smallest number of the group."""
        parent = self._parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join_equal(self, values: NDArray[np.uint64]) -> None:
        """Joins the numbers with one value."""
        order = np.argsort(values, kind="stable")
        for place in (np.flatnonzero(np.diff(values[order]) == 0) + 1).tolist():
            self.join(int(order[place - 1]), int(order[place]))

    def numbers(self) -> NDArray[np.int64]:
        """The group of each number, (count,)."""
        return np.fromiter((self.find(number) for number in range(len(self._parent))), np.int64, len(self._parent))


def digest(text: str) -> int:
    """A 64-bit hash that is the same in every run and on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
