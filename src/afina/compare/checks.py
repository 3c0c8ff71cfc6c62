"""Rules of form that answers obey or not: learned from training answers, or written in the recipe.

A rule is learned where at least 95 of 100 training answers obey it. What is looked for, in this order:

    labels       {one_of: [refund, invoice, …]}
    JSON         {json_schema: {type: object, required: […], properties: {…}}}
    else texts   {matches: "Estimado cliente:.*"}   what they begin with
                 {matches: '.*#### -?\\d[\\d.,]*'}    what they end with; a number stands for any number
                 {matches: "[^\\n]*"}, a list, a heading, …   what they are built of
    length       {most_words: 60}
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from afina.core.translation import _
from afina.measure.fields import json_value
from afina.measure.labels import distinct_labels, label
from afina.measure.pattern import PATIENCE, obeys
from afina.recipe.recipe import Check
from afina.recipe.schema import TYPES, conforms

KEPT = 0.95  # share of the training answers that obey a learned rule
LEAST = 20  # answers from which on something is learned
_LOOKED_AT = 1000  # answers from which it is learned
_LONGEST = 40  # pieces of an opening or closing
_MOST_LABELS = 100
_ENUM = 10  # so many different texts at most, and ten times as many answers, make the values of a JSON field a choice
_OUTLIERS = 0.01  # share of the answers, the longest ones, that set no limit

_NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*")
_PIECE = re.compile(rf"\s+|{_NUMBER.pattern}|[^\W\d]+|[^\w\s]|_|\d")
ANY_NUMBER = r"-?\d[\d.,]*"
_LINE, _CODE = r"[^\n]*", r"(?m).*^```.*"
_HEADING = r"(?m).*^#{1,6} [^\W\d].*"  # "#### 42" is none
_TABLE, _LIST = r"(?m).*^\|.*\|$.*", r"(?m).*^(?:[-*+•]|\d+[.)]) .*"
_SHAPES = (_LINE, _CODE, _HEADING, _TABLE, _LIST)  # what answers are built of; the first that they all are


def learn_checks(answers: Sequence[str]) -> tuple[Check, ...]:
    """The rules that nearly all of the answers obey; none where there are fewer than LEAST of them."""
    texts = [answer.strip() for answer in answers[:_LOOKED_AT]]
    if len(texts) < LEAST:
        return ()
    if 0 < distinct_labels(texts) <= _MOST_LABELS:
        spelled = {label(text): text for text in reversed(texts)}
        return (Check(one_of=tuple(sorted(spelled.values(), key=label))),)
    if (schema := _schema(texts)) is not None:
        return (Check(json_schema=schema),)
    return tuple(_rules(texts))


def _rules(texts: Sequence[str]) -> Iterator[Check]:
    candidates = [*_edges(texts), *_SHAPES]
    learned = [pattern for pattern in candidates if _share(obeys(pattern, texts, patience=1)) >= KEPT]
    for pattern in [one for one in learned if one not in _SHAPES] + [one for one in learned if one in _SHAPES][:1]:
        yield Check(matches=pattern)
    yield Check(most_words=_most_words(texts))


def _share(obeyed: Sequence[bool | None]) -> float:
    return obeyed.count(True) / len(obeyed)


def _edges(texts: Sequence[str]) -> Iterator[str]:
    """Patterns of what nearly all texts begin with, and end with."""
    opening, closing = common_edges(texts)
    if opening and opening == closing:  # all of it
        yield _written(opening)
        return
    if opening:
        yield _written(opening) + ".*"
    if closing:
        yield ".*" + _written(closing)


def common_edges(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """What nearly all texts begin with, and what they end with, in pieces; ANY_NUMBER stands for a number."""
    pieces = [[ANY_NUMBER if _NUMBER.fullmatch(piece) else piece for piece in _PIECE.findall(text)] for text in texts]
    return _common([row[:_LONGEST] for row in pieces]), _common([row[: -_LONGEST - 1 : -1] for row in pieces])[::-1]


def _common(rows: Sequence[Sequence[str]]) -> list[str]:
    """The longest row of pieces with which nearly all begin, without blanks at its end; white space is one blank."""
    found: list[str] = []
    left = [[" " if piece.isspace() else piece for piece in row] for row in rows]
    while left:
        place = len(found)
        counts = Counter(row[place] for row in left if len(row) > place)
        piece, count = counts.most_common(1)[0] if counts else ("", 0)
        if count < KEPT * len(rows):
            break
        found.append(piece)
        left = [row for row in left if len(row) > place and row[place] == piece]
    while found and found[-1] == " ":
        found.pop()
    return found


def _written(pieces: Sequence[str]) -> str:
    """A regular expression of them, as plain as it can be: only what has a meaning of its own is escaped."""
    return "".join(
        piece if piece == ANY_NUMBER else r"\s+" if piece == " " else re.sub(r"([\\.^$*+?{}\[\]|()])", r"\\\1", piece)
        for piece in pieces
    )


def _most_words(texts: Sequence[str]) -> int:
    """As many words as nearly the longest text has, rounded up to a full five, or fifty where there are many."""
    lengths = sorted(len(text.split()) for text in texts)
    longest = lengths[math.ceil((1 - _OUTLIERS) * len(lengths)) - 1]
    step = 5 if longest <= 200 else 50
    return max(1, math.ceil(longest / step) * step)


def _schema(texts: Sequence[str]) -> dict[str, Any] | None:
    """The schema of objects: the keys that nearly all have, and what their values are; None where they are no objects."""
    found = [value for text in texts if isinstance(value := json_value(text), dict)]
    if len(found) < KEPT * len(texts):
        return None
    required = [key for key in dict.fromkeys(key for one in found for key in one) if _has(found, key) >= KEPT * len(found)]
    return {
        "type": "object",
        "required": required,
        "properties": {key: _value_schema([one[key] for one in found if key in one]) for key in required},
    }


def _has(found: Sequence[Mapping[str, Any]], key: str) -> int:
    return sum(key in one for one in found)


def _value_schema(values: Sequence[Any]) -> dict[str, Any]:
    names = [next((name for name in ("integer", *TYPES) if TYPES[name](value)), "") for value in values]
    kinds = ["number" if name == "integer" and "number" in names else name for name in dict.fromkeys(names)]
    schema: dict[str, Any] = {"type": kinds[0] if len(set(kinds)) == 1 else sorted(set(kinds))}
    distinct = list(dict.fromkeys(value for value in values if isinstance(value, str)))
    if kinds == ["string"] and len(distinct) <= _ENUM and len(distinct) * _ENUM <= len(values):
        schema["enum"] = sorted(distinct)
    return schema


# ── whether answers obey ──────────────────────────────────────────────────────────────────────────────────────────────


def obeyed(check: Check, answers: Sequence[str], patience: int = PATIENCE) -> list[bool | None]:
    """For each answer whether it obeys; None where its pattern took too long (``measure/pattern.py``)."""
    if check.matches is not None:
        return obeys(check.matches, answers, patience=patience)
    return [_obeys(check, answer) for answer in answers]


def _obeys(check: Check, answer: str) -> bool:
    if check.contains is not None:
        return check.contains in answer
    if check.without is not None:
        return check.without not in answer
    if check.most_words is not None:
        return len(answer.split()) <= check.most_words
    if check.one_of is not None:
        return label(answer) in map(label, check.one_of)
    value = json_value(answer)
    return value is not None and conforms(value, check.json_schema or {})


def told(check: Check) -> str:
    """A rule in the user's words."""
    texts = {
        "matches": _("matches {value}"),
        "contains": _("contains “{value}”"),
        "without": _("does not contain “{value}”"),
        "most_words": _("has at most {value} words"),
        "one_of": _("is one of: {value}"),
        "json_schema": _("is JSON with {value}"),
    }
    shapes = {
        _LINE: _("is in one line"),
        _CODE: _("holds a block of code"),
        _HEADING: _("holds a heading"),
        _TABLE: _("holds a table"),
        _LIST: _("holds a list"),
    }
    ((name, value),) = check.rule.items()
    if name == "matches" and value in shapes:
        return shapes[value]
    if (name, value) == ("most_words", 1):
        return _("has one word at most")
    if name == "one_of":
        value = ", ".join(value[:6]) + (_(" and {count} more").format(count=len(value) - 6) if len(value) > 6 else "")
    if name == "json_schema":
        value = ", ".join(value.get("required", [])) or yaml.safe_dump(value, default_flow_style=True).strip()
    return texts[name].format(value=value)


def as_yaml(checks: Sequence[Check]) -> str:
    """The rules as they stand in a recipe."""
    tree = {"compare": {"checks": [yaml.safe_load(check.model_dump_json()) for check in checks]}}
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)
