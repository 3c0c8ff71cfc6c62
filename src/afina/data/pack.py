"""Rows to steps and micro-batches, by tokens and without padding.

A step is a number of whole rows with at least ``batch_tokens`` tokens. It is computed in micro-batches of at most
``micro_tokens``: rows laid end to end, positions starting anew with each, so that a row computes what it would compute alone.

    rows  [a a a] [b b] [c c c c]          micro-batch  ids        a a a b b c c c c
                                                        positions  0 1 2 0 1 0 1 2 3
                                                        starts     0     3   5       9
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from afina.data.render import Row


@dataclass(frozen=True)
class Packed:
    """A micro-batch. ``ids``, ``positions`` (T,); ``starts`` (rows + 1,), the last one T; ``inputs`` (N,) the places that predict
    a trained token, ``targets`` (N,) those tokens."""

    rows: tuple[Row, ...]
    ids: list[int]
    positions: list[int]
    starts: list[int]
    inputs: list[int]
    targets: list[int]


def pack(rows: Sequence[Row]) -> Packed:
    """Rows laid end to end. What follows a row's last trained token is left out: nothing depends on it."""
    ids: list[int] = []
    positions: list[int] = []
    starts = [0]
    inputs: list[int] = []
    targets: list[int] = []
    for row in rows:
        length = row.spans[-1][1]
        offset = len(ids)
        for start, stop in row.spans:
            inputs.extend(range(offset + max(start, 1) - 1, offset + stop - 1))
            targets.extend(row.ids[max(start, 1) : stop])
        ids.extend(row.ids[:length])
        positions.extend(range(length))
        starts.append(len(ids))
    return Packed(tuple(rows), ids, positions, starts, inputs, targets)


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


def micro_batches(rows: Sequence[Row], micro_tokens: int) -> list[Packed]:
    """The rows in as few micro-batches as first-fit finds, longest first; a row longer than ``micro_tokens`` has one of its
    own.
    """
    bins: list[list[Row]] = []
    free: list[int] = []
    for row in sorted(rows, key=lambda row: len(row.ids), reverse=True):
        length = len(row.ids)
        place = next((number for number, room in enumerate(free) if room >= length), None)
        if place is None:
            bins.append([row])
            free.append(micro_tokens - length)
        else:
            bins[place].append(row)
            free[place] -= length
    return [pack(content) for content in bins]
