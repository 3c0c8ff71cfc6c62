"""Which conversations are trained on, which choose the best checkpoint, and which only the comparison sees.

The side follows from a hash of what is asked and not from the place in the file, so another order of the rows changes nothing and
added rows move few. A group of conversations (those that ask the same, near duplicates, parts of one document or chat) is never
parted: what is asked in the test was not seen in training.
"""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from afina.core.errors import DataError
from afina.core.translation import _
from afina.recipe.recipe import Split

FEWEST_IN_TEST = 2  # an interval needs two

_HALF = Fraction(1, 2)


def split(keys: NDArray[np.uint64], groups: NDArray[np.int64], settings: Split) -> dict[str, NDArray[np.int64]]:
    """Numbers of the conversations in ``train``, ``val`` and ``test``, rising; exact shares where all are alone, else near ones.

    ``keys`` (conversations,): what is asked, hashed; ``groups`` (conversations,): equal numbers stay together. A side whose share
    is 0 gets none. Raises DataError where too little is left for a side.
    """
    total = len(keys)
    if not _is_enough(total, settings):
        raise DataError(
            _("{count} examples are too few for a split with val {val:g} and test {test:g}: {needed} are needed").format(
                count=total, val=settings.val, test=settings.test, needed=_needed(total, settings)
            ),
            fix=_("add examples, or hold out a larger share: --set data.split.val=0.2 --set data.split.test=0.3"),
        )
    val, test = _wanted(total, settings)
    names, members, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    ranks = np.full(len(names), np.iinfo(np.uint64).max, np.uint64)
    np.minimum.at(ranks, members, mixed(keys, settings.seed))  # a group's place does not depend on the order of its members
    order = np.argsort(ranks, kind="stable")
    in_test, rest = _take(order, sizes, test, FEWEST_IN_TEST) if settings.test else ([], list(order))
    in_val, _in_train = _take(rest, sizes, val, 1) if settings.val else ([], rest)
    side_of = np.zeros(len(names), np.int8)
    side_of[in_val], side_of[in_test] = 1, 2
    sides = {side: np.flatnonzero(side_of[members] == number) for number, side in enumerate(("train", "val", "test"))}
    too_few_in_test = settings.test and len(sides["test"]) < FEWEST_IN_TEST
    if not len(sides["train"]) or too_few_in_test or (settings.val and not len(sides["val"])):
        raise DataError(
            _("the {count} examples ask only {questions} different things: too few to part into train, val and test").format(
                count=total, questions=len(names)
            ),
            fix=_("add examples that ask something else; the same question never stands on two sides"),
        )
    return sides


def mixed(keys: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Keys in an order that looks random and depends on nothing but them and the seed (the finalizer of SplitMix64)."""
    with np.errstate(over="ignore"):
        values = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) & 0xFFFFFFFFFFFFFFFF)
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return values ^ (values >> np.uint64(31))


def _take(
    order: NDArray[np.int64] | list[int], sizes: NDArray[np.int64], wanted: int, fewest: int
) -> tuple[list[int], list[int]]:
    """Groups with together about ``wanted`` conversations and at least ``fewest``, and the groups that are left."""
    taken: list[int] = []
    left: list[int] = []
    count = 0
    for group in map(int, order):
        fits = count + sizes[group] <= wanted
        (taken if fits else left).append(group)
        count += int(sizes[group]) if fits else 0
    while count < wanted and left:
        smallest = min(left, key=sizes.__getitem__)
        if count >= fewest and count + sizes[smallest] - wanted >= wanted - count:
            break  # without it the number is nearer
        taken.append(smallest)
        left.remove(smallest)
        count += int(sizes[smallest])
    return taken, left


def _wanted(total: int, settings: Split) -> tuple[int, int]:
    """How many conversations val and test should have."""
    return math.floor(total * _exact(settings.val) + _HALF), math.floor(total * _exact(settings.test) + _HALF)


def _is_enough(total: int, settings: Split) -> bool:
    val, test = _wanted(total, settings)
    return (test >= FEWEST_IN_TEST or not settings.test) and (val >= 1 or not settings.val) and total - val - test >= 1


def _needed(total: int, settings: Split) -> int:
    """The smallest number of examples that is enough for these shares."""
    for_test = (FEWEST_IN_TEST - _HALF) / _exact(settings.test) if settings.test else 0
    for_val = _HALF / _exact(settings.val) if settings.val else 0
    start = max(total, math.ceil(for_test), math.ceil(for_val))
    return next(count for count in itertools.count(start) if _is_enough(count, settings))


def _exact(share: float) -> Fraction:
    """The share as it is written in the recipe: three tenths of 5 are 1.5, not a little less."""
    return Fraction(repr(share))
