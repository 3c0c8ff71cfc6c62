"""Rows to steps and micro-batches, by tokens and without padding.

A step is a number of whole rows with at least ``batch_tokens`` tokens. It is computed in micro-batches of at most
``micro_tokens``: rows laid end to end, positions starting anew with each, so that a row computes what it would compute alone.
What all rows of a micro-batch begin with (the system message, as a rule) is there once, before them:

    rows  [s s a a] [s s b] [s s c c c]    micro-batch  ids        s s a a b c c c
                                                        positions  0 1 2 3 2 2 3 4
                                                        starts         2   4 5     8      shared  2
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from afina.data.render import Row
from afina.recipe.recipe import Train

SHORTEST_SHARED = 8  # tokens; what fewer would save is lost again in looking them up


@dataclass(frozen=True)
class Packed:
    """A micro-batch. ``ids``, ``positions`` (T,); the first ``shared`` of them belong to every row; ``starts`` (rows + 1,) where
    the rows' own parts begin, the last one T; ``inputs`` (N,) the places that predict a trained token, ``targets`` (N,) those
    tokens."""

    rows: tuple[Row, ...]
    ids: list[int]
    positions: list[int]
    shared: int
    starts: list[int]
    inputs: list[int]
    targets: list[int]


def pack(rows: Sequence[Row], *, share: bool = True) -> Packed:
    """Rows laid end to end. What follows a row's last trained token is left out: nothing depends on it."""
    shared = shared_tokens(rows) if share else 0
    ids: list[int] = list(rows[0].ids[:shared])
    positions: list[int] = list(range(shared))
    starts = [shared]
    inputs: list[int] = []
    targets: list[int] = []
    for row in rows:
        length = row.spans[-1][1]
        offset = len(ids) - shared
        for start, stop in row.spans:
            first = max(start, 1)
            # the place before the row's own part is the last of the shared ones
            inputs.extend(offset + place if place >= shared else place for place in range(first - 1, stop - 1))
            targets.extend(row.ids[first:stop])
        ids.extend(row.ids[shared:length])
        positions.extend(range(shared, length))
        starts.append(len(ids))
    return Packed(tuple(rows), ids, positions, shared, starts, inputs, targets)


def shared_tokens(rows: Sequence[Row]) -> int:
    """How many tokens, none of them trained, all ``rows`` begin with; 0 where sharing them is not worth it."""
    if len(rows) < 2:
        return 0
    untrained = min(row.spans[0][0] for row in rows)
    alike = sum(1 for _tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*(row.ids[:untrained] for row in rows))))
    return alike if alike >= SHORTEST_SHARED else 0


def epoch_steps(rows: Sequence[Row], batch_tokens: int, seed: int, epoch: int) -> list[list[Row]]:
    """The rows of each step of one epoch: every row once, in an order that (seed, epoch) decides."""
    order = list(range(len(rows)))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    steps: list[list[Row]] = []
    tokens = batch_tokens
    for number in order:
        if tokens >= batch_tokens:
            steps.append([])
            tokens = 0
        steps[-1].append(rows[number])
        tokens += len(rows[number].ids)
    return steps


def planned_steps(rows: Sequence[Row], settings: Train) -> list[list[Row]]:
    """The rows of every step of the run, in order. The last epoch may be a part of one."""
    steps: list[list[Row]] = []
    for epoch in range(math.ceil(settings.epochs)):
        of_epoch = epoch_steps(rows, settings.batch_tokens, settings.seed, epoch)
        share = min(1.0, settings.epochs - epoch)
        steps += of_epoch[: max(1, round(len(of_epoch) * share))]
    return steps[: settings.max_steps]


def micro_batches(rows: Sequence[Row], micro_tokens: int, *, share: bool = True, multiple: int = 1) -> list[Packed]:
    """The rows in the fewest micro-batches in which longest-first finds room, of nearly the same size; a row longer than
    ``micro_tokens`` has one of its own. Their number is a ``multiple`` where there are rows enough.
    """
    shared = shared_tokens(rows) if share else 0
    lengths = [row.spans[-1][1] - shared for row in rows]
    order = sorted(range(len(rows)), key=lambda number: lengths[number], reverse=True)
    room = micro_tokens - shared
    alone = [number for number in order if lengths[number] > room]
    others = order[len(alone) :]
    count = -(-sum(lengths[number] for number in others) // max(1, room))
    while (bins := _balanced(others, lengths, count, room)) is None or ((len(alone) + count) % multiple and count < len(others)):
        count += 1
    return [pack([rows[number] for number in content], share=share) for content in ([[number] for number in alone] + bins)]


def _balanced(order: Sequence[int], lengths: Sequence[int], count: int, room: int) -> list[list[int]] | None:
    """Each in turn into the emptiest of ``count`` bins; None where one of them overflows."""
    bins: list[list[int]] = [[] for _number in range(count)]
    filled = [0] * count
    for number in order:
        place = filled.index(min(filled))
        bins[place].append(number)
        filled[place] += lengths[number]
        if filled[place] > room:
            return None
    return bins
