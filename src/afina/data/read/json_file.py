"""JSON: the elements of a list, the list inside an object, or one object; the whole text is held."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Generator, Iterator
from typing import Any

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Source
from afina.data.read.item import BrokenFileError, Item, Knows, Record, broken
from afina.data.read.shapes import is_message
from afina.data.read.strict_json import BrokenJsonError, broken_at, parse_json_at, skip_blanks

_MARK = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["\[\]{},]', re.DOTALL)
_CLOSES = {"[": "]", "{": "}"}


class _Lines:
    """Line numbers of positions that only go forward."""

    def __init__(self, text: str) -> None:
        self._text, self._position, self._line = text, 0, 1

    def at(self, position: int) -> int:
        self._line += self._text.count("\n", self._position, position)
        self._position = position
        return self._line


def json_rows(name: str, text: str, knows: Knows) -> Iterator[Item]:
    """The elements of the list that the file is, or that its one object holds; else that object or conversation itself."""
    start = skip_blanks(text, 0)
    lines = _Lines(text)
    line = lines.at(start)
    try:
        if text[start] == "{":
            rows, end = _object_rows(name, text, start, lines, knows)
            yield from rows
        elif text[start] == "[" and _begins_with_message(text, start):
            conversation, end = parse_json_at(text, start)
            yield Record(Source(name, line), conversation)
        elif text[start] == "[":
            end = yield from _elements(name, text, start, lines)
        else:
            raise broken_at(text, start)
        end = skip_blanks(text, end)
        if end != len(text):
            raise broken_at(text, end)
    except BrokenJsonError as error:
        place = line if error.position is None else text.count("\n", 0, error.position) + 1
        raise BrokenFileError(
            Source(name, place),
            error.reason,
            fix=_("mend the JSON there; in JSONL (one object a line) only the broken line would be left out"),
        ) from None


def _begins_with_message(text: str, start: int) -> bool:
    try:
        first, _end = parse_json_at(text, skip_blanks(text, start + 1))
    except BrokenJsonError:
        return False
    return is_message(first)


def _elements(name: str, text: str, start: int, lines: _Lines) -> Generator[Item, None, int]:
    """The elements of the list that opens at ``start``; returns the position behind it.

    A broken element whose brackets still close is refused. Raises BrokenJsonError where it cannot be told where the next one
    begins.
    """
    position = skip_blanks(text, start + 1)
    if text[position : position + 1] == "]":
        return position + 1
    parse = parse_json_at
    line = 0
    while True:
        at = lines.at(position)
        line = max(at, line + 1)  # rows in one line are numbered: no two have the same place
        source = Source(name, line)
        try:
            value, end = parse(text, position)
            yield Record(source, value)
        except BrokenJsonError as error:
            behind = _skip_value(text, position)
            if behind is None:
                raise
            end = behind
            parse = _parse_alone
            yield broken(source, _with_line(error, text, position, at))
        end = skip_blanks(text, end)
        match text[end : end + 1]:
            case ",":
                position = skip_blanks(text, end + 1)
            case "]":
                return end + 1
            case _:
                raise broken_at(text, end)


def _parse_alone(text: str, start: int) -> tuple[Any, int]:
    """As ``parse_json_at``, from a copy of the element alone: an error of ``json`` counts all lines before it."""
    end = _skip_value(text, start)
    if end is None:
        return parse_json_at(text, start)
    try:
        value, length = parse_json_at(text[start:end], 0)
    except BrokenJsonError as error:
        if error.position is None:
            raise
        raise broken_at(text, start + error.position) from None
    return value, start + length


def _with_line(error: BrokenJsonError, text: str, start: int, line: int) -> str:
    further = 0 if error.position is None else text.count("\n", start, error.position)
    return _("{reason} (line {line})").format(reason=error.reason, line=line + further) if further else error.reason


def _skip_value(text: str, start: int) -> int | None:
    """The position of the comma or bracket behind the broken value at ``start``; None where its brackets do not pair."""
    open_brackets: list[str] = []
    for mark in _MARK.finditer(text, start):
        token = mark.group()
        if token in _CLOSES:
            open_brackets.append(_CLOSES[token])
        elif token == '"':  # a text that never ends
            return None
        elif token in ",]" and not open_brackets:
            return mark.start()
        elif token in "]}" and (not open_brackets or open_brackets.pop() != token):
            return None
    return None


def _object_rows(name: str, text: str, start: int, lines: _Lines, knows: Knows) -> tuple[list[Item], int]:
    """The rows of a file that is one object: its only list of objects, or the object itself; and the position behind it."""
    source = Source(name, lines.at(start))
    keys: list[str] = []
    lists: dict[str, list[Item]] = {}
    position = skip_blanks(text, start + 1)
    while text[position : position + 1] != "}":
        key, position = parse_json_at(text, position)
        position = skip_blanks(text, position)
        if not isinstance(key, str) or text[position : position + 1] != ":":
            raise broken_at(text, position)
        keys.append(key)
        position = skip_blanks(text, position + 1)
        if text[position : position + 1] == "[":
            items, position = _collected(_elements(name, text, position, lines))
            if any(isinstance(item, Record) and isinstance(item.value, dict | list) for item in items):
                lists[key] = items
        else:
            _value, position = parse_json_at(text, position)
        position = skip_blanks(text, position)
        if text[position : position + 1] == ",":
            position = skip_blanks(text, position + 1)
        elif text[position : position + 1] != "}":
            raise broken_at(text, position)
    if knows(keys) or not lists:
        value, end = parse_json_at(text, start)
        return [Record(source, value)], end
    if len(lists) > 1:
        first = next(iter(lists))
        raise DataError(
            _("{place}: the object holds {count} lists: {names}").format(
                place=source, count=len(lists), names=", ".join(repr(key) for key in lists)
            ),
            fix=_("write the one to use to a file of its own: {command}").format(
                command=f"jq {shlex.quote('.' + json.dumps(first))} {shlex.quote(name)} > {shlex.quote(f'{first}.json')}"
            ),
        )
    return next(iter(lists.values())), position + 1


def _collected(elements: Generator[Item, None, int]) -> tuple[list[Item], int]:
    """What a generator yields, and what it returns."""
    items: list[Item] = []
    while True:
        try:
            items.append(next(elements))
        except StopIteration as stop:
            return items, stop.value
