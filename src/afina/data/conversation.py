"""The one shape of data: a conversation, where it was read, and what was found in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "tool"]
Done = Literal["kept", "changed", "dropped"]


@dataclass(frozen=True, order=True)
class Source:
    """A place in a file of examples; ``line`` counts from 1.

    ``file`` is the path as the user gave it, and what lies inside it where it holds several: ``faq.xlsx[Sheet1]``,
    ``chats.zip/2024.txt``.
    """

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class ToolCall:
    """The assistant asks for a tool. ``arguments`` is a JSON object as text, its keys in the order of the example."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Message:
    """One turn. ``calls`` only of the assistant, whose ``content`` may then be empty; ``name`` only of a tool's result.

    ``trained`` is False for an answer that is context and not to be learned (``weight: 0`` in OpenAI's files).
    """

    role: Role
    content: str
    calls: tuple[ToolCall, ...] = ()
    name: str = ""
    trained: bool = True


@dataclass(frozen=True)
class Conversation:
    """Messages in the order: at most one system message, then user and assistant in turn, an assistant last.

    Between an assistant's calls and its next message stand the tools' results. ``tools`` is the JSON list of the tools on offer,
    normalised (``data/tools.py``), or ``""``. Conversations of one ``group`` are never parted by the split; ``""``: no group.
    ``kind`` and ``rating`` are what the row says of itself in columns of these names, for the comparison; ``""``: nothing.
    """

    messages: tuple[Message, ...]
    source: Source
    tools: str = ""
    group: str = ""
    kind: str = ""
    rating: str = ""

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All but the last answer: what a contender is asked."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True)
class Preference:
    """A prompt with a better and a worse answer. Kept for a later kind of training; nothing trains on it now."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: Source


@dataclass(frozen=True)
class Finding:
    """What a check found in one row: where, which check (``too-long``), the reason in a line, and what was done about it.

    ``reason`` and ``excerpt`` never show personal data or secrets in full.
    """

    source: Source
    check: str
    reason: str
    done: Done = "dropped"
    excerpt: str = ""


def as_dict(message: Message) -> dict[str, Any]:
    """A message as templates and servers of OpenAI's form expect it."""
    row: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        row["tool_calls"] = [
            {"type": "function", "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            for call in message.calls
        ]
    if message.name:
        row["name"] = message.name
    return row
