"""The recipe's columns: how ``data.map`` makes a question and an answer of a row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.clean.personal import mask
from afina.data.conversation import Message
from afina.data.read.messages import joined_text, side
from afina.data.read.row import EMPTY, Refused, Row, fold, is_blank
from afina.recipe.recipe import Columns

_KEYS_SHOWN = 12
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True)
class Mapped:
    """What the recipe's columns take from a row: the keys that it needs, those that it may lack, and its messages."""

    needs: tuple[str, ...]
    may_have: tuple[str, ...]
    turns: Callable[[Row], list[Message]]


def have_columns(folded: Collection[str], columns: Columns) -> bool:
    """Whether rows with these keys have all columns that the recipe names."""
    return all(fold(name) in folded for _key, setting in _settings(columns) for name in _names_in(setting, folded))


def mapped(columns: Columns, names: Mapping[str, str], file: str) -> Mapped:
    """The way that the recipe describes; ``names``: folded key → as the file writes it.

    Raises DataError where the file's first rows lack a column that it names.
    """
    problems = [
        _missing(f"data.map.{key}", name, names, file)
        for key, setting in _settings(columns)
        for name in _names_in(setting, names)
        if fold(name) not in names
    ]
    if problems:
        fix = _("correct data.map in the recipe: each is a column's name, or a text with {columns} in braces")
        raise DataError("\n".join(problems), fix=fix)
    settings = dict(_settings(columns))
    prompt, answer = _column(settings["prompt"], names), _column(settings["answer"], names)
    system = _column(settings["system"], names) if "system" in settings else _nothing
    optional = {fold(settings["system"])} & set(names) if "system" in settings else set()
    used = dict.fromkeys(fold(name) for setting in settings.values() for name in _names_in(setting, names))

    def turns(row: Row) -> list[Message]:
        return [
            Message("system", joined_text(system(row), "system")),
            *side(prompt(row), "user", settings["prompt"]),
            *side(answer(row), "assistant", settings["answer"]),
        ]

    return Mapped(tuple(key for key in used if key not in optional), tuple(optional), turns)


def refuse_missing_group(column: str, names: Mapping[str, str], file: str) -> None:
    """Raises DataError where the first rows of a file lack the column by which the recipe parts them."""
    if names and fold(column) not in names:
        fix = _("name a column that every file has, or take data.split.by: auto")
        raise DataError(_missing("data.split.by", column, names, file), fix=fix)


def listed(keys: Iterable[str]) -> str:
    """Keys as an error or a reason shows them."""
    shown = [repr(mask(key)) for key in keys]  # a table without a header has its first row for keys
    if len(shown) > _KEYS_SHOWN:
        return ", ".join(shown[:_KEYS_SHOWN]) + _(" and {count} more").format(count=len(shown) - _KEYS_SHOWN)
    return ", ".join(shown)


def _missing(setting: str, name: str, names: Mapping[str, str], file: str) -> str:
    what = _("{setting} names {name!r}, but {file} has {columns}").format(
        setting=setting, name=name, file=file, columns=listed(names.values()) or _("no columns")
    )
    close = difflib.get_close_matches(fold(name), names, n=1)
    return what + (_("; did you mean {name!r}?").format(name=names[close[0]]) if close else "")


def _settings(columns: Columns) -> list[tuple[str, str]]:
    """The keys of ``data.map`` that are set, with what they say."""
    settings = (("prompt", columns.prompt), ("answer", columns.answer), ("system", columns.system))
    return [(key, setting) for key, setting in settings if setting is not None]


def _names_in(setting: str, known: Collection[str]) -> list[str]:
    """The columns that a setting uses, as it writes them: itself where it is a column's name, else the names in its braces."""
    if fold(setting) in known:
        return [setting]
    return [match[1] for match in _BRACES.finditer(setting) if match[1] is not None] or [setting]


def _nothing(_row: Row) -> str:
    return ""


def _column(setting: str, known: Collection[str]) -> Callable[[Row], Any]:
    """What a setting takes from a row: the value of a column, or a text whose braces are filled."""
    if fold(setting) in known:
        return lambda row: row.get(fold(setting))

    def filled(row: Row) -> str:
        def cell(match: re.Match[str]) -> str:
            if match[1] is None:
                return match[0][0]
            text = joined_text(row[fold(match[1])], match[1])
            if is_blank(text):
                raise Refused(EMPTY, _("{key!r} is empty").format(key=match[1]))
            return text

        return _BRACES.sub(cell, setting)

    return filled
