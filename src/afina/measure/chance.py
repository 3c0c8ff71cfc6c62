"""How likely something is by chance alone: Student's t, and several claims at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVEL = 0.05  # how often one claim or more of several may be wrong


def student_tail(t: float, freedom: int) -> float:
    """The probability that Student's t with so many degrees of freedom lies above ``t``, by Abramowitz & Stegun 26.7.3
    and 26.7.4.
    """
    angle = math.atan(abs(t) / math.sqrt(freedom))
    is_even = freedom % 2 == 0
    term, total = (1.0 if is_even else math.cos(angle)), 0.0
    for number in range(1, freedom // 2 + 1):
        total += term
        step = (2 * number - 1) / (2 * number) if is_even else 2 * number / (2 * number + 1)
        term *= step * math.cos(angle) ** 2
    inside = math.sin(angle) * total if is_even else 2 / math.pi * (angle + math.sin(angle) * total)
    return (1 - math.copysign(inside, t)) / 2


def holm(chances: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which of several claims hold together, each with its probability by chance: a wrong one is among them in ``level`` of the
    cases at most, however the claims depend on each other (Holm 1979, "A simple sequentially rejective multiple test procedure").
    """
    order = sorted(range(len(chances)), key=chances.__getitem__)
    held = [False] * len(chances)
    for done, place in enumerate(order):
        if chances[place] > level / (len(chances) - done):
            break
        held[place] = True
    return held
