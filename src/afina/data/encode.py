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
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, filterfalse

import numpy as np

from afina.data.tokenizer import Tokenizer

_MOST_REMEMBERED = 500_000  # words, about 100 MB
_TOGETHER = 256  # new words that are encoded as one text
_PROVED = 4  # texts of a batch that are encoded as a whole too
_BORDER = re.compile(r"(?<=\S)(?= \S)")
# White space but the blank and the line end, and the mark that is used for cutting.
_OTHER_BLANKS = re.compile("[\0\t\r\v\f\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]")
_BLANK_INSIDE = re.compile("[^ĠĊĉčĢ]Ġ")  # Ġ is the blank, Ċ the line end … in a byte-level vocabulary


@dataclass(frozen=True)
class Encoded:
    """``ids`` int32 (T,). ``exact``: they decode to the text, white space and forms of accents aside."""

    ids: array[int]
    exact: bool


class Encoder:
    """A tokenizer with what it remembers. May be used from several threads. ``remembers``: whether words are encoded once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.remembers = _may_be_cut(tokenizer)
        self._separator = next(iter(tokenizer.special), "")
        self._known: dict[str, bytes] = {}
        self._inexact: set[str] = set()  # words that do not decode to themselves
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        """Each text's ids; special tokens written in it are recognised, nothing is added."""
        with self._lock:
            if not self.remembers or not texts:
                return self._whole(texts)
            parts = [self._parts(text) for text in texts]
            known = self._known.__getitem__
            joined = [self._joined(words) for words in parts]
            unknown = (words for words, ids in zip(parts, joined, strict=True) if ids is None)
            self._learn(set(filterfalse(self._known.__contains__, chain.from_iterable(unknown))))
            found = [
                Encoded(
                    array("i", b"".join(map(known, words)) if ids is None else ids),
                    not self._inexact or self._inexact.isdisjoint(words),
                )
                for words, ids in zip(parts, joined, strict=True)
            ]
            proved = range(0, len(texts), -(-len(texts) // _PROVED))
            wholes = self._whole([texts[place] for place in proved])
            if any(whole.ids != found[place].ids for whole, place in zip(wholes, proved, strict=True)):
                self.remembers = False
                return self._whole(texts)
            if len(self._known) > _MOST_REMEMBERED:
                self._known.clear()
                self._inexact.clear()
            return found

    def _joined(self, words: Sequence[str]) -> bytes | None:
        """The ids of the words; None where one of them is new."""
        try:
            return b"".join(map(self._known.__getitem__, words))
        except KeyError:
            return None

    def _parts(self, text: str) -> list[str]:
        parts: list[str] = []
        # Where each blank stands alone between two words, cutting at blanks is cutting at borders.
        alone = not ("  " in text or "\n " in text or " \n" in text or _OTHER_BLANKS.search(text))
        for place, piece in enumerate(self._tokenizer.special_split(text)):
            if place % 2:
                parts.append(piece)  # a special token
            elif alone and piece[:1] != " " and piece[-1:] != " ":
                if piece:
                    parts += piece.replace(" ", "\0 ").split("\0")
            else:
                parts += _BORDER.split(piece)
        return parts

    def _learn(self, words: set[str]) -> None:
        """Encodes words that are new: many in one text, with a special token between them, at which the tokenizer cuts."""
        added = self._tokenizer.added_pattern
        new = [word for word in words if not added.fullmatch(word)]
        if not self._separator:
            self._learn_apart(list(words))
            return
        self._learn_apart([word for word in words if added.fullmatch(word)])
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
                self._learn_apart(group)
                continue
            raw = flat.tobytes()
            ends = [*(4 * borders).tolist(), len(raw)]
            starts = [0, *(4 * borders + 4).tolist()]
            self._known.update((word, raw[start:end]) for word, start, end in zip(group, starts, ends, strict=True))
            self._inexact.update(
                word for word, text in zip(group, texts, strict=True) if text != word and _bare(text) != _bare(word)
            )

    def _learn_apart(self, new: list[str]) -> None:
        pipeline = self._tokenizer.pipeline
        ids = [encoding.ids for encoding in pipeline.encode_batch_fast(new, add_special_tokens=False)]
        decoded = pipeline.decode_batch(ids, skip_special_tokens=False)
        self._known.update((word, array("i", found).tobytes()) for word, found in zip(new, ids, strict=True))
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


def _bare(text: str) -> str:
    """The text without white space, which some tokenizers write otherwise, and with its accents in one form."""
    return "".join(unicodedata.normalize("NFC", text).split())
