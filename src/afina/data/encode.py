"""Many texts to token ids, each word encoded once.

A byte-level tokenizer (GPT-2, Llama 3, Qwen) never joins a letter and the blank behind it in one token, so a text may be cut
before a single blank between two words, and the ids of the parts, laid end to end, are those of the whole. Words repeat; what was
encoded once is remembered. That is two to five times as fast as encoding each text, and it is proved while it runs: of each batch
a few texts are encoded as a whole too, and at the first difference remembering ends for good.

    "Bring two  nails" ─▶ "Bring", " two  nails" ─▶ (ids of "Bring") + (ids of " two  nails")

Other tokenizers (SentencePiece's) get each text as a whole.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from afina.data.tokenizer import Tokenizer

_MOST_REMEMBERED = 500_000  # words, about 100 MB
_TOGETHER = 256  # new words that are encoded as one text
_PROVED = 4  # texts of a batch that are encoded as a whole too
_LAST = "\0"  # marks a word at the end of a text, or before a special token, that ends in white space
_BORDER = re.compile(r"(?<=\S)(?= \S)")
_BLANK_INSIDE = re.compile("[^ĠĊĉčĢ]Ġ")  # Ġ is the blank, Ċ the line end … in a byte-level vocabulary


@dataclass(frozen=True)
class Encoded:
    """``ids`` int32 (T,). ``exact``: they decode to the text, white space and forms of accents aside."""

    ids: array[int]
    exact: bool


class Encoder:
    """A tokenizer with what it remembers. May be used from several threads. ``remembers``: whether words are encoded once.

    Nearly always each blank stands alone between two words, and a text can be cut at every one, which is quick. Where it cannot,
    a word comes out that has white space at its end, or nothing else behind its blank; such words are never remembered from the
    quick way, and their texts are cut with care.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.remembers = _may_be_cut(tokenizer)
        self._separator = next(iter(tokenizer.special), "")
        self._forget()
        self._lock = threading.Lock()

    def _forget(self) -> None:
        self._known: dict[str, bytes] = {"": b""}
        self._known_with_care = self._known.copy()
        self._inexact: set[str] = set()  # words that do not decode to themselves

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text's ids; special tokens written in it are recognised, nothing is added."""
        with self._lock:
            if not self.remembers or not texts:
                return self._whole(texts)
            parts = [self._cut_at_blanks(text) for text in texts]
            joined = _looked_up(parts, self._known, self._learn_quickly)
            rest = [place for place, ids in enumerate(joined) if ids is None]
            for place in rest:
                parts[place] = self._cut_with_care(texts[place])
            cut = _looked_up([parts[place] for place in rest], self._known_with_care, self._learn_with_care)
            for place, ids in zip(rest, cut, strict=True):
                joined[place] = ids
            found = [
                Encoded(array("i", ids or b""), not self._inexact or self._inexact.isdisjoint(words))
                for words, ids in zip(parts, joined, strict=True)
            ]
            proved = range(0, len(texts), -(-len(texts) // _PROVED))
            wholes = self._whole([texts[place] for place in proved])
            if any(whole.ids != found[place].ids for whole, place in zip(wholes, proved, strict=True)):
                self.remembers = False
                return self._whole(texts)
            if len(self._known) + len(self._known_with_care) > _MOST_REMEMBERED:
                self._forget()
            return found

    def _cut_at_blanks(self, text: str) -> list[str]:
        if "\0" in text:
            return [" "]  # odd, so that it is cut with care
        parts: list[str] = []
        for place, piece in enumerate(self._tokenizer.special_split(text)):
            if place % 2:
                parts.append(piece)  # a special token
                continue
            parts += piece.replace(" ", "\0 ").split("\0")
            if piece[-1:].isspace():
                parts[-1] = _LAST + parts[-1]
        return parts

    def _cut_with_care(self, text: str) -> list[str]:
        parts: list[str] = []
        for place, piece in enumerate(self._tokenizer.special_split(text)):
            parts += (piece,) if place % 2 else _BORDER.split(piece)
        return parts

    def _learn_quickly(self, words: set[str]) -> set[str]:
        """Learns those that are not odd; returns the others."""
        odd = {word for word in words if _is_odd(word)}
        last = {word for word in words - odd if word[:1] == _LAST}
        self._learn(words - odd - last, self._known)
        self._learn({word[1:] for word in last} - self._known_with_care.keys(), self._known_with_care)
        self._known.update((word, self._known_with_care[word[1:]]) for word in last)
        self._inexact.update(word for word in last if word[1:] in self._inexact)
        return odd

    def _learn_with_care(self, words: set[str]) -> set[str]:
        self._learn(words, self._known_with_care)
        return set()

    def _learn(self, words: set[str], known: dict[str, bytes]) -> None:
        """Encodes words that are new: many in one text, with a special token between them, at which the tokenizer cuts."""
        added = self._tokenizer.added_pattern
        new = [word for word in words if not added.fullmatch(word)]
        if not self._separator:
            self._learn_apart(list(words), known)
            return
        self._learn_apart([word for word in words if added.fullmatch(word)], known)
        pipeline = self._tokenizer.pipeline
        groups = [new[place : place + _TOGETHER] for place in range(0, len(new), _TOGETHER)]
        ids = [
            encoding.ids
            for encoding in pipeline.encode_batch_fast(list(map(self._separator.join, groups)), add_special_tokens=False)
        ]
        decoded = pipeline.decode_batch(ids, skip_special_tokens=False)
        number = self._tokenizer.special.get(self._separator)
        for group, found, back in zip(groups, ids, decoded, strict=True):
            flat = np.array(found, np.int32)
            borders = np.flatnonzero(flat == number)
            texts = back.split(self._separator)
            if len(borders) != len(group) - 1 or len(texts) != len(group):
                self._learn_apart(group, known)
                continue
            raw = flat.tobytes()
            ends = [*(4 * borders).tolist(), len(raw)]
            starts = [0, *(4 * borders + 4).tolist()]
            known.update((word, raw[start:end]) for word, start, end in zip(group, starts, ends, strict=True))
            self._inexact.update(
                word for word, text in zip(group, texts, strict=True) if text != word and _bare(text) != _bare(word)
            )

    def _learn_apart(self, new: list[str], known: dict[str, bytes]) -> None:
        pipeline = self._tokenizer.pipeline
        ids = [encoding.ids for encoding in pipeline.encode_batch_fast(new, add_special_tokens=False)]
        decoded = pipeline.decode_batch(ids, skip_special_tokens=False)
        known.update((word, array("i", found).tobytes()) for word, found in zip(new, ids, strict=True))
        self._inexact.update(word for word, back in zip(new, decoded, strict=True) if back != word and _bare(back) != _bare(word))

    def _whole(self, texts: Sequence[str]) -> list[Encoded]:
        pipeline = self._tokenizer.pipeline
        ids = [encoding.ids for encoding in pipeline.encode_batch_fast(list(texts), add_special_tokens=False)]
        decoded = pipeline.decode_batch(ids, skip_special_tokens=False)
        return [
            Encoded(array("i", found), back == text or _bare(back) == _bare(text))
            for text, found, back in zip(texts, ids, decoded, strict=True)
        ]


def _may_be_cut(tokenizer: Tokenizer) -> bool:
    """Whether no token of this tokenizer can hold a word's end and the blank behind it."""
    pipeline = tokenizer.description
    before, normalizer = pipeline.get("pre_tokenizer") or {}, pipeline.get("normalizer")
    steps = before.get("pretokenizers", [before])
    byte_level = [step for step in steps if step.get("type") == "ByteLevel"]
    if len(byte_level) != 1 or byte_level[0].get("add_prefix_space"):
        return False
    if any(step.get("type") not in ("ByteLevel", "Split", "Digits") for step in steps):
        return False
    if normalizer is not None and normalizer.get("type") != "NFC":
        return False
    if pipeline["model"].get("type") != "BPE" or pipeline["model"].get("dropout"):
        return False
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    if any(token.get(flag) for token in pipeline.get("added_tokens", ()) for flag in flags):
        return False
    return not any(_BLANK_INSIDE.search(word) and word.strip("ĠÂł") for word in pipeline["model"]["vocab"])


def _looked_up(
    parts: Sequence[Sequence[str]], known: Mapping[str, bytes], learn: Callable[[set[str]], set[str]]
) -> list[bytes | None]:
    """The ids of each list of words, end to end; new words are learnt, and None stands where one cannot be."""
    new = set[str]().union(*parts) - known.keys()
    left = learn(new) if new else new
    ids_of = known.__getitem__
    return [None if left and not left.isdisjoint(words) else b"".join(map(ids_of, words)) for words in parts]


def _is_odd(word: str) -> bool:
    """Whether a word that was cut out at blanks shows that one of these is not alone between two words."""
    text = word.removeprefix(_LAST)
    return (text[:1] == " " and not text[1:2].strip()) or (word[:1] != _LAST and word[-1:].isspace())


def _bare(text: str) -> str:
    """The text without white space, which some tokenizers write otherwise, and with its accents in one form."""
    return "".join(unicodedata.normalize("NFC", text).split())
