"""What an engine gives back for messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Answer:
    """``ids`` are the generated tokens, the end-of-turn token included where the answer ended by itself (``stop``)."""

    text: str
    ids: tuple[int, ...]
    finish: Literal["stop", "length"]
    seconds: float
