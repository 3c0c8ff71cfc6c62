"""How steady the form of the answers is: labels, structure, opening and closing words, address, length.

Form is what fine-tuning teaches well: what is here counted as the same in most answers needs no words in a prompt afterwards.
"""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from afina.compare.figure import Example, Figure, Shown, excerpt, figure, shown
from afina.data.clean.personal import mask
from afina.data.duplicates import folded
from afina.measure.fields import json_value

MOSTLY = 0.5  # share of the answers from which on they are said to share something
_REPEATED = 10  # answers for each different one, from which on they are labels,
_LABEL_WORDS = 6  # where half of them have no more words than this
_LONGEST_PHRASE = 6  # words of an opening or closing,
_EDGE = 200  # which stand in so many characters
_BEFORE = 20  # characters before a word, with which it is found again in an excerpt
_ADDRESSED = 0.2  # share of the answers that must say tú or usted before either counts as a register
_SIGNS = " \t.,;:!?¡¿\"'«»“”‘’()…"

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_FEATURES = {
    "code": re.compile(r"^\s*```", re.MULTILINE),
    "heading": re.compile(r"^#{1,6} [^\W\d]", re.MULTILINE),
    "table": re.compile(r"^\s*\|.*\|\s*\n\s*\|.*\|\s*$", re.MULTILINE),
    "list": re.compile(r"^\s*(?:[-*+•]|\d{1,3}[.)]) .*\n+(?:.*\n+)??\s*(?:[-*+•]|\d{1,3}[.)]) ", re.MULTILINE),
    "steps": re.compile(r"^\s*1[.)]? [A-ZÁÉÍÓÚÑ¡¿].* 2[.)]? [A-ZÁÉÍÓÚÑ¡¿]"),  # numbered in running text
    "bold": re.compile(r"\*\*\S[^*\n]*\*\*"),
}
_TU = re.compile(
    r"\b(?:tú|tu|tus|ti|contigo|tienes|puedes|quieres|necesitas|debes|sabes|eres|estás|prefieres|gustes)\b", re.IGNORECASE
)
_USTED = re.compile(
    r"\b(?:usted|ustedes|uds?\.|estimad[oa]s?|le (?:rogamos|saluda|agradecemos|informamos|recordamos))", re.IGNORECASE
)


def form_figures(examples: Sequence[Example]) -> Iterator[Figure]:
    """What the answers share in their form; a figure is left out where there is nothing to say."""
    labels = _labels(examples)
    if labels is not None:
        yield labels
        return  # the rest would count the labels' own words
    built = _structure(examples)
    yield built
    for name in ("opening", "closing"):
        found = _phrase(name, examples)
        if found is not None and (built.values["structure"], found.values["phrase"]) != ("steps", "‹n›"):  # the same thing twice
            yield found
    if (register := _register(examples)) is not None:
        yield register
    yield _length(examples)


def _labels(examples: Sequence[Example]) -> Figure | None:
    """A few short answers again and again: a classification."""
    answers = [folded(example.answer) for example in examples]
    counts = Counter(answers)
    median = statistics.median(len(answer.split()) for answer in answers)
    if len(counts) < 2 or len(counts) * _REPEATED > len(answers) or median > _LABEL_WORDS:
        return None
    commonest = [answer for answer, _count in counts.most_common(2)]
    rows = shown(examples[answers.index(answer)] for answer in commonest)
    once = shown(example for example, answer in zip(examples, answers, strict=True) if counts[answer] == 1)
    values: dict[str, str | int] = {"distinct": len(counts), "most": mask(commonest[0])}
    return Figure("labels", len(answers) - len(once), len(answers), rows, once[:1], values)


def _structure(examples: Sequence[Example]) -> Figure:
    """The commonest structure of an answer. ``structure``: ``json: a, b``, ``heading list``, ``lines`` or ``text``."""
    structures = [structure(example.answer) for example in examples]
    most = Counter(structures).most_common(1)[0][0]
    return figure("structure", examples, lambda number: structures[number] == most, show_others=True, structure=most)


def structure(answer: str) -> str:
    """What an answer is built of, in a word or a few."""
    value = json_value(answer)
    if isinstance(value, dict):
        return "json: " + ", ".join(sorted(value)) if value else "json"
    if isinstance(value, list):
        return "json list"
    features = [name for name, pattern in _FEATURES.items() if pattern.search(answer)]
    if features:
        return " ".join(features)
    return "lines" if "\n" in answer.strip() else "text"


def _opening(answer: str) -> list[str]:
    return _same_words(answer[:_EDGE].split()[:_LONGEST_PHRASE])


def _closing(answer: str) -> list[str]:
    return _same_words(answer[-_EDGE:].split()[-_LONGEST_PHRASE:])


def _same_words(words: Sequence[str]) -> list[str]:
    """Words without case and signs, every number as ``0``, so that ``#### 72`` and ``#### 5,000`` are the same."""
    return [_NUMBER.sub("0", word.casefold().strip(_SIGNS) or word) for word in words]


def _phrase(name: str, examples: Sequence[Example]) -> Figure | None:
    """The longest opening, or closing, that most answers share; None where they share none, or one small word only."""
    at_end = name == "closing"
    edges = [(_closing if at_end else _opening)(example.answer) for example in examples]
    for count in range(_LONGEST_PHRASE, 0, -1):
        phrases = [tuple(edge[-count:] if at_end else edge[:count]) for edge in edges]
        most, times = Counter(phrases).most_common(1)[0]
        says_something = len(most) > 1 or any(len(word) > 3 or not word.isalpha() for word in most)
        if times >= MOSTLY * len(examples) and says_something:
            has_it = [phrase == most for phrase in phrases]
            words = mask(" ".join("‹n›" if word == "0" else word for word in most))
            return figure(name, examples, has_it.__getitem__, show_others=True, at_end=at_end, phrase=words)
    return None


def _register(examples: Sequence[Example]) -> Figure | None:
    """How Spanish answers address the reader, where enough of them do; the rows show where."""
    found = [(example, _TU.search(example.answer), _USTED.search(example.answer)) for example in examples]
    tu, usted = [one for one in found if one[1]], [one for one in found if one[2]]
    if len(tu) + len(usted) < _ADDRESSED * len(examples):
        return None
    name, said, other = ("tú", 1, usted) if len(tu) >= len(usted) else ("usted", 2, tu)
    steady = [one for one in found if one[said] and not one[3 - said]]
    rows = tuple(_around(example, match or them) for example, match, them in steady[:2])
    others = tuple(_around(example, match if said == 2 else them) for example, match, them in other[:1])
    return Figure("register", len(steady), len(steady) + len(other), rows, others, {"register": name})


def _around(example: Example, match: re.Match[str] | None) -> Shown:
    piece = example.answer[max(0, match.start() - _BEFORE) : match.end()] if match else ""
    return Shown(example.place, excerpt(example, around=piece))


def _length(examples: Sequence[Example]) -> Figure:
    """How many answers have between half and twice the words of the middle one; the shortest and the longest show the spread."""
    lengths = [len(example.answer.split()) for example in examples]
    median = int(statistics.median(lengths))
    near = [median <= 2 * length and length <= 2 * median for length in lengths]
    order = sorted(range(len(examples)), key=lengths.__getitem__)
    values: dict[str, str | int] = {"shortest": lengths[order[0]], "median": median, "longest": lengths[order[-1]]}
    ends = shown(examples[number] for number in dict.fromkeys((order[0], order[-1])))
    return Figure("length", sum(near), len(near), shown([examples[order[len(order) // 2]]]), ends, values)
