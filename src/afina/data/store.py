"""What the prepare stage leaves for the other stages, on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from afina.core.errors import DataError
from afina.core.files import write_atomic
from afina.core.translation import _
from afina.data.conversation import Conversation, Message, Source


def save_conversations(path: Path, conversations: Iterable[Conversation]) -> None:
    """One conversation a line: ``{"messages": [{"role", "content"}, …], "source": "file:line"}``. Whole or not at all."""
    write_atomic(path, "".join(_line(conversation) + "\n" for conversation in conversations))


def load_conversations(path: Path) -> list[Conversation]:
    """What ``save_conversations`` wrote. Raises DataError where the file is not there or was changed by hand."""
    try:
        # Not splitlines(): a text may contain U+2028 and its like.
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        what = _("there is no file {path}").format(path=path)
        raise DataError(what, fix=_("prepare the examples again: afina prepare")) from None
    found = []
    for number, line in enumerate(lines, start=1):
        if line:
            try:
                found.append(_conversation(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise DataError(
                    _("{path}:{line}: this is no conversation that afina wrote").format(path=path, line=number),
                    fix=_("delete the file and prepare the examples again: afina prepare"),
                ) from None
    return found


def _line(conversation: Conversation) -> str:
    messages = [{"role": message.role, "content": message.content} for message in conversation.messages]
    return json.dumps({"messages": messages, "source": str(conversation.source)}, ensure_ascii=False)


def _conversation(record: Any) -> Conversation:
    file, _colon, line = record["source"].rpartition(":")
    messages = tuple(Message(message["role"], message["content"]) for message in record["messages"])
    return Conversation(messages, Source(file, int(line)))
