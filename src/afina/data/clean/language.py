"""The language of a text, for the checks that compare languages.

Most rows are told by their small words (the, el, dos, und …), counted in a few microseconds; what they leave open is asked of
py3langid, which knows 140 languages and takes a hundred times as long. Where neither is sure, the answer is "".
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any, Protocol

_SAMPLE = 250  # characters that are looked at
_ASKED_SAMPLE = 160  # of them, that py3langid walks through letter by letter
_LEAST_LETTERS = 24  # shorter texts say too little: "ok", a name, a number
_WEIGHTS = (6, 2, 1)  # of a small word that one language has, that two share, that more share
_LEAST_WEIGHT = 10
_LEAD = 6  # by which the first language is ahead, at least; and by a fifth of the second's weight
_SURE = 0.95  # py3langid's own share of certainty

# Words that are frequent in a language. One that several languages share stands in each of them.
_SMALL_WORDS = {
    "en": "the and of to is that for it with as was are this be have from or by you your not what how which an can will would i "
    "my "
    "in at on do does did has had its their his her he she we they if but when who there about more than into been were any each",
    "es": "el la los las un una unos y o de del en que es por para con no se su sus lo le como cómo más qué está pero al este "
    "esta "
    "son tiene hay muy también puede puedes cuando cuál si mi tu nos me te ha fue ser desde sobre entre hasta sin dónde todo",
    "pt": "o a os as um uma e ou de do da dos das em no na nos nas que é por para com não se seu sua seus mais como mas ao à "
    "este "
    "são tem há muito também pode você quando qual meu minha foi ser está sobre entre até sem isso ele ela pelo pela",
    "fr": "le la les un une des et ou de du en que qui est pour avec pas ne se son sa ses plus comme mais au aux ce cette sont "
    "dans "
    "sur par il elle vous nous je à été être votre quel quelle ont leur y l'on où quand très aussi",
    "de": "der die das ein eine einen und oder von zu in im ist für mit nicht sich sein es auf als auch wie aber den dem des "
    "sie er "
    "ich wir ihr sind war wird werden hat haben kann bei nach aus an durch über was wenn nur noch dass",
    "it": "il lo la i gli le un una e o di del della dei delle in nel nella che è per con non si suo sua più come ma al alla "
    "questo "
    "questa sono ha anche può quando quale mio era essere da dal sul tra fra fino cosa ci se",
    "ca": "el la els les un una i o de del dels en que és per amb no es seu seva més com però al als aquest aquesta són té hi ha "
    "molt també pot quan quin meva ser des sobre entre fins sense què on va",
    "gl": "o a os as un unha e ou de do da dos das en no na que é por para con non se seu súa máis como pero ao á este esta son "
    "ten "
    "hai moi tamén pode cando cal meu foi ser está sobre entre ata sen polo pola",
    "nl": "de het een en of van te in is voor met niet zich zijn op als ook hoe maar dat die deze dit hij zij wij ik je u was "
    "wordt "
    "worden heeft hebben kan bij naar uit door over wat wanneer er aan om nog dan",
}
_LANGUAGES = tuple(_SMALL_WORDS)
_LANE = 10  # bits of the one number in which all languages are counted at once: a sample's weight is below 1,024
_LANE_MASK = (1 << _LANE) - 1
_LANES = tuple(range(0, _LANE * len(_LANGUAGES), _LANE))

# Spanish and Portuguese need not be far ahead of their small relatives: those have words of their own often enough.
_RELATIVES = {
    _LANGUAGES.index("es"): (_LANGUAGES.index("gl"), _LANGUAGES.index("ca")),
    _LANGUAGES.index("pt"): (_LANGUAGES.index("gl"),),
}

# What py3langid chooses from: among all of its 140, relatives take a share of the certainty (Extremaduran from Spanish).
_ASKED = (
    "ar bg bn ca cs da de el en eo es et eu fa fi fr gl gu ha he hi hr hu hy id is it ja ka kn ko la lt lv mk ml mr "
    "ms nl no pa pl pt qu ro ru sk sl sq sr sv sw ta te th tl tr uk ur vi yo zh"
).split()

# Languages that are taken for each other in short texts, or are written alike: between them nothing is said to differ.
_ALIKE = (
    frozenset({"es", "gl", "ca", "pt", "an", "ext", "oc", "eu"}),
    frozenset({"no", "nn", "da", "sv"}),
    frozenset({"hr", "bs", "sr", "sl"}),
    frozenset({"id", "ms", "jv"}),
    frozenset({"cs", "sk"}),
    frozenset({"zh", "yue", "wuu", "ja"}),
    frozenset({"nl", "af", "fy", "lb"}),
    frozenset({"en", "pcm"}),
    frozenset({"ru", "uk", "be", "bg", "mk"}),
    frozenset({"ar", "ary", "arz", "fa"}),
    frozenset({"it", "vec", "lij"}),
)

_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|https?://\S+", re.DOTALL)
_LETTERS = re.compile(r"[^\W\d_]")
_BEYOND_LATIN = re.compile("[\u0370-\u1dff\u3040-\ud7ff\U00020000-\U0003ffff]")
_KANA = re.compile("[\u3040-\u30ff]")
_HAN = re.compile("[\u3400-\u9fff]")
_HANGUL = re.compile("[\uac00-\ud7af]")


class Identifier(Protocol):
    def classify(self, text: str) -> tuple[str, float]: ...


@lru_cache(maxsize=256)  # the answer's language is asked for twice: beside its question's, and among all rows'
def language_of(text: str) -> str:
    """Two or three letters (ISO 639) of the text's language; "" where it is too short or not sure. Code is not looked at."""
    sample = _sample(text)
    if not sample.isascii() and 8 * len(_BEYOND_LATIN.findall(sample)) > len(sample):
        return _by_letters(sample)
    return _by_small_words(sample) or (_by_small_words(text[-_SAMPLE:]) if len(text) > 2 * _SAMPLE else "") or _by_letters(sample)


