"""Made-up conversations in Spanish and English, as many as one likes and always the same ones.

    python bench/conversations.py                                    shows three
    python bench/conversations.py 1000000 /tmp/million.jsonl         writes a million, about 1 GB

Each row is a chat of one to four questions of about 1,000 characters in all. Sentences are built from patterns and lists, with
numbers, names and invented words in between, so that words come as often or as rarely as in real text. As in real collections
a few rows are no good, in fixed shares (``SHARES``): repeated, nearly repeated, answered differently, with personal data, with
blanks that nobody filled in, refused, garbled.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

SHARES = {
    "duplicate": 0.02,
    "near-duplicate": 0.02,
    "contradiction": 0.005,
    "personal": 0.01,
    "placeholder": 0.002,
    "refusal": 0.002,
    "mojibake": 0.001,
}
_TURNS = (1, 1, 1, 2, 2, 3, 4)
_SENTENCES = (4, 5, 6, 7, 8, 9, 10)  # of an answer to a single question; later answers are shorter
_SYSTEM_SHARE = 0.2
_REMEMBERED = 500  # earlier rows that a repetition may repeat

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Language:
    """``questions`` and ``statements`` have blanks in braces: a list of ``words``, or number, price, day, invented."""

    systems: list[str]
    questions: list[str]
    statements: list[str]
    refusal: str
    placeholder: str
    personal: str
    accented: str
    words: dict[str, list[str]]


def languages() -> tuple[Language, ...]:
    """Those of languages.yaml."""
    content: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "languages.yaml").read_text(encoding="utf-8"))
    return tuple(
        Language(**{**value, "words": {slot: words.split(", ") for slot, words in value["words"].items()}})
        for value in content.values()
    )


def conversations(rows: int, seed: int = 7) -> Iterator[Messages]:
    """The messages of each row. The first rows of a longer run are those of a shorter one."""
    random = Random(seed)
    known = languages()
    earlier: deque[Messages] = deque(maxlen=_REMEMBERED)
    for _number in range(rows):
        kind = _kind(random)
        language = random.choice(known)
        if kind in ("duplicate", "near-duplicate", "contradiction") and earlier:
            row = _repeated(random, kind, language, random.choice(earlier))
        else:
            row = _spoiled(random, kind, language, _chat(random, language))
            earlier.append(row)
        yield row


def write(path: Path, rows: int, seed: int = 7) -> int:
    """Writes JSONL and returns its bytes; nothing is held but one row."""
    with path.open("w", encoding="utf-8") as file:
        for messages in conversations(rows, seed):
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return path.stat().st_size


def _kind(random: Random) -> str:
    point = random.random()
    for kind, share in SHARES.items():
        point -= share
        if point < 0:
            return kind
    return "good"


def _chat(random: Random, language: Language) -> Messages:
    row: Messages = []
    if random.random() < _SYSTEM_SHARE:
        row.append({"role": "system", "content": random.choice(language.systems)})
    turns = random.choice(_TURNS)
    for _turn in range(turns):
        sentences = max(1, random.choice(_SENTENCES) * 3 // (2 + turns))
        row.append({"role": "user", "content": _text(random, language, language.questions, 1 + (random.random() < 0.4))})
        row.append({"role": "assistant", "content": _text(random, language, language.statements, sentences)})
    return row


def _text(random: Random, language: Language, patterns: list[str], sentences: int) -> str:
    """Sentences with their blanks filled; a long text has paragraphs, sometimes a list."""
    slots = _Slots(random, language.words)
    parts = [_contracted(random.choice(patterns).format_map(slots)) for _sentence in range(sentences)]
    if sentences < 5:
        return " ".join(parts)
    if random.random() < 0.25:
        return parts[0] + "\n\n" + "\n".join(f"- {part}" for part in parts[1:])
    middle = sentences // 2
    return " ".join(parts[:middle]) + "\n\n" + " ".join(parts[middle:])


def _contracted(text: str) -> str:
    return text.replace(" a el ", " al ").replace(" de el ", " del ")


class _Slots(dict[str, str]):
    """Fills each blank of a pattern anew: from a list of the language, or with a number, a name or an invented word."""

    def __init__(self, random: Random, words: Mapping[str, list[str]]) -> None:
        super().__init__()
        self.random = random
        self.words = words

    def __missing__(self, slot: str) -> str:
        random = self.random
        if slot == "number":
            return str(int(random.paretovariate(0.7)) % 10_000)
        if slot == "price":
            return f"{random.randrange(2, 900)},{random.randrange(100):02}"
        if slot == "day":
            return f"{random.randrange(1, 29)}/{random.randrange(1, 13)}/{random.randrange(2015, 2027)}"
        if slot == "invented":
            return "".join(random.choice(_SYLLABLES) for _syllable in range(random.randrange(2, 5)))
        words = self.words[slot]
        return words[int(random.random() ** 1.7 * len(words))]  # the first ones more often


_SYLLABLES = tuple(a + b for a in ("b", "c", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "tr", "pl") for b in "aeiou")


def _repeated(random: Random, kind: str, language: Language, row: Messages) -> Messages:
    """The row again, whole, with another word in each of its texts, or with another answer at its end."""
    if kind == "duplicate":
        return row
    if kind == "contradiction":
        return [*row[:-1], {"role": "assistant", "content": _text(random, language, language.statements, 4)}]
    changed = []
    for message in row:
        words = message["content"].split(" ")
        words[random.randrange(len(words))] = str(random.randrange(1000))
        changed.append({**message, "content": " ".join(words)})
    return changed


def _spoiled(random: Random, kind: str, language: Language, row: Messages) -> Messages:
    """The row with what its kind is named after, in the last answer."""
    if kind == "refusal":
        answer = language.refusal
    elif kind == "placeholder":
        answer = f"{row[-1]['content']} {language.placeholder}"
    elif kind == "personal":
        answer = f"{row[-1]['content']} {language.personal.format_map(_Personal(random))}"
    elif kind == "mojibake":
        answer = f"{row[-1]['content']} {language.accented.encode().decode('cp1252')}"
    else:
        return row
    return [*row[:-1], {"role": "assistant", "content": answer}]


class _Personal(dict[str, str]):
    """Made-up personal data whose check digits are right."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random

    def __missing__(self, slot: str) -> str:
        random = self.random
        if slot == "email":
            return f"{random.choice(('ana', 'luis', 'mary', 'john'))}.{random.randrange(10_000)}@correo.es"
        if slot == "phone":
            return f"+34 6{random.randrange(10, 100)} {random.randrange(100, 1000)} {random.randrange(100, 1000)}"
        if slot == "dni":
            number = random.randrange(10_000_000, 99_999_999)
            return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"
        digits = [4, *(random.randrange(10) for _digit in range(14))]
        total = sum(digit if place % 2 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits))
        return "".join(map(str, [*digits, -total % 10]))


def _main(arguments: list[str]) -> None:
    if not arguments:
        for messages in conversations(3):
            print("\n".join(f"{message['role']:>9}  {message['content']}" for message in messages), end="\n\n")
    else:
        size = write(Path(arguments[1]), int(arguments[0]))
        print(f"{arguments[1]}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    _main(sys.argv[1:])
