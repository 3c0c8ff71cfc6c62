"""How much the answers know: what stands in the documents or in the prompt, what may change, what is answered in several ways.

Knowledge is what fine-tuning teaches badly, and what retrieval brings along with its source.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePath

from afina.compare.figure import Example, Figure, Shown, excerpt, figure, words_of
from afina.data.clean.characters import utf8
from afina.data.clean.personal import may_hold_personal, personal
from afina.data.documents.document import Chunk
from afina.data.duplicates import folded
from afina.measure.abstention import says_so

GRAM = 3  # words in a row that count as found
FOUND = 0.5  # share of an answer's grams that must be found
_STEM, _LEAST_LETTERS = 5, 4  # letters by which words are the same, and that a word has which says something
_ASKED = 1 / 3  # share of a question's words that must stand in the passage in which a short answer is found
_MOST_PASSAGES = 200  # remembered for one gram: what stands in more of them tells nothing
_ROWS = 2

Gram = tuple[str, ...]

_MONTHS = (
    *("january february march april may june july august september october november december").split(),
    *("enero febrero marzo abril mayo junio julio agosto septiembre setiembre octubre noviembre diciembre").split(),
)
_MONTH = "|".join(_MONTHS)
_MONEY = r"euros?|eur|usd|mxn|d[óo]lar(?:es)?|dollars?|pesos|soles|pounds?|cents?|c[ée]ntimos?|centavos"
_VALUES = {  # in small letters; each begins with a digit or a sign, which is found many times faster than a border of a word
    "price": re.compile(rf"[$€£¥]\s?\d|\d\s?[€$£¥]|\d[\d.,]*\s?(?:{_MONEY})\b"),
    "date": re.compile(
        r"\d(?<![\d./=]\d)(?:\d{3}-\d\d-\d\d|\d?/\d\d?/(?:\d\d){1,2}|\d?[.-]\d\d?[.-](?:19|20)\d\d|"
        rf"\d?(?:st|nd|rd|th)?(?: de| of)? (?:{_MONTH}))\b"
    ),
    "time": re.compile(r"\d(?<![\d:.]\d)\d?(?::[0-5]\d| ?[ap]\.?m)\b"),
}
_MONTH_FIRST = re.compile(rf"\b(?:{_MONTH}) \d\d?\b")
_LINK = re.compile(r"https?://|www\.\w")
_ACCENTS = dict.fromkeys(range(0x300, 0x370))  # as they stand behind their letters
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_NAME = re.compile(r"(?<=[a-záéíóúñ,;] )(?:[A-ZÁÉÍÓÚÑ][a-záéíóúñ]{2,}|[A-Z]{2,6}\b)")


def knowledge_figures(examples: Sequence[Example], chunks: Sequence[Chunk]) -> Iterator[Figure]:
    """What the answers know. Without ``chunks`` there is no figure ``documents``."""
    if chunks:
        yield _in_documents(examples, chunks)
    yield _in_prompt(examples)
    yield from _several_answers(examples)
    yield from _values(examples)


def kinds_of(examples: Sequence[Example], chunks: Sequence[Chunk]) -> list[str]:
    """``knowledge`` where an answer stands in the documents, or carries a price, a date, a time or a contact that nobody could
    know from its question; ``unanswerable`` where it says that the answer is not there; else ``style``.
    """
    there = _where(examples, chunks)
    return [_kind(example, number in there) for number, example in enumerate(examples)]


def _kind(example: Example, stands_there: bool) -> str:
    if says_so(example.answer):
        return "unanswerable"
    return "knowledge" if stands_there or _contact(example) or any(_own(kind, example) for kind in _VALUES) else "style"


# ── where an answer stands ────────────────────────────────────────────────────────────────────────────────────────────


def _in_documents(examples: Sequence[Example], chunks: Sequence[Chunk]) -> Figure:
    """Answers of which most runs of three words stand in the documents; a row shows the passage too."""
    where = _where(examples, chunks)
    rows = tuple(_with_passage(examples[number], chunks[where[number]]) for number in sorted(where)[:_ROWS])
    found = figure("documents", examples, lambda number: number in where, show_others=True, chunks=len(chunks))
    return Figure(found.name, found.count, found.of, rows, found.others, found.values)


def _where(examples: Sequence[Example], chunks: Sequence[Chunk]) -> dict[int, int]:
    """The number of each example whose answer stands in the documents, and that of the chunk."""
    wanted = [_grams(example.answer) for example in examples]
    passages = _passages({gram for grams in wanted for gram in grams}, chunks)
    stems: dict[int, set[str]] = {}
    where: dict[int, int] = {}
    for number, grams in enumerate(wanted):
        at = Counter(passage for gram in grams for passage in passages.get(gram, ()))
        if sum(gram in passages for gram in grams) < max(1, FOUND * len(grams)):
            continue
        candidates = [passage for passage, _count in at.most_common()]
        if _is_short(grams):  # "308" stands somewhere in any long text: the passage must be about the question
            candidates = [c for c in candidates if _is_about(examples[number].question, _stems_of(c, chunks, stems))]
        if candidates:
            where[number] = candidates[0]
    return where


def _in_prompt(examples: Sequence[Example]) -> Figure:
    """Answers that are made of their own prompt: they read what they are given, and know nothing themselves."""

    def is_made_of_it(number: int) -> bool:
        grams = _grams(examples[number].answer)
        asked = words_of(examples[number].question)
        there = {tuple(asked[at : at + GRAM]) for at in range(len(asked) - GRAM + 1)}
        if _is_short(grams):
            return any(_stands_in(asked, gram) for gram in grams)
        return sum(gram in there for gram in grams) >= max(1, FOUND * len(grams))

    return figure("prompt", examples, is_made_of_it)


def _is_short(grams: Iterable[Gram]) -> bool:
    """Whether they are of an answer with fewer words than a gram has."""
    return any(len(gram) < GRAM for gram in grams)


def _stands_in(words: Sequence[str], wanted: Gram) -> bool:
    return any(tuple(words[at : at + len(wanted)]) == wanted for at in range(len(words) - len(wanted) + 1))


def _grams(text: str) -> set[Gram]:
    """Every three words in a row; of a shorter text all of it; of one without words nothing."""
    words = words_of(text)
    if len(words) < GRAM:
        return {tuple(words)} if words else set()
    return {tuple(words[at : at + GRAM]) for at in range(len(words) - GRAM + 1)}


def _passages(wanted: set[Gram], chunks: Sequence[Chunk]) -> dict[Gram, list[int]]:
    """The chunks in which each wanted gram stands; only what is wanted is kept, so that long documents take no memory."""
    found: dict[Gram, list[int]] = defaultdict(list)
    lengths = {len(gram) for gram in wanted}
    for number, chunk in enumerate(chunks):
        words = words_of(chunk.text)
        there = {tuple(words[at : at + length]) for length in lengths for at in range(len(words) - length + 1)}
        for gram in there & wanted:
            if len(found[gram]) < _MOST_PASSAGES:
                found[gram].append(number)
    return dict(found)


def _is_about(question: str, passage: set[str]) -> bool:
    asked = _stems(question)
    return bool(asked) and len(asked & passage) >= max(1, _ASKED * len(asked))


def _stems_of(number: int, chunks: Sequence[Chunk], known: dict[int, set[str]]) -> set[str]:
    if number not in known:
        known[number] = _stems(chunks[number].text)
    return known[number]


def _stems(text: str) -> set[str]:
    return {word[:_STEM] for word in words_of(text) if len(word) >= _LEAST_LETTERS}


def _with_passage(example: Example, chunk: Chunk) -> Shown:
    place = ", ".join(part for part in (PurePath(chunk.document).name, chunk.place) if part)
    return Shown(example.place, f"{excerpt(example)} ← {place}")


# ── one question, several answers ─────────────────────────────────────────────────────────────────────────────────────


def _several_answers(examples: Sequence[Example]) -> Iterator[Figure]:
    """Examples whose question stands there more than once, but for case, accents, signs and order, with different answers.

    ``moved``: the answers differ in their numbers only, as a price does that has changed. ``contradictions``: in more.
    """
    asked: dict[str, list[int]] = defaultdict(list)
    for number, example in enumerate(examples):
        asked[_plain(example.question)].append(number)
    moved: list[list[int]] = []
    apart: list[list[int]] = []
    for members in asked.values():
        answers = {folded(examples[number].answer) for number in members}
        if len(answers) > 1:
            frames = {_NUMBER.sub("0", answer) for answer in answers}
            (moved if len(frames) == 1 and not _asks_for_itself(frames) else apart).append(members)
    for name, groups in (("moved", moved), ("contradictions", apart)):
        rows = [examples[number] for members in groups[:_ROWS] for number in _differing(members, examples)]
        count = sum(map(len, groups))
        yield Figure(
            name,
            count,
            len(examples),
            tuple(Shown(row.place, excerpt(row, asked=True)) for row in rows),
            (),
            {"groups": len(groups)},
        )


def _asks_for_itself(frames: set[str]) -> bool:
    """Whether nothing but a number is left of the answers: then nobody can tell a changed one from a wrong one."""
    return frames == {"0"}


def _differing(members: Sequence[int], examples: Sequence[Example]) -> tuple[int, int]:
    """The first of them, and the first that answers otherwise."""
    first = members[0]
    other = next(number for number in members if folded(examples[number].answer) != folded(examples[first].answer))
    return first, other


def _plain(text: str) -> str:
    """The words of a text in a fixed order, without case, accents and signs."""
    letters = text if text.isascii() else unicodedata.normalize("NFD", text).translate(_ACCENTS)
    return " ".join(sorted(words_of(letters)))


# ── what may change ───────────────────────────────────────────────────────────────────────────────────────────────────


def _values(examples: Sequence[Example]) -> Iterator[Figure]:
    """Answers that carry prices, dates, times, contacts, other numbers or names that their question did not bring along.

    A question that brings a value of the same kind asks to work with it: the result is no fact that anybody could look up.
    """
    found: Mapping[str, Callable[[Example], str]] = {
        **{kind: partial(_own, kind) for kind in _VALUES},
        "contact": _contact,
        "number": partial(_unasked, _NUMBER),
        "name": partial(_unasked, _NAME),
    }
    changing: set[int] = set()
    for kind, find in found.items():
        values = [find(example) for example in examples]
        with_one = [number for number, value in enumerate(values) if value]
        if kind not in ("number", "name"):
            changing.update(with_one)
        if with_one:
            rows = tuple(Shown(examples[n].place, excerpt(examples[n], around=values[n])) for n in with_one[:_ROWS])
            distinct = len({value for value in values if value})
            yield Figure(kind, len(with_one), len(examples), rows, (), {"distinct": distinct})
    yield figure("changing", examples, changing.__contains__)


def _own(kind: str, example: Example) -> str:
    """The first value of this kind in the answer; "" where there is none, or the question has one of the same kind."""
    value = _value(kind, example.answer.lower())
    return value if value and not _value(kind, example.question.lower()) else ""


def _value(kind: str, text: str) -> str:
    found = _VALUES[kind].search(text)
    if not found and kind == "date" and any(month in text for month in _MONTHS):
        found = _MONTH_FIRST.search(text)
    return found[0] if found else ""


def _unasked(pattern: re.Pattern[str], example: Example) -> str:
    """The first thing of the answer that the question does not say itself."""
    return next((found[0] for found in pattern.finditer(example.answer) if found[0] not in example.question), "")


def _contact(example: Example) -> str:
    """A telephone, an e-mail address or a link in the answer that does not stand in the question."""
    link = _LINK.search(example.answer)
    if link and not _LINK.search(example.question):
        return link[0]
    if may_hold_personal(example.answer, utf8(example.answer)):
        for span in personal(example.answer):
            written = example.answer[span.start : span.end]
            if span.check in ("email", "phone") and written not in example.question:
                return written
    return ""
