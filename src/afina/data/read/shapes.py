"""What a row means: from the many ways in which examples are written to one Conversation.

The shape of a file is decided by the keys of its first rows; a row of another shape in the same file is recognised too.
Upper and lower case and blanks around keys do not matter, and a key whose value is null counts as not there. The text of a
turn is never changed.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Conversation, Finding, Message, Role, Source
from afina.data.read.strict_json import BrokenJsonError, parse_json
from afina.recipe.recipe import Columns

# The checks that can refuse a row.
BROKEN_ROW = "broken-row"
UNKNOWN_SHAPE = "unknown-shape"
EMPTY = "empty"
NO_ANSWER = "no-answer"
ROLE_ORDER = "role-order"
UNKNOWN_ROLE = "unknown-role"
SEVERAL_SYSTEMS = "several-systems"
TOOLS = "tools"
NOT_TEXT = "not-text"
PREFERENCE = "preference"
UNTRAINED_TURN = "untrained-turn"

Row = Mapping[str, Any]  # folded key → value; without the keys whose value is null
Turn = tuple[Role, str]

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
}
TOOL_ROLES = ("tool", "tool_call", "tool_calls", "tool_response", "function", "function_call", "observation", "ipython")

_MESSAGE_KEYS = ("role", "from", "content", "value", "weight", "loss_weight", "tool_calls", "function_call")
_TOOL_PARTS = ("tool_call", "tool_calls", "tool_use", "tool_result")
_TOOL_KEYS = ("tools", "functions")
_MEDIA_KEYS = ("image", "images", "video", "videos", "audio", "audios")
_LABEL_KEYS = ("label", "kto_tag")
_KEYS_SHOWN = 12
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


@dataclass(frozen=True)
class Shape:
    """A way to write a row: the keys that it needs, how its turns are found, and the keys that it may have besides."""

    name: str
    needs: tuple[str, ...]
    turns: Callable[[Row], list[Turn]]
    may_have: tuple[str, ...] = ("system",)


@dataclass(frozen=True)
class Choice:
    """The shape of a file's rows, why it was chosen, and the keys of its first rows that are not used.

    ``mapped``: the recipe names the columns, and no row is read in another way.
    """

    shape: Shape
    reason: str
    unused: tuple[str, ...] = ()
    mapped: bool = False


class _Refused(Exception):  # noqa: N818 -- not an error: it carries a refusal out of a nested row
    def __init__(self, check: str, reason: str) -> None:
        super().__init__(reason)
        self.check, self.reason = check, reason


@lru_cache(maxsize=4096)
def fold(key: str) -> str:
    """A key without its case and the blanks around it."""
    return key.strip().casefold()


def knows(keys: Collection[str], columns: Columns | None) -> bool:
    """Whether rows with these keys can be made into conversations: by the recipe's columns where it names some."""
    folded = frozenset(map(fold, keys))
    if columns is None:
        return _shape_with(folded) is not None
    return all(fold(name) in folded for _key, setting in _settings(columns) for name in _names_in(setting, folded))


def is_message(value: Any) -> bool:
    """Whether ``value`` is one turn of a conversation."""
    keys = {fold(key) for key in value} if isinstance(value, dict) else set()
    return keys.issuperset(("role", "content")) or keys.issuperset(("from", "value"))


def recognise(value: Any) -> Shape | None:
    """The first shape whose keys ``value`` has; None where there is none."""
    if isinstance(value, list):
        return MESSAGE_LIST if value and all(is_message(item) for item in value) else None
    if not isinstance(value, dict):
        return None
    return _shape_with(frozenset(fold(key) for key, item in value.items() if item is not None))


@lru_cache(maxsize=4096)
def _shape_with(keys: frozenset[str]) -> Shape | None:
    return next((shape for shape in SHAPES if keys.issuperset(shape.needs)), None)


