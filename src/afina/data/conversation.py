"""The one shape of data: a conversation, and where it was read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, order=True)
class Source:
    """A place in a file of examples; ``line`` counts from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True)
class Conversation:
    """Messages in the order: at most one system message, then user and assistant in turn, an assistant last."""

    messages: tuple[Message, ...]
    source: Source

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All but the last answer: what a contender is asked."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True)
class Refusal:
    """A row that is not used: where, which check refused it (``too-long``), and the reason in a line."""

    source: Source
    check: str
    reason: str
