"""Texts found by the words of a question: BM25 over word stems, in the language of each text.

    "¿Cuánto cuestan los martillos?" ─▶ cuant cuest los martill ─▶ scores ─▶ places of the texts, best first

It needs no model and no network. Words lose their accents before they lose their endings, so ``garantia`` finds ``garantía``.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache

import bm25s
import numpy as np
import Stemmer

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.clean.language import language_of
from afina.measure.metrics import words

K1, B = 1.5, 0.75  # BM25's own: how soon a repeated word stops counting, and how much a long text counts less
_ACCENTS = dict.fromkeys(map(ord, "\u0300\u0301\u0302\u0303\u0308"))  # ` ´ ^ ~ ¨


class Index:
    """Texts that are found by their words."""

    def __init__(self, texts: Sequence[str], name: str) -> None:
        """Raises DataError where there is nothing to find; ``name`` says in it what the texts are."""
        told = [language_of(text) for text in texts]
        known = Counter(language for language in told if language)
        self._language = known.most_common(1)[0][0] if known else language_of(" ".join(texts))
        languages = [language or self._language for language in told]
        self._languages = tuple(dict.fromkeys(languages))
        tokens = [_stems(text, language) for text, language in zip(texts, languages, strict=True)]
        if not any(tokens):
            raise DataError(
                _("{name}: there is no word to be found among {count} texts").format(name=name, count=len(texts)),
                fix=_("give documents or examples with text, or take few_shot and rag out of compare.contenders"),
            )
        self._scorer = bm25s.BM25(k1=K1, b=B)
        self._scorer.index(tokens, show_progress=False)

    @property
    def language(self) -> str:
        """That of most of the texts; ``""`` where it is not known."""
        return self._language

    def search(self, question: str, most: int) -> list[int]:
        """Places of at most ``most`` texts that share a word with ``question``, best first; of equal ones the earlier first."""
        # A question is often too short to tell its language: each word may have its ending in any language of the texts.
        stems = [sorted({_stem(word, language) for language in self._languages}) for word in words(question)]
        known = [stem for ways in stems for stem in ways if stem in self._scorer.vocab_dict]
        if not known:
            return []
        scores = self._scorer.get_scores(known)  # (texts,)
        best = np.argsort(-scores, kind="stable")[:most]
        return [int(place) for place in best if scores[place] > 0]


def _stems(text: str, language: str) -> list[str]:
    return [_stem(word, language) for word in words(text)]


@lru_cache(maxsize=200_000)  # words repeat
def _stem(word: str, language: str) -> str:
    """The word without accents and, where Snowball knows the language, without its ending."""
    bare = unicodedata.normalize("NFC", unicodedata.normalize("NFD", word).translate(_ACCENTS))
    stemmer = _stemmer(language)
    return stemmer.stemWord(bare) if stemmer else bare


@cache
def _stemmer(language: str) -> Stemmer.Stemmer | None:
    try:
        return Stemmer.Stemmer(language)
    except KeyError:
        return None
