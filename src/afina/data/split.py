"""Which conversations are trained on, which choose the best checkpoint, and which only the comparison sees.

The side follows from a hash of what is asked and not from the place in the file, so another order of the rows changes nothing and
added rows move few. Conversations that ask the same (but for case and blanks) are never parted: what is asked in the test was not
seen in training.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from fractions import Fraction

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Conversation, Message
from afina.recipe.recipe import Split

FEWEST_IN_TEST = 2  # an interval needs two

_HALF = Fraction(1, 2)

_Group = list[int]  # places of the conversations that ask the same


def split(conversations: Sequence[Conversation], settings: Split) -> dict[str, list[Conversation]]:
    """``train``, ``val`` and ``test``, each in the given order; exact shares where all prompts differ, else near ones.

    Raises DataError where too little is left for a side.
    """
    total = len(conversations)
    if not _is_enough(total, settings):
        raise DataError(
            _("{count} examples are too few for a split with val {val:g} and test {test:g}: {needed} are needed").format(
                count=total, val=settings.val, test=settings.test, needed=_needed(total, settings)
            ),
            fix=_("add examples, or hold out a larger share: --set data.split.val=0.2 --set data.split.test=0.3"),
        )
    val, test = _wanted(total, settings)
    groups = _groups(conversations, settings.seed)
    in_test, rest = _take(groups, test, FEWEST_IN_TEST)
    in_val, in_train = _take(rest, val, 1) if settings.val else ([], rest)
    sides = {"train": in_train, "val": in_val, "test": in_test}
    sizes = {side: sum(map(len, chosen)) for side, chosen in sides.items()}
    if not sizes["train"] or sizes["test"] < FEWEST_IN_TEST or (settings.val and not sizes["val"]):
        raise DataError(
            _("the {count} examples ask only {questions} different things: too few to part into train, val and test").format(
                count=total, questions=len(groups)
            ),
            fix=_("add examples that ask something else; the same question never stands on two sides"),
        )
    return {side: [conversations[place] for place in sorted(itertools.chain(*chosen))] for side, chosen in sides.items()}


def rank(messages: Sequence[Message], seed: int, purpose: str) -> str:
    """A place in an order that looks random and depends on nothing but the folded text, the seed and the purpose."""
    folded = [[message.role, " ".join(message.content.casefold().split())] for message in messages]
    return hashlib.sha256(f"{purpose} {seed} {json.dumps(folded)}".encode()).hexdigest()


def _groups(conversations: Sequence[Conversation], seed: int) -> list[_Group]:
    """The places of the conversations with the same prompt, in the order of their hashes."""
    groups: dict[str, _Group] = {}
    for place, conversation in enumerate(conversations):
        groups.setdefault(rank(conversation.prompt, seed, "split"), []).append(place)
    return [groups[key] for key in sorted(groups)]


def _take(groups: Sequence[_Group], wanted: int, fewest: int) -> tuple[list[_Group], list[_Group]]:
    """Groups with together about ``wanted`` places and at least ``fewest``, and the groups that are left."""
    taken: list[_Group] = []
    left: list[_Group] = []
    count = 0
    for group in groups:
        fits = count + len(group) <= wanted
        (taken if fits else left).append(group)
        count += len(group) if fits else 0
    while count < wanted and left:
        smallest = min(left, key=len)
        if count >= fewest and count + len(smallest) - wanted >= wanted - count:
            break  # without it the number is nearer
        taken.append(smallest)
        left = [group for group in left if group is not smallest]
        count += len(smallest)
    return taken, left


def _wanted(total: int, settings: Split) -> tuple[int, int]:
    """How many conversations val and test should have."""
    return math.floor(total * _exact(settings.val) + _HALF), math.floor(total * _exact(settings.test) + _HALF)


def _is_enough(total: int, settings: Split) -> bool:
    val, test = _wanted(total, settings)
    return test >= FEWEST_IN_TEST and (val >= 1 or not settings.val) and total - val - test >= 1


def _needed(total: int, settings: Split) -> int:
    """The smallest number of examples that is enough for these shares."""
    for_test = (FEWEST_IN_TEST - _HALF) / _exact(settings.test)
    for_val = _HALF / _exact(settings.val) if settings.val else 0
    start = max(total, math.ceil(for_test), math.ceil(for_val))
    return next(count for count in itertools.count(start) if _is_enough(count, settings))


def _exact(share: float) -> Fraction:
    """The share as it is written in the recipe: three tenths of 5 are 1.5, not a little less."""
    return Fraction(repr(share))
