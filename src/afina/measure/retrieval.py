"""How well a search finds what was expected: its results, best first, beside the names of what answers the question."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def recall_at(found: Sequence[str], expected: Collection[str], most: int) -> float:
    """Share of ``expected`` that stands among the first ``most`` of ``found``."""
    wanted = set(expected)
    if not wanted:
        raise ValueError("a question without anything expected has no recall")
    return len(wanted.intersection(found[:most])) / len(wanted)


def reciprocal_rank(found: Sequence[str], expected: Collection[str]) -> float:
    """1 where the first of ``found`` is expected, 1/2 where the second is the first such one …; 0 where none is.

    Its mean over questions is the MRR (Voorhees 1999).
    """
    return next((1 / rank for rank, name in enumerate(found, 1) if name in expected), 0.0)