def other_language(text: str, language: str) -> str:
    """The language of the text where it surely is another one than ``language``; "" where it may be the same.

    A text whose small words speak for ``language`` at least as much as for any other is not looked at further.
    """
    if not language:
        return ""
    weights = _weights(_sample(text))
    if weights and max(weights) == dict(zip(_LANGUAGES, weights)).get(language):
        return ""
    other = language_of(text)
    alike = other == language or any(other in group and language in group for group in _ALIKE)
    return "" if alike else other


def _sample(text: str) -> str:
    sample = text[:_SAMPLE]
    return _CODE.sub(" ", text[: 4 * _SAMPLE])[:_SAMPLE] if "`" in sample or "://" in sample else sample


def _weights(sample: str) -> list[int]:
    """How much the small words speak for each of the languages; empty where there are none."""
    counts = sum(filter(None, map(_small_words().get, set(sample.lower().split()))))
    return [counts >> lane & _LANE_MASK for lane in _LANES] if counts else []


def _by_small_words(sample: str) -> str:
    if weights := _weights(sample):
        most = max(weights)
        best = weights.index(most)
        for lane in (best, *_RELATIVES.get(best, ())):
            weights[lane] = 0
        if most >= _LEAST_WEIGHT and 5 * (most - _LEAD) >= 6 * max(weights):
            return _LANGUAGES[best]
    return ""


def _by_letters(sample: str) -> str:
    letters = len(_LETTERS.findall(sample))
    if not sample.isascii():
        if 3 * len(_HANGUL.findall(sample)) > letters:
            return "ko"
        if 3 * (len(han := _HAN.findall(sample)) + len(kana := _KANA.findall(sample))) > max(_LEAST_LETTERS, letters):
            return "ja" if len(kana) * 10 > len(han) else "zh"
    if letters < _LEAST_LETTERS:
        return ""
    language, share = _identifier().classify(sample[:_ASKED_SAMPLE])
    return language if share >= _SURE and language != "zxx" else ""  # zxx: no language


@cache
def _small_words() -> dict[str, int]:
    """Word → its weight in the lane of each language that has it."""
    having: dict[str, list[int]] = {}
    for lane, words in enumerate(_SMALL_WORDS.values()):
        for word in set(words.split()):
            having.setdefault(word, []).append(lane)
    return {
        word: sum(_WEIGHTS[min(len(lanes), len(_WEIGHTS)) - 1] << (_LANE * lane) for lane in lanes)
        for word, lanes in having.items()
    }


@cache
def _identifier() -> Identifier:
    """py3langid's model, unpacked when the first doubtful text comes: it takes a second."""
    from py3langid import langid

    identifier: Any = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    identifier.set_languages(_ASKED)
    known: Identifier = identifier
    return known
