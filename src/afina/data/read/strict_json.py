"""JSON to the letter of RFC 8259: no NaN, no key twice in an object, no crash on deep nesting.

Numbers are given back as the text that stands in the file (``Number``): an answer ``1.50`` stays ``1.50``.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from afina.core.translation import _
from afina.data.clean.personal import mask
from afina.data.read.number import Number

_MASKED = 120  # characters that are looked through for personal data before they are cut
_SNIPPET = 30  # characters of the text that an error shows
_BLANK = re.compile(r"[ \t\n\r]*")


class BrokenJsonError(ValueError):
    """Text that is not JSON: ``reason`` is one line for the user, ``position`` counts characters from 0 where it is known."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


def parse_json(text: str) -> Any:
    """The one value in ``text``. Raises BrokenJsonError."""
    value, end = parse_json_at(text, skip_blanks(text, 0))
    end = skip_blanks(text, end)
    if end != len(text):
        raise broken_at(text, end)
    return value


def parse_json_at(text: str, start: int) -> tuple[Any, int]:
    """The value that begins at ``start`` and the position behind it. Raises BrokenJsonError."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise broken_at(text, error.pos) from None
    except RecursionError:
        raise BrokenJsonError(_("it is nested too deeply")) from None


def skip_blanks(text: str, start: int) -> int:
    """The position of the first character from ``start`` on that is not JSON's white space; the length where there is none."""
    found = _BLANK.match(text, start)
    return found.end() if found else start


def broken_at(text: str, position: int) -> BrokenJsonError:
    """The error that shows what stands at ``position``, with its column in the line."""
    if skip_blanks(text, position) == len(text):
        return BrokenJsonError(_("not JSON: it breaks off"), position)
    column = position - text.rfind("\n", 0, position)
    snippet = mask(text[position : position + _MASKED].partition("\n")[0])[:_SNIPPET]
    return BrokenJsonError(_("not JSON from column {column} on: {snippet!r}").format(column=column, snippet=snippet), position)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _value in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BrokenJsonError(_("the key {key!r} stands twice").format(key=twice))
    return found


def _constant(name: str) -> NoReturn:
    raise BrokenJsonError(_("not JSON: {name} is not a JSON number").format(name=name))


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=Number, parse_int=Number)
