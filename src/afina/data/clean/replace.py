"""Others in the place of personal data and secrets: of the same form, the same for the same thing, and nobody's.

What stands in the place of something follows from it and the run's key alone: one person's address is the same other address in
all rows, in any order. Whoever knows the key can try out a guess, so this hides persons from a model and its users, not from an
attacker who has the recipe.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

import phonenumbers
from stdnum import iban

from afina.data.clean.numbers import KINDS, Kind, Span

_NAMES = (
    "alba ana andrea bruno carla carlos clara daniel david diana elena emma eva felix hugo ines irene ivan julia "
    "laura leo lucas lucia luis marco maria marta martin mateo nora olga oscar pablo paula pedro rosa sara sofia "
    "tomas"
).split()
_SURNAMES = (
    "alonso arias blanco bravo campos cano castro costa cruz delgado diaz duran flores fuentes garrido gil gomez "
    "herrera ibarra leon lopez luna marin mendez molina mora moreno navarro nieto ortega pardo perez ramos reyes "
    "rios rojas sanz soler torres vega"
).split()
_CONSONANTS = "BCDFGHJKLMNPQRSTVWXYZ"
_CHECKS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NORTH_AMERICA = 1
_AREAS = ("202", "212", "213", "305", "312", "404", "415", "512", "602", "617", "702", "713")
_TRIES = 3000
_PREFIX = re.compile(r"(?:[A-Za-z]+[0-9]?[-_.])+|A[A-Z]{3}(?=[A-Z0-9])|eyJ|AIza|SG\.")
_FRAME = re.compile(r"-----[A-Z0-9 ]+-----")
_KINDS = {kind.name: kind for kind in reversed(KINDS)}  # of two with one name, the stricter stands first


def redacted(text: str, spans: Iterable[Span], key: bytes) -> str:
    """The text with each of the spans replaced. ``key``: the run's, at most 64 bytes."""
    parts, end = [], 0
    for span in spans:
        parts += [text[end : span.start], replacement(text[span.start : span.end], span.kind, span.key, key)]
        end = span.end
    return "".join([*parts, text[end:]])


@lru_cache(maxsize=4096)
def replacement(written: str, kind: str, normal: str, key: bytes) -> str:
    """What stands in the place of ``written``. ``normal`` is the same for all ways of writing the same thing."""
    chance = _chance(normal, key)
    if kind == "email":
        return f"{_pick(chance, _NAMES)}.{_pick(chance, _SURNAMES)}{next(chance) % 1000}@example.com"
    if kind == "phone":
        return _over_digits(written, _telephone(normal, chance))
    if kind in _KINDS:
        return _over(written, _number(_KINDS[kind], normal, key))
    return _secret(written, chance, keep_prefix=kind not in {"password", "private-key"})


def _chance(normal: str, key: bytes, attempt: int = 0) -> Iterator[int]:
    """Numbers from 0 to 65,535 without an end, that look like chance and follow from what is replaced."""
    for block in itertools.count():
        digest = hashlib.blake2b(f"{attempt} {block} {normal}".encode("utf-8", "surrogatepass"), key=key).digest()
        yield from (digest[place] << 8 | digest[place + 1] for place in range(0, len(digest), 2))


def _pick(chance: Iterator[int], among: list[str] | tuple[str, ...] | str) -> str:
    return among[next(chance) % len(among)]


def _same_class(character: str, chance: Iterator[int]) -> str:
    if character.isdigit():
        return str(next(chance) % 10)
    if character.isalpha():
        letter = _pick(chance, _CONSONANTS)
        return letter if character.isupper() else letter.lower()
    return character


# ── telephones ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _telephone(international: str, chance: Iterator[int]) -> str:
    """National digits of a number that nobody has: 555-01xx in North America, elsewhere one outside the numbering plan."""
    number = phonenumbers.parse(international, "ZZ")
    if number.country_code == _NORTH_AMERICA:
        return f"{_pick(chance, _AREAS)}55501{next(chance) % 100:02}"
    length = len(phonenumbers.national_significant_number(number))
    digits = ""
    for _attempt in range(_TRIES):
        digits = str(1 + next(chance) % 9) + "".join(str(next(chance) % 10) for _place in range(length - 1))
        other = phonenumbers.PhoneNumber(country_code=number.country_code, national_number=int(digits))
        if not phonenumbers.is_valid_number(other):
            break
    return digits


def _over_digits(written: str, digits: str) -> str:
    """The last digits of ``written`` replaced: a country's prefix before them, blanks and signs stay."""
    left = list(digits)
    return "".join(left.pop() if character.isdigit() and left else character for character in reversed(written))[::-1]


# ── numbers with a form of their own ────────────────────────────────────────────────────────────────────────────────────


def _number(kind: Kind, normal: str, key: bytes) -> str:
    """Another number of this kind, as long as ``normal`` and right by its own rules.

    ``kind.fake``: ``#`` a digit, ``@`` a consonant, ``=`` as it was, ``?`` a check character, ``0`` a zero (X for a letter),
    ``*`` as many as are missing, each of the class that stood there; all else is written as it is.
    """
    signs = kind.fake.replace("*", "~" * (len(normal) - len(kind.fake) + 1))
    made = ""
    for attempt in range(_TRIES):
        chance = _chance(normal, key, attempt + 1)
        made = "".join(_character(sign, was, chance) for sign, was in zip(signs, normal))
        for candidate in _completed(made, kind):
            if kind.valid(candidate) or "?" not in signs:
                return candidate
    return made.replace("?", "0")


def _character(sign: str, was: str, chance: Iterator[int]) -> str:
    if sign == "#":
        return str(next(chance) % 10)
    if sign == "@":
        return _pick(chance, _CONSONANTS)
    if sign == "~":
        return _same_class(was, chance)
    if sign == "0" and was.isalpha():
        return "X"
    return was if sign == "=" else sign


def _completed(made: str, kind: Kind) -> Iterator[str]:
    """``made`` with each choice of check characters; IBANs have a formula, and too many choices to try."""
    if kind.name == "iban":
        yield made[:2] + iban.calc_check_digits(made.replace("?", "0")) + made[4:]
        return
    parts = made.split("?")
    for checks in itertools.product(_CHECKS, repeat=len(parts) - 1):
        yield "".join(itertools.chain.from_iterable(zip(parts, (*checks, ""))))


def _over(written: str, made: str) -> str:
    """``made`` with the blanks, signs and small letters of ``written``."""
    left = iter(made)
    return "".join(
        _cased(character, next(left, "0")) if character.isalnum() or character == "&" else character for character in written
    )


def _cased(was: str, now: str) -> str:
    return now.lower() if was.islower() else now


# ── keys and passwords ──────────────────────────────────────────────────────────────────────────────────────────────────


def _secret(written: str, chance: Iterator[int], keep_prefix: bool) -> str:
    """Each letter and digit replaced by another; what says whose key it is (``ghp_``) stays, and so does the frame of a key "
    "file."""
    kept = _FRAME.findall(written)
    if kept:
        first, last = len(kept[0]), len(written) - len(kept[-1]) * (len(kept) > 1)
        return written[:first] + "".join(_same_class(character, chance) for character in written[first:last]) + written[last:]
    prefix = _PREFIX.match(written) if keep_prefix else None
    start = prefix.end() if prefix and len(written) - prefix.end() >= 12 else 0
    return written[:start] + "".join(_same_class(character, chance) for character in written[start:])
