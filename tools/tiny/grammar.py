"""The small grammar behind the generated text: choices, templates, and enough Spanish and English morphology."""

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Language = Literal["es", "en"]

T = TypeVar("T")
_CHOICE = re.compile(r"\[([^\[\]]*\|[^\[\]]*)\]")
# Beginnings, middles and ends of syllables: about 1,500 syllables a language, so that invented words do not repeat.
_SOUNDS = {
    "es": (
        "b c d f g gu h j l ll m n ñ p qu r s t v z b c d f g l m n p r s t br ch cr dr fl gr pl pr tr".split(),
        "a e i o u a e o a e o ia ie ue".split(),
        "- - - - n r s l".split(),
    ),
    "en": (
        "b c d f g h j k l m n p r s t v w b c d f g l m n p r s t bl br ch cl dr fr gl pr sh st th tr".split(),
        "a e i o u a e i o ea oo".split(),
        "- - - n r l ck ll m nd rt ss t x".split(),
    ),
}


@dataclass(frozen=True)
class World:
    """One dialogue's source of chance, its language, and whether its slot fillers are the ones that training never sees."""

    rng: random.Random
    lang: Language
    held_out: bool = False


@dataclass(frozen=True)
class Noun:
    """A thing in both languages, singular and without an article; ``feminine`` is its Spanish gender."""

    es: str
    en: str
    feminine: bool

    def name(self, lang: Language) -> str:
        return self.es if lang == "es" else self.en


def is_held_out(filler: str) -> bool:
    """Whether a slot filler belongs to the validation part: one in eight, by its spelling, whatever the seed."""
    return zlib.crc32(filler.encode()) % 8 == 0


def pick(world: World, fillers: Sequence[T]) -> T:
    """One filler of the world's part of the list (the whole list where it is too short to have both parts)."""
    part = [filler for filler in fillers if is_held_out(str(filler)) == world.held_out]
    return world.rng.choice(part or list(fillers))


def several(world: World, fillers: Sequence[T], count: int) -> list[T]:
    """``count`` different fillers of the world's part of the list, fewer where the part is shorter."""
    part = [filler for filler in fillers if is_held_out(str(filler)) == world.held_out] or list(fillers)
    return world.rng.sample(part, min(count, len(part)))


def invented(world: World) -> str:
    """A capitalised word that exists nowhere, so that it can be answered only by copying it."""
    rng = world.rng
    begins, middles, ends = _SOUNDS[world.lang]
    while True:
        syllables = [_syllable(rng, begins, middles, ends) for _ in range(rng.choice((1, 2, 2, 2, 2, 3)))]
        word = "".join(syllables).capitalize()
        if len(word) > 2 and is_held_out(word) == world.held_out:
            return word


def _syllable(rng: random.Random, begins: Sequence[str], middles: Sequence[str], ends: Sequence[str]) -> str:
    begin, middle, end = rng.choice(begins), rng.choice(middles), rng.choice(ends).strip("-")
    if begin in ("qu", "gu"):
        middle = rng.choice("ei")
    return begin + middle + end


def say(world: World, template: str, **slots: str | int) -> str:
    """The template with one branch of every ``[a|b]`` chosen and every ``{slot}`` filled."""
    text = template
    while match := _CHOICE.search(text):
        text = text[: match.start()] + world.rng.choice(match[1].split("|")) + text[match.end() :]
    return text.format(**slots)


def either(world: World, es: str, en: str, **slots: str | int) -> str:
    """``say`` in the world's language."""
    return say(world, es if world.lang == "es" else en, **slots)


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def plural(noun: Noun, lang: Language) -> str:
    """The plural of the noun's first word in Spanish, of its last word in English."""
    if lang == "es":
        first, space, rest = noun.es.partition(" ")
        return _spanish_plural(first) + space + rest
    if noun.en.endswith(("s", "x", "ch", "sh")):
        return noun.en + "es"
    if noun.en.endswith("y") and noun.en[-2] not in "aeiou":
        return noun.en[:-1] + "ies"
    return {
        "knife": "knives",
        "shelf": "shelves",
        "loaf": "loaves",
        "mouse": "mice",
        "sheep": "sheep",
        "clothing": "clothes",
    }.get(noun.en, noun.en + "s")


def _spanish_plural(word: str) -> str:
    if word.endswith(("s", "x")):
        return word
    if word.endswith("z"):
        return word[:-1] + "ces"
    if word.endswith("ón"):
        return word[:-2] + "ones"
    return word + ("s" if word[-1] in "aeiouáéó" else "es")


def a(noun: Noun, lang: Language) -> str:
    """The noun with its indefinite article."""
    if lang == "es":
        return ("una " if noun.feminine else "un ") + noun.es
    return ("an " if noun.en[0] in "aeio" else "a ") + noun.en


def the(noun: Noun, lang: Language) -> str:
    """The noun with its definite article."""
    if lang == "es":
        return ("la " if noun.feminine else "el ") + noun.es
    return "the " + noun.en


def listed(parts: Sequence[str], lang: Language) -> str:
    """``a, b y c`` or ``a, b and c``."""
    if len(parts) == 1:
        return parts[0]
    joint = "and" if lang == "en" else "e" if re.match(r"h?i(?!e)", parts[-1]) else "y"
    return f"{', '.join(parts[:-1])} {joint} {parts[-1]}"
