"""Preference pairs: a prompt with a better and a worse answer, in the ways in which DPO files write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from afina.core.translation import _
from afina.data.conversation import Message, Preference, Source
from afina.data.read.marked import marked_messages
from afina.data.read.messages import in_order, is_message, read_messages
from afina.data.read.row import BROKEN_TOOLS, EMPTY, PREFERENCE, ROLE_ORDER, Refused, Row, is_blank, is_whole, text_of

ANSWERS = (("chosen", "rejected"), ("chosen_messages", "rejected_messages"), ("chosen_response", "rejected_response"))


def prefer(
    row: Row, better: str, worse: str, prompt: Callable[[Row], Sequence[Message]], source: Source, system: str | None
) -> Preference:
    """The pair of a row whose answers stand under ``better`` and ``worse``, and the prompt elsewhere or before each of them.

    Raises Refused where the two do not belong to one prompt, or are the same.
    """
    before = list(prompt(row))
    chosen, rejected = _turns(row[better], better), _turns(row[worse], worse)
    if chosen[:-1] != rejected[:-1]:
        reason = _("{better!r} and {worse!r} differ before their last message")
        raise Refused(PREFERENCE, reason.format(better=better, worse=worse))
    if chosen[-1].role != "assistant" or rejected[-1].role != "assistant":
        raise Refused(ROLE_ORDER, _("{better!r} or {worse!r} does not end with the assistant").format(better=better, worse=worse))
    if chosen[-1].calls or rejected[-1].calls or any(message.calls for message in (*before, *chosen)):
        raise Refused(BROKEN_TOOLS, _("a preference pair that calls tools: not supported yet"))
    messages = in_order(_joined(before, chosen[:-1]), system)
    if messages[-1].role != "user":
        raise Refused(ROLE_ORDER, _("the prompt of the pair does not end with the user"))
    for message, key in ((chosen[-1], better), (rejected[-1], worse)):
        if is_blank(message.content) or not is_whole(message.content):
            raise Refused(EMPTY, _("{key!r} has no text").format(key=key))
    if chosen[-1].content == rejected[-1].content:
        raise Refused(PREFERENCE, _("the better and the worse answer are the same"))
    return Preference(messages, chosen[-1].content, rejected[-1].content, source)


def _turns(value: Any, key: str) -> list[Message]:
    """An answer alone, or the whole conversation with it as the last message."""
    if isinstance(value, dict):
        return read_messages([value])
    if isinstance(value, list) and value and all(is_message(item) for item in value):
        return read_messages(value)
    text = text_of(value, key)
    return marked_messages(text) or [Message("assistant", text)]


def _joined(prompt: list[Message], within: list[Message]) -> list[Message]:
    """The prompt of the row and the messages before the answers; many files hold it in both places."""
    if within and prompt[-len(within) :] == within:
        return prompt
    if prompt and within[-len(prompt) :] == prompt:
        return within
    return [*prompt, *within]
