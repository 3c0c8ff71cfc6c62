"""What rows are made of: keys without their case, texts, lists that may stand in a cell; and how a row is refused."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from afina.core.translation import _
from afina.data.conversation import Role
from afina.data.read.strict_json import BrokenJsonError, parse_json

# The checks that can refuse a row.
BROKEN_ROW = "broken-row"
UNKNOWN_SHAPE = "unknown-shape"
EMPTY = "empty"
NO_ANSWER = "no-answer"
ROLE_ORDER = "role-order"
UNKNOWN_ROLE = "unknown-role"
SEVERAL_SYSTEMS = "several-systems"
BROKEN_TOOLS = "broken-tools"
NOT_TEXT = "not-text"
PLAIN_TEXT = "plain-text"
PREFERENCE = "preference"
DRAFT = "draft"

Row = Mapping[str, Any]  # folded key → value; without the keys whose value is null

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
    "tool_response": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}

_SHOWN = 40  # characters of a value that a reason shows


class Refused(Exception):  # noqa: N818 -- not an error: it carries a refusal out of a nested row
    def __init__(self, check: str, reason: str) -> None:
        super().__init__(reason)
        self.check, self.reason = check, reason


@lru_cache(maxsize=4096)
def fold(key: str) -> str:
    """A key without its case and the blanks around it."""
    return key.strip().casefold()


def folded(value: Mapping[Any, Any]) -> dict[str, Any]:
    """The same object by folded keys, without those that are null."""
    keys = [fold(key if isinstance(key, str) else str(key)) for key in value]
    if len(set(keys)) != len(keys):
        raise Refused(BROKEN_ROW, _("the key {key!r} stands twice").format(key=Counter(keys).most_common(1)[0][0]))
    return {key: item for key, item in zip(keys, value.values()) if item is not None}


def is_blank(text: str) -> bool:
    return not text or text.isspace()


def is_whole(text: str) -> bool:
    """Whether ``text`` has no half of a surrogate pair, which could not be written to any file."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def text_of(value: Any, where: str | int) -> str:
    """A text or a number as its text. ``where`` is the key, or the number of the message."""
    if isinstance(value, str):
        return str(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):  # what tables write where a cell is empty
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Refused(BROKEN_ROW, _("{where} is {value}, not a text").format(where=place(where), value=shown(value)))


def place(where: str | int) -> str:
    return repr(where) if isinstance(where, str) else _("message {number}").format(number=where)


def shown(value: Any) -> str:
    """The beginning of any value, for a reason."""
    try:
        return json.dumps(value, default=str)[:_SHOWN]
    except (RecursionError, TypeError, ValueError):  # nested too deeply, keys that are no texts, a ring
        return str(type(value).__name__)


def list_of(value: Any, key: str) -> list[Any]:
    """A list, which may stand as JSON in a cell of a table."""
    found = value
    if isinstance(value, str):
        try:
            found = parse_json(value) if value.strip() else []
        except BrokenJsonError as error:
            reason = _("{key!r} is a text and no list ({reason})").format(key=key, reason=error.reason)
            raise Refused(BROKEN_ROW, reason) from None
    if isinstance(found, list):
        return found
    raise Refused(BROKEN_ROW, _("{key!r} is not a list").format(key=key))
