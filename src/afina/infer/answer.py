"""What an engine gives back for messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BATCH_ROWS = 64  # questions that a model in this process answers in one batch


@dataclass(frozen=True)
class Answer:
    """``ids`` are the generated tokens, the end-of-turn token included where the answer ended by itself (``stop``).

    A server elsewhere tells no ids but how many they are: ``counted``.
    """

    text: str
    ids: tuple[int, ...]
    finish: Literal["stop", "length"]
    seconds: float
    counted: int | None = None

    @property
    def tokens(self) -> int:
        return len(self.ids) if self.counted is None else self.counted