def choose_shape(first: Sequence[tuple[Source, Any]], columns: Columns | None) -> Choice:
    """How the rows of a file are read, from its first ones (at least one).

    Raises DataError where none of them is of a known shape: it shows the keys that were found and the ``data.map`` to write.
    """
    names = _names(value for _source, value in first)
    if columns is not None:
        shape = _mapped(columns, names, first[0][0].file)
        reason = _("data.map names {keys}").format(keys=_listed(names[key] for key in shape.needs))
        return Choice(shape, reason, _unused(shape, first, names), mapped=True)
    found = Counter(known for _source, value in first if (known := recognise(value)))
    if not found:
        raise _unknown_shape(*first[0], names)
    commonest, count = found.most_common(1)[0]
    having = _listed(names.get(key, key) for key in commonest.needs) or _("a list of messages")
    reason = _("{count} of the first {rows} rows have {keys}").format(count=count, rows=len(first), keys=having)
    return Choice(commonest, reason, _unused(commonest, first, names))


def converse(value: Any, source: Source, choice: Choice, system: str | None) -> Conversation | Finding:
    """The conversation of one row, or why it is none. ``system`` is put in front where the row has no system message."""
    try:
        return _conversation(_turns(value, choice), source, system)
    except _Refused as refused:
        return Finding(source, refused.check, refused.reason)


# ── from turns to a conversation ──────────────────────────────────────────────────────────────────────────────────────


def _conversation(turns: Sequence[Turn], source: Source, system: str | None) -> Conversation:
    spoken = [(role, text) for role, text in turns if role != "system" or not _is_blank(text)]
    systems = [number for number, (role, _text_) in enumerate(spoken, start=1) if role == "system"]
    if len(systems) > 1:
        raise _Refused(SEVERAL_SYSTEMS, _("{count} system messages; there can be one").format(count=len(systems)))
    if systems and systems[0] > 1:
        raise _Refused(ROLE_ORDER, _("message {number} is the system message; it must be the first").format(number=systems[0]))
    if len(spoken) == len(systems):
        raise _Refused(EMPTY, _("there is no user turn"))
    before: Role = "assistant"
    for number, (role, text) in enumerate(spoken, start=1):
        if role == before:
            raise _Refused(ROLE_ORDER, _out_of_order(role, number, len(systems)))
        before = role if role != "system" else before
        if role != "system" and _is_blank(text):
            raise _Refused(EMPTY, _("message {number} ({role}) has no text").format(number=number, role=role))
        if not text.isascii() and not _is_whole(text):
            reason = _("message {number} ({role}) has half of a surrogate pair, which is no character")
            raise _Refused(BROKEN_ROW, reason.format(number=number, role=role))
    if before == "user":
        raise _Refused(NO_ANSWER, _("the last message is the user's: there is no answer to learn"))
    messages = tuple(Message(role, text) for role, text in spoken)
    if system and not systems:
        messages = (Message("system", system), *messages)
    return Conversation(messages, source)


