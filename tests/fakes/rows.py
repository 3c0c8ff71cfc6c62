"""Training rows from a mask, which is how a test writes them most plainly."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import groupby

from afina.data.conversation import Source
from afina.data.render import Row


def row_of(ids: Sequence[int], trained: Sequence[bool], source: Source) -> Row:
    """The row whose mask is ``trained``."""
    spans = []
    place = 0
    for on, run in groupby(trained):
        length = len(list(run))
        if on:
            spans.append((place, place + length))
        place += length
    return Row(array("i", ids), tuple(spans), source)
