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
_SYLLABLES = {
    "es": (
        "ba",
        "be",
        "bri",
        "ca",
        "co",
        "da",
        "do",
        "fe",
        "ga",
        "gui",
        "la",
        "li",
        "lo",
        "ma",
        "mi",
        "na",
        "ne",
        "no",
        "pa",
        "que",
        "ra",
        "ri",
        "ro",
        "sa",
        "se",
        "so",
        "ta",
        "te",
        "ti",
        "tra",
        "va",
        "ve",
        "za",
        "lle",
        "ña",
        "ju",
        "ge",
        "flo",
        "pla",
        "cu",
    ),
    "en": (
        "bar",
        "ben",
        "bri",
        "cal",
        "cor",
        "dan",
        "del",
        "fen",
        "gar",
        "hol",
        "la",
        "lin",
        "lo",
        "mar",
        "mil",
        "na",
        "ner",
        "no",
        "pel",
        "quin",
        "ra",
        "ri",
        "ros",
        "sa",
        "sel",
        "ston",
        "ta",
        "ter",
        "ti",
        "tra",
        "va",
        "ver",
        "wen",
        "wick",
        "ley",
        "ham",
        "ford",
        "ash",
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
    while True:
        syllables = world.rng.choices(_SYLLABLES[world.lang], k=world.rng.choice((2, 2, 3)))
        word = "".join(syllables).capitalize()
        if is_held_out(word) == world.held_out:
            return word


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
