"""Several claims at once, each with its probability by chance alone."""

from __future__ import annotations

from collections.abc import Sequence

LEVEL = 0.05  # how often one claim or more of several may be wrong


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
