"""What an engine gives back for messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from afina.data.conversation import Message


@dataclass(frozen=True)
class Answer:
    """``ids`` are the generated tokens, the end-of-turn token included where the answer ended by itself (``stop``)."""

    text: str
    ids: tuple[int, ...]
    finish: Literal["stop", "length"]
    seconds: float


class Engine(Protocol):
    """Messages in, text out; greedy, so that the same question gets the same answer."""

    def answer(self, messages: Sequence[Message], max_new_tokens: int) -> Answer: ...