def _out_of_order(role: Role, number: int, systems: int) -> str:
    if number == systems + 1:
        return _("the conversation begins with the assistant; it must begin with the user")
    return _("messages {before} and {number} are both the {role}'s").format(before=number - 1, number=number, role=role)


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _is_whole(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


# ── from a row to turns ───────────────────────────────────────────────────────────────────────────────────────────────


def _turns(value: Any, choice: Choice) -> list[Turn]:
    if isinstance(value, list) and not choice.mapped:
        return _messages(value)
    if not isinstance(value, dict):
        raise _Refused(BROKEN_ROW, _("the row is not an object with keys"))
    row = _folded(value)
    if choice.mapped:
        if missing := [key for key in choice.shape.needs if key not in row]:
            raise _Refused(EMPTY, _("the row has no {keys}").format(keys=_listed(missing)))
        return choice.shape.turns(row)
    if any(row.get(key) is False for key in _LABEL_KEYS):
        raise _Refused(PREFERENCE, _("the answer is marked as a bad one (label: false)"))
    if shape := _shape_with(frozenset(row)):
        return [*_system_turn(row), *shape.turns(row)]
    if choice.shape.needs and choice.shape.needs[0] in row:
        missing = [key for key in choice.shape.needs if key not in row]
        raise _Refused(NO_ANSWER, _("the row has no {keys}").format(keys=_listed(missing)))
    raise _Refused(UNKNOWN_SHAPE, _("the keys {keys} are of no known shape").format(keys=_listed(value)))


def _folded(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same object by folded keys, without those that are null."""
    folded = {fold(key): item for key, item in value.items()}
    if len(folded) != len(value):
        twice = Counter(map(fold, value)).most_common(1)[0][0]
        raise _Refused(BROKEN_ROW, _("the key {key!r} stands twice").format(key=twice))
    return {key: item for key, item in folded.items() if item is not None}


def _system_turn(row: Row) -> list[Turn]:
    return [("system", _text(row["system"], "system"))] if "system" in row else []


def _message_list(key: str) -> Callable[[Row], list[Turn]]:
    def turns(row: Row) -> list[Turn]:
        _refuse_more_than_text(row)
        return _messages(_from_cell(row[key], key))

    return turns


def _pair(prompt: str, answer: str) -> Callable[[Row], list[Turn]]:
    def turns(row: Row) -> list[Turn]:
        return [*_side(row[prompt], "user", prompt), *_side(row[answer], "assistant", answer)]

    return turns


def _alpaca(answer: str) -> Callable[[Row], list[Turn]]:
    """The task and what it works on make one turn, one below the other; earlier rounds stand in ``history``."""

    def turns(row: Row) -> list[Turn]:
        _refuse_more_than_text(row)
        parts = [_text(row[key], key) for key in ("instruction", "input", "context") if key in row]
        filled = [part for part in parts if not _is_blank(part)]
        earlier: list[Turn] = []
        for number, turn in enumerate(_from_cell(row.get("history", []), "history"), start=1):
            if not isinstance(turn, list) or len(turn) != 2:
                raise _Refused(BROKEN_ROW, _("round {number} of 'history' is not a list of two texts").format(number=number))
            earlier += [("user", _text(turn[0], "history")), ("assistant", _text(turn[1], "history"))]
        return [*earlier, ("user", "\n".join(filled)), *_side(row[answer], "assistant", answer)]

    return turns


def _preference(_row: Row) -> list[Turn]:
    raise _Refused(PREFERENCE, _("a preference pair (a chosen and a rejected answer): not supported yet"))


def _refuse_more_than_text(row: Row) -> None:
    for key in _TOOL_KEYS:
        if row.get(key) not in (None, "", "[]", [], {}):
            raise _Refused(TOOLS, _("the row offers tools: not supported yet"))
    for key in _MEDIA_KEYS:
        if row.get(key) not in (None, "", "[]", [], {}):
            raise _Refused(NOT_TEXT, _("the row has {key!r}: only text is supported").format(key=key))


def _from_cell(value: Any, key: str) -> list[Any]:
    """A list that may stand as JSON in a cell of a table."""
    found = value
    if isinstance(value, str):
        try:
            found = parse_json(value) if value.strip() else []
        except BrokenJsonError as error:
            reason = _("{key!r} is a text and no list ({reason})").format(key=key, reason=error.reason)
            raise _Refused(BROKEN_ROW, reason) from None
    if isinstance(found, list):
        return found
    raise _Refused(BROKEN_ROW, _("{key!r} is not a list").format(key=key))


def _side(value: Any, role: Role, key: str) -> list[Turn]:
    """A prompt or an answer: a text, or messages."""
    if isinstance(value, dict):
        return _messages([value])
    if isinstance(value, list) and value and all(is_message(item) for item in value):
        return _messages(value)
    return [(role, _text(value, key))]


def _messages(messages: Sequence[Any]) -> list[Turn]:
    return [_message(message, number) for number, message in enumerate(messages, start=1)]


def _message(message: Any, number: int) -> Turn:
    if not isinstance(message, dict):
        raise _Refused(BROKEN_ROW, _("message {number} is not an object").format(number=number))
    parts = _folded(message)
    name = parts["role"] if "role" in parts else parts.get("from")
    if not isinstance(name, str):
        raise _Refused(BROKEN_ROW, _("message {number} has no role").format(number=number))
    spoken = fold(name)
    if spoken in TOOL_ROLES or parts.get("tool_calls") or parts.get("function_call"):
        raise _Refused(TOOLS, _("message {number} calls a tool or is a tool's: not supported yet").format(number=number))
    role = ROLES.get(spoken)
    if role is None:
        raise _Refused(UNKNOWN_ROLE, _("message {number} has the role {role!r}").format(number=number, role=name))
    if role == "assistant" and any(_is_zero(parts.get(key)) for key in ("weight", "loss_weight")):
        reason = _("message {number} has weight 0, but all answers of a conversation are learned")
        raise _Refused(UNTRAINED_TURN, reason.format(number=number))
    return role, _text(parts.get("content", parts.get("value")), number)


def _is_zero(weight: Any) -> bool:
    """Whether a number, which the reader keeps as text, is zero."""
    return isinstance(weight, str) and re.fullmatch(r"-?0(\.0*)?", weight) is not None


def _text(value: Any, where: str | int) -> str:
    """A text, or a list of text parts as one. ``where`` is the key, or the number of the message."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list):
        return "".join(_part(part, where) for part in value)
    raise _Refused(BROKEN_ROW, _("{where} is {value}, not a text").format(where=_place(where), value=json.dumps(value)[:40]))


def _place(where: str | int) -> str:
    return repr(where) if isinstance(where, str) else _("message {number}").format(number=where)


def _part(part: Any, where: str | int) -> str:
    if isinstance(part, dict):
        parts = _folded(part)
        kind = parts.get("type", "text")
        if kind != "text":
            check = TOOLS if kind in _TOOL_PARTS else NOT_TEXT
            raise _Refused(
                check, _("{where} has a part of type {kind!r}: not supported yet").format(where=_place(where), kind=kind)
            )
        text = parts.get("text", parts.get("value"))
        if isinstance(text, str):
            return text
    raise _Refused(BROKEN_ROW, _("{where} has a part without text").format(where=_place(where)))


_MORE = ("system", *_TOOL_KEYS, *_MEDIA_KEYS, *_LABEL_KEYS)
_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("question", "answer"),
    ("input", "output"),
    ("pregunta", "respuesta"),
    ("utterance", "intent"),
)
MESSAGE_LIST = Shape("list of messages", (), lambda _row: [])
# In this order: the first whose keys a row has is taken.
SHAPES = (
    Shape("preference pairs", ("chosen", "rejected"), _preference),
    Shape("preference pairs", ("chosen_messages", "rejected_messages"), _preference),
    Shape("OpenAI messages", ("messages",), _message_list("messages"), _MORE),
    Shape("ShareGPT", ("conversations",), _message_list("conversations"), _MORE),
    Shape("Alpaca", ("instruction", "output"), _alpaca("output"), ("input", "context", "history", *_MORE)),
    Shape("Alpaca", ("instruction", "response"), _alpaca("response"), ("input", "context", "history", *_MORE)),
    *(Shape(f"{key}/{answer}", (key, answer), _pair(key, answer), ("system", *_LABEL_KEYS)) for key, answer in _PAIRS),
)


# ── the recipe's columns ──────────────────────────────────────────────────────────────────────────────────────────────


def _settings(columns: Columns) -> list[tuple[str, str]]:
    """The keys of ``data.map`` that are set, with what they say."""
    settings = (("prompt", columns.prompt), ("answer", columns.answer), ("system", columns.system))
    return [(key, setting) for key, setting in settings if setting is not None]


def _names_in(setting: str, known: Collection[str]) -> list[str]:
    """The columns that a setting uses, as it writes them: itself where it is a column's name, else the names in its braces."""
    if fold(setting) in known:
        return [setting]
    return [match[1] for match in _BRACES.finditer(setting) if match[1] is not None] or [setting]


def _mapped(columns: Columns, names: Mapping[str, str], file: str) -> Shape:
    """The shape that the recipe describes. Raises DataError where the file's first rows lack a column that it names."""
    problems = []
    for key, setting in _settings(columns):
        for name in _names_in(setting, names):
            if fold(name) not in names:
                close = difflib.get_close_matches(fold(name), names, n=1)
                problems.append(
                    _("data.map.{key} names {name!r}, but {file} has {columns}").format(
                        key=key, name=name, file=file, columns=_listed(names.values()) or _("no columns")
                    )
                    + (_("; did you mean {name!r}?").format(name=names[close[0]]) if close else "")
                )
    if problems:
        fix = _("correct data.map in the recipe: each is a column's name, or a text with {columns} in braces")
        raise DataError("\n".join(problems), fix=fix)
    settings = dict(_settings(columns))
    prompt, answer = _column(settings["prompt"], names), _column(settings["answer"], names)
    system = _column(settings["system"], names) if "system" in settings else _nothing
    optional = {fold(settings["system"])} & set(names) if "system" in settings else set()
    used = dict.fromkeys(fold(name) for setting in settings.values() for name in _names_in(setting, names))

    def turns(row: Row) -> list[Turn]:
        return [
            ("system", _text(system(row), "system")),
            *_side(prompt(row), "user", settings["prompt"]),
            *_side(answer(row), "assistant", settings["answer"]),
        ]

    return Shape("data.map", tuple(key for key in used if key not in optional), turns, tuple(optional))


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
            text = _text(row[fold(match[1])], match[1])
            if _is_blank(text):
                raise _Refused(EMPTY, _("{key!r} is empty").format(key=match[1]))
            return text

        return _BRACES.sub(cell, setting)

    return filled


# ── what the user is told ─────────────────────────────────────────────────────────────────────────────────────────────


def _names(values: Iterable[Any]) -> dict[str, str]:
    """Folded key → the key as it is written, of the rows that have keys."""
    found: dict[str, str] = {}
    for value in values:
        for key in value if isinstance(value, dict) else ():
            found.setdefault(fold(key), key.strip())
    return found


def _unused(shape: Shape, first: Sequence[tuple[Source, Any]], names: Mapping[str, str]) -> tuple[str, ...]:
    """Keys of the first rows, and of the messages in them, that no conversation will contain."""
    unused = [name for key, name in names.items() if key not in (*shape.needs, *shape.may_have)]
    within: dict[str, None] = {}
    for _source, value in first:
        lists = value.items() if isinstance(value, dict) else [("", value)]
        for key, items in lists:
            for message in items if isinstance(items, list) else ():
                if is_message(message):
                    within.update(dict.fromkeys(f"{key}[].{name}" for name in message if fold(name) not in _MESSAGE_KEYS))
    return (*unused, *within)


def _unknown_shape(source: Source, value: Any, names: Mapping[str, str]) -> DataError:
    if not names:
        return DataError(
            _("{place}: the rows are neither objects with keys nor lists of messages").format(place=source),
            fix=_("write each example as an object: {example}").format(example='{"prompt": "…", "completion": "…"}'),
        )
    what = _("{place}: the keys {keys} are of no known shape").format(place=source, keys=_listed(names.values()))
    texts = [key.strip() for key, item in value.items() if isinstance(item, str)] if isinstance(value, dict) else []
    if len(texts) < 2:
        known = ", ".join(" + ".join(shape.needs) for shape in SHAPES if shape.turns is not _preference)
        return DataError(what, fix=_("give each row a question and an answer; these keys are known: {keys}").format(keys=known))
    prompt, answer = (json.dumps(name, ensure_ascii=False) for name in texts[:2])  # a text of JSON is one of YAML
    fix = _(
        "say in the recipe which is the question and which the answer:\n  data:\n    map: {{prompt: {prompt}, answer: {answer}}}"
    )
    return DataError(what, fix=fix.format(prompt=prompt, answer=answer))


def _listed(keys: Iterable[str]) -> str:
    shown = [repr(key) for key in keys]
    if len(shown) > _KEYS_SHOWN:
        return ", ".join(shown[:_KEYS_SHOWN]) + _(" and {count} more").format(count=len(shown) - _KEYS_SHOWN)
    return ", ".join(shown)
