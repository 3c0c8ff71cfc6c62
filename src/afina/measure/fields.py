"""Answers in JSON: whether they are it, and how many of their fields are the expected ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

_FENCED = re.compile(r"\s*```[a-z]*\s*\n(.*?)\n?```\s*", re.DOTALL)


def json_value(answer: str) -> dict[str, Any] | list[Any] | None:
    """The answer's object or list, where it is nothing but one, in a fence or not; else None. NaN and Infinity are no JSON."""
    fenced = _FENCED.fullmatch(answer)
    text = (fenced[1] if fenced else answer).strip()
    if text[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


def field_match(answer: str, reference: str) -> float:
    """Fields that are equal in both over the fields that either has; 0.0 where the answer is no JSON.

    A field is a value that is neither object nor list, with the path to it: an invented field counts against the answer as a
    missing one does. Two empty values have one field, which is equal.
    """
    ours, theirs = json_value(answer), json_value(reference)
    if ours is None or theirs is None:
        return 0.0
    given, wanted = dict(_fields(ours)), dict(_fields(theirs))
    equal = sum(path in given and given[path] == value for path, value in wanted.items())
    return equal / len(given.keys() | wanted.keys())


def _fields(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], tuple[str, Any]]]:
    """Each leaf with its path. A leaf is its kind and itself: ``1`` is ``1.0`` and is not ``true``."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if isinstance(value, dict | list) and value:
        for key, item in below:
            yield from _fields(item, (*path, key))
    elif isinstance(value, dict | list):
        yield path, (type(value).__name__, None)
    else:
        yield path, ("bool" if isinstance(value, bool) else "number" if isinstance(value, int | float) else "other", value)
