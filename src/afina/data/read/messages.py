"""From lists of messages, however their roles and texts are written, to the turns of a conversation in sound order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from afina.core.translation import _
from afina.data.conversation import Conversation, Message, Role, Source, ToolCall
from afina.data.read.row import (
    BROKEN_ROW,
    BROKEN_TOOLS,
    EMPTY,
    NO_ANSWER,
    NOT_TEXT,
    ROLE_ORDER,
    ROLES,
    SEVERAL_SYSTEMS,
    UNKNOWN_ROLE,
    Refused,
    fold,
    folded,
    is_blank,
    is_whole,
    place,
    text_of,
)
from afina.data.tools import BrokenToolsError, normalise_arguments, read_calls, tool_names

# What a message may have; other keys are told as not used.
MESSAGE_KEYS = (
    "role", "from", "content", "value", "weight", "loss_weight", "tool_calls", "function_call", "tool_call_id", "name", "id",
)  # fmt: skip
CALLING_ROLES = ("function_call", "tool_call", "tool_calls")  # whose text is a call (ShareGPT)
UNUSED_PARTS = ("reasoning", "thinking", "reasoning_content")  # a thought is learned only where it stands in the text itself
_CALL_PARTS = ("tool_call", "tool_calls", "function_call")
_ZERO = re.compile(r"-?0(\.0*)?")


def is_message(value: Any) -> bool:
    """Whether ``value`` is one turn of a conversation."""
    keys = {fold(str(key)) for key in value} if isinstance(value, dict) else set()
    return keys.issuperset(("role", "content")) or keys.issuperset(("from", "value"))


def read_messages(items: Sequence[Any]) -> list[Message]:
    """The messages of a list as they stand there. Raises Refused where one cannot be read."""
    messages: list[Message] = []
    names: dict[str, str] = {}  # id of a call → the tool's name
    for number, item in enumerate(items, start=1):
        if type(item) is dict and len(item) == 2:  # nearly all are so: nothing else to look for
            name, text = item.get("role"), item.get("content")
            if name is None:
                name, text = item.get("from"), item.get("value")
            if type(name) is str and type(text) is str and (role := _SPEAKERS.get(name)):
                messages.append(Message(role, text))
                continue
        messages.append(_message(item, number, names))
    return messages


_SPEAKERS: dict[str, Role] = {name: role for name, role in ROLES.items() if role != "tool"}


def _message(item: Any, number: int, names: dict[str, str]) -> Message:
    if not isinstance(item, dict):
        raise Refused(BROKEN_ROW, _("message {number} is not an object").format(number=number))
    parts = folded(item)
    name = parts["role"] if "role" in parts else parts.get("from")
    if not isinstance(name, str):
        raise Refused(BROKEN_ROW, _("message {number} has no role").format(number=number))
    spoken = fold(name)
    value = parts.get("content", parts.get("value"))
    if spoken in CALLING_ROLES:
        return Message("assistant", "", _calls(value, number), trained=not _is_untrained(parts))
    role = ROLES.get(spoken)
    if role is None:
        raise Refused(UNKNOWN_ROLE, _("message {number} has the role {role!r}").format(number=number, role=name))
    if role == "tool":
        return _result(parts, value, number, names)
    text, calls = _content(value, number)
    for key in ("tool_calls", "function_call"):
        if parts.get(key) not in (None, "", "[]", [], {}):
            calls = (*calls, *_calls(parts[key], number))
            _remember(parts[key], names)
    if calls and role != "assistant":
        reason = _("message {number} calls a tool, but it is the {role}'s")
        raise Refused(BROKEN_TOOLS, reason.format(number=number, role=role))
    return Message(role, text, calls, trained=role != "assistant" or not _is_untrained(parts))


def _is_untrained(parts: dict[str, Any]) -> bool:
    return any(_is_zero(parts[key]) for key in ("weight", "loss_weight") if key in parts)


def _is_zero(weight: Any) -> bool:
    """Whether a number, which the reader of JSON keeps as text, is zero."""
    if isinstance(weight, str):
        return _ZERO.fullmatch(weight) is not None
    return isinstance(weight, int | float) and weight == 0


# ── texts, and parts of texts ─────────────────────────────────────────────────────────────────────────────────────────


def side(value: Any, role: Role, key: str) -> list[Message]:
    """A prompt or an answer of a row: a text, or messages."""
    if type(value) is str:
        return [Message(role, value)]
    if isinstance(value, dict):
        return read_messages([value])
    if isinstance(value, list) and value and all(is_message(item) for item in value):
        return read_messages(value)
    return [Message(role, joined_text(value, key))]


def joined_text(value: Any, where: str | int) -> str:
    """A text, or a list of text parts as one."""
    if not isinstance(value, list):
        return text_of(value, where)
    text, calls = _content(value, where)
    if calls:
        raise Refused(BROKEN_TOOLS, _("{where} calls a tool where a text should stand").format(where=place(where)))
    return text


def _content(value: Any, where: str | int) -> tuple[str, tuple[ToolCall, ...]]:
    """The text of a message and the calls among its parts."""
    if not isinstance(value, list):
        return text_of(value, where), ()
    texts: list[str] = []
    calls: tuple[ToolCall, ...] = ()
    for part in value:
        parts = folded(part) if isinstance(part, dict) else {}
        kind = parts.get("type", "text")
        text = parts.get("text", parts.get("value"))
        if kind in UNUSED_PARTS:
            continue
        if kind in _CALL_PARTS and text is not None:
            calls = (*calls, *_calls(text, where))
        elif kind != "text":
            reason = _("{where} has a part of type {kind!r}: not supported yet").format(where=place(where), kind=kind)
            raise Refused(BROKEN_TOOLS if str(kind).startswith("tool") else NOT_TEXT, reason)
        elif isinstance(text, str):
            texts.append(text)
        else:
            raise Refused(BROKEN_ROW, _("{where} has a part without text").format(where=place(where)))
    return "".join(texts), calls


# ── tools ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _calls(value: Any, where: str | int) -> tuple[ToolCall, ...]:
    try:
        return read_calls(value)
    except BrokenToolsError as error:
        reason = _("{where} calls a tool in a way that cannot be read: {reason}")
        raise Refused(BROKEN_TOOLS, reason.format(where=place(where), reason=error.reason)) from None


def _remember(value: Any, names: dict[str, str]) -> None:
    """Keep the names of calls that have an id: their results have it too."""
    for call in value if isinstance(value, list) else [value]:
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(call.get("id"), str):
            names[call["id"]] = str(function.get("name"))


def _result(parts: dict[str, Any], value: Any, number: int, names: dict[str, str]) -> Message:
    """What a tool gave back: its text, or an object as JSON."""
    key = parts.get("tool_call_id")
    if key is not None and names and str(key) not in names:
        reason = _("message {number} is the result of a call that nobody made").format(number=number)
        raise Refused(BROKEN_TOOLS, reason)
    name = names.get(str(key)) or parts.get("name") or ""
    if isinstance(value, dict):
        try:
            return Message("tool", normalise_arguments(value), name=str(name))
        except BrokenToolsError as error:
            raise Refused(BROKEN_TOOLS, f"{place(number)}: {error.reason}") from None
    return Message("tool", joined_text(value, number), name=str(name))


def _with_names(messages: Sequence[Message]) -> list[Message]:
    """The same messages; results without a name get that of their call where each call has its result."""
    named = list(messages)
    for start, message in enumerate(messages):
        end = start + 1
        while message.calls and end < len(messages) and messages[end].role == "tool":
            end += 1
        if message.calls and end - start - 1 == len(message.calls):
            for index, call in enumerate(message.calls, start=start + 1):
                if not named[index].name:
                    named[index] = replace(named[index], name=call.name)
    return named


# ── the order of turns ────────────────────────────────────────────────────────────────────────────────────────────────


def conversation(
    messages: Sequence[Message], source: Source, system: str | None, tools: str = "", group: str = ""
) -> Conversation:
    """A conversation that can be learned from. ``system`` is put in front where there is no system message.

    Raises Refused where the order of roles is broken, a text is missing, or no answer is left to learn.
    """
    ordered = in_order(messages, system, tools)
    if ordered[-1].role != "assistant":
        if ordered[-1].role == "tool":
            raise Refused(NO_ANSWER, _("the last message is a tool's: there is no answer to learn"))
        raise Refused(NO_ANSWER, _("the last message is the user's: there is no answer to learn"))
    for message in ordered:
        if message.trained and message.role == "assistant":
            return Conversation(ordered, source, tools, group)
    raise Refused(NO_ANSWER, _("all answers have weight 0: there is nothing to learn"))


def in_order(messages: Sequence[Message], system: str | None, tools: str = "") -> tuple[Message, ...]:
    """The messages without a blank system message, with the recipe's one where they have none; whoever is the last.

    Raises Refused where the order of roles is broken, a text is missing, or calls and results do not fit together.
    """
    spoken = [message for message in messages if message.role != "system" or not is_blank(message.content)]
    first = 1 if spoken and spoken[0].role == "system" else 0
    if len(spoken) == first:
        raise Refused(EMPTY, _("there is no user turn"))
    before: Role = "assistant"
    waiting = 0  # calls whose results have not come
    called = False
    for number, message in enumerate(spoken, start=1):
        role, text = message.role, message.content
        if not text.isascii() and not is_whole(text):
            reason = _("message {number} ({role}) has half of a surrogate pair, which is no character")
            raise Refused(BROKEN_ROW, reason.format(number=number, role=role))
        if role == "system":
            if number > 1:
                raise _wrong_system(spoken)
            continue
        if role == "tool":
            if before == "user" or not waiting:
                reason = _("message {number} is a tool's, but no call stands before it that waits for a result")
                raise Refused(BROKEN_TOOLS, reason.format(number=number))
            waiting -= 1
        elif role == before or (before == "assistant" and waiting) or (before == "tool" and role == "user"):
            raise _wrong_turn(role, before, number, first, waiting)
        elif message.calls:
            waiting, called = len(message.calls), True
        elif is_blank(text):
            raise Refused(EMPTY, _("message {number} ({role}) has no text").format(number=number, role=role))
        before = role
    if called:
        _refuse_unknown_tools(spoken, tools)
        spoken = _with_names(spoken)
    if system and not first:
        spoken.insert(0, Message("system", system))
    return tuple(spoken)


def _wrong_system(spoken: Sequence[Message]) -> Refused:
    places = [number for number, message in enumerate(spoken, start=1) if message.role == "system"]
    if len(places) > 1:
        return Refused(SEVERAL_SYSTEMS, _("{count} system messages; there can be one").format(count=len(places)))
    return Refused(ROLE_ORDER, _("message {number} is the system message; it must be the first").format(number=places[0]))


def _wrong_turn(role: Role, before: Role, number: int, first: int, waiting: int) -> Refused:
    if number == first + 1:
        return Refused(ROLE_ORDER, _("the conversation begins with the assistant; it must begin with the user"))
    if before == "assistant" and waiting:
        reason = _("message {number} calls a tool, and no result follows").format(number=number - 1)
        return Refused(BROKEN_TOOLS, reason)
    if before == "tool" and role == "user":
        reason = _("message {number} is the user's, but the assistant has not answered the tool's result before it")
        return Refused(ROLE_ORDER, reason.format(number=number))
    reason = _("messages {before} and {number} are both the {role}'s").format(before=number - 1, number=number, role=role)
    return Refused(ROLE_ORDER, reason)


def _refuse_unknown_tools(spoken: Sequence[Message], tools: str) -> None:
    offered = tool_names(tools)
    for number, message in enumerate(spoken, start=1):
        for call in message.calls:
            if not is_whole(call.arguments):
                reason = _("message {number} ({role}) has half of a surrogate pair, which is no character")
                raise Refused(BROKEN_ROW, reason.format(number=number, role=message.role))
            if not offered:
                reason = _("message {number} calls the tool {name!r}, but the row offers no tools")
                raise Refused(BROKEN_TOOLS, reason.format(number=number, name=call.name))
            if call.name not in offered:
                reason = _("message {number} calls the tool {name!r}; on offer are {names}")
                names = ", ".join(map(repr, sorted(offered)))
                raise Refused(BROKEN_TOOLS, reason.format(number=number, name=call.name, names=names))
