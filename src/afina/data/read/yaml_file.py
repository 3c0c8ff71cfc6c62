"""YAML: a list of rows, an object with a list inside, or one object a document; the whole text is held.

Built from the parser's events and not by a loader: nothing but lists, objects and texts can come of it. What is written without
quotes is a text, but for numbers (``Number``), ``true``, ``false`` and ``null``: ``no`` is the word no, and a date stays as it
is written. Tags are refused. An anchor may be used again, as long as the whole does not grow out of proportion.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import grouped
from afina.data.conversation import Source
from afina.data.read.item import BrokenFileError, Item, Knows, Record, broken
from afina.data.read.number import Number
from afina.data.read.shapes import is_message

Place = tuple[int, int]  # line from 1, character from 0

_DEEPEST = 200
_MOST_VALUES = 5_000_000  # in a file, with what anchors repeat
_CORE = "tag:yaml.org,2002:"
_CORE_TAGS = ("!", *(_CORE + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map")))
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class _Open:
    """A list or an object that has begun. ``places`` are where its items begin; ``size`` counts values in it."""

    value: list[Any] | dict[str, Any]
    place: Place
    anchor: str | None
    places: list[Place] = field(default_factory=list)
    key: Any = None
    has_key: bool = False
    size: int = 1


def yaml_rows(name: str, text: str, knows: Knows) -> Iterator[Item]:
    """The rows of all documents of the file. Raises DataError where it is no YAML, with the line."""
    builder = _Builder(name)
    try:
        events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        for event in events:
            builder.take(event)
            if isinstance(event, yaml.DocumentEndEvent):
                yield from _document(name, builder, knows)
                builder = _Builder(name)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        raise _broken(name, mark.line + 1 if mark else 1, error.problem or str(error)) from None
    except yaml.reader.ReaderError as error:
        raise _broken(name, text.count("\n", 0, error.position) + 1, error.reason) from None


def _document(name: str, builder: _Builder, knows: Knows) -> Iterator[Item]:
    value, place = builder.root, builder.root_place
    if isinstance(value, list) and not (value and is_message(value[0])):
        yield from _list(name, value, builder.places_of[id(value)][1], builder.problems)
        return
    lists = {}
    if isinstance(value, dict) and not knows(value.keys()):
        lists = {
            key: item
            for key, item in value.items()
            if isinstance(item, list) and any(isinstance(row, dict | list) for row in item) and id(item) in builder.places_of
        }
    if len(lists) > 1:
        raise DataError(
            _("{place}: the object holds {count} lists: {names}").format(
                place=Source(name, place[0]), count=len(lists), names=", ".join(map(repr, lists))
            ),
            fix=_("write the one to use to a file of its own"),
        )
    if lists:
        rows = next(iter(lists.values()))
        yield from _list(name, rows, builder.places_of[id(rows)][1], builder.problems)
    elif value is not None:
        yield from _list(name, [value], [place], builder.problems)


def _list(name: str, values: list[Any], places: list[Place], problems: list[tuple[int, str]]) -> Iterator[Item]:
    """Each value, or the problem that lies between its place and the next one's."""
    waiting = iter(problems)
    problem = next(waiting, None)
    for value, place, behind in zip(values, places, [*places[1:], None], strict=False):
        reason = ""
        while problem and (behind is None or problem[0] < behind[1]):
            reason = reason or problem[1]
            problem = next(waiting, None)
        source = Source(name, place[0])
        yield broken(source, reason) if reason else Record(source, value)


class _Builder:
    """Values from events, without recursion: depth and size are counted."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[_Open] = []
        self._anchors: dict[str, tuple[Any, int]] = {}
        self._values = 0
        self.root: Any = None
        self.root_place: Place = (1, 0)
        self.places_of: dict[
            int, tuple[Any, list[Place]]
        ] = {}  # by the id of a list near the root: it, and where its items begin
        self.problems: list[tuple[int, str]] = []  # character, reason

    def take(self, event: Any) -> None:
        match event:
            case yaml.ScalarEvent():
                self._refuse_tag(event)
                self._put(_scalar(event), 1, event)
            case yaml.AliasEvent():
                self._alias(event)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                self._refuse_tag(event)
                if len(self._open) >= _DEEPEST:
                    raise _broken(self._name, _place(event)[0], _("it is nested too deeply"))
                value: Any = [] if isinstance(event, yaml.SequenceStartEvent) else {}
                self._open.append(_Open(value, _place(event), event.anchor))
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                done = self._open.pop()
                if isinstance(done.value, list) and len(self._open) <= 1:
                    self.places_of[id(done.value)] = (done.value, done.places)
                if isinstance(done.value, dict):
                    _merge(done.value)
                self._put(done.value, done.size, event, done)
            case _:
                pass

    def _put(self, value: Any, size: int, event: Any, done: _Open | None = None) -> None:
        place = done.place if done else _place(event)
        anchor = done.anchor if done else event.anchor if isinstance(event, yaml.ScalarEvent) else None
        self._values += 0 if done else size
        if self._values > _MOST_VALUES:
            raise _broken(self._name, place[0], _("it holds more than {limit} values").format(limit=grouped(_MOST_VALUES)))
        if anchor:
            self._anchors[anchor] = (value, size)
        if not self._open:
            self.root, self.root_place = value, place
            return
        parent = self._open[-1]
        parent.size += size
        if isinstance(parent.value, list):
            parent.value.append(value)
            parent.places.append(place)
        elif not parent.has_key:
            parent.key, parent.has_key = value, True
            if not isinstance(value, str):
                self.problems.append((place[1], _("a key is not a text")))
                parent.key = str(value)
        else:
            if parent.key in parent.value:
                self.problems.append((place[1], _("the key {key!r} stands twice").format(key=parent.key)))
            parent.value[parent.key] = value
            parent.has_key = False

    def _alias(self, event: Any) -> None:
        value, size = self._anchors.get(event.anchor, (None, 0))
        if not size:
            reason = _("*{anchor} refers to nothing that is complete there").format(anchor=event.anchor)
            self.problems.append((_place(event)[1], reason))
        self._put(value, max(1, size), event)

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None and event.tag not in _CORE_TAGS:
            reason = _("the tag {tag} asks for more than a text, a list or an object").format(tag=event.tag)
            self.problems.append((_place(event)[1], reason))


def _place(event: Any) -> Place:
    return event.start_mark.line + 1, event.start_mark.index


def _scalar(event: Any) -> Any:
    if event.style or event.tag in ("!", f"{_CORE}str"):  # quoted or a block, or said to be a text
        return event.value
    if event.value in _WORDS:
        return _WORDS[event.value]
    return Number(event.value) if _NUMBER.fullmatch(event.value) else event.value


def _merge(value: dict[str, Any]) -> None:
    """``<<: *other`` gives the keys that the object does not have itself."""
    if "<<" not in value:
        return
    merged = value.pop("<<")
    for other in merged if isinstance(merged, list) else [merged]:
        for key, item in other.items() if isinstance(other, dict) else ():
            value.setdefault(key, item)


def _broken(name: str, line: int, reason: str) -> BrokenFileError:
    return BrokenFileError(
        Source(name, line),
        _("not YAML: {reason}").format(reason=reason),
        fix=_("mend the YAML there; in JSONL (one object a line) only the broken line would be left out"),
    )
