"""What the rows of a training ask for, in tokens. No torch: an advice reads it too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from afina.data.render import Row
from afina.recipe.recipe import Train


@dataclass(frozen=True)
class Rows:
    """What the data ask for: tokens of the longest row, of a step, and the largest share of trained ones in a row."""

    longest: int
    step: int
    trained_share: float


def sizes_of(rows: Iterable[Row], settings: Train) -> Rows:
    """The longest row, the tokens of a step, and the largest trained share of a row."""
    longest, share, total = 1, 0.0, 0
    for row in rows:
        length = row.spans[-1][1]
        longest, share, total = max(longest, length), max(share, row.trained_tokens / length), total + length
    return Rows(longest, min(total, settings.batch_tokens), share)


def usual_tokens(rows: Sequence[Row], settings: Train, most: int) -> int:
    """Tokens of a usual micro-batch of at most ``most``; a row that is longer has one of its own."""
    mean = sum(len(row.ids) for row in rows) // len(rows)
    return max(mean, min(settings.batch_tokens, most))
