"""Pace: how many steps a small training has. No torch: an advice reads it too."""

from __future__ import annotations

FEWEST_STEPS = 10  # with fewer, an adapter has hardly moved
PILOT_SECONDS = 180.0  # of a pilot's training, where ``pilot.steps`` is auto


def steps_within(seconds: float, seconds_a_step: float, most: int, wished: int | None) -> int:
    """``wished`` steps, else as many as are done in so many seconds, from FEWEST_STEPS to ``most``."""
    return wished or min(most, max(FEWEST_STEPS, round(seconds / seconds_a_step)))
