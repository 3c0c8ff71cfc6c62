"""The checks of the whole set: duplicates, leaks, contradictions, lengths, languages, balance, and whether it is enough.

They work on a few numbers of each conversation (``store.Traits``) and decide which are left out; texts are read again only for
the rows that are told of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import format_share
from afina.data.clean.checks import Action
from afina.data.conversation import Done, Finding
from afina.data.duplicates import SIMILAR, Groups, jaccard, similar_pairs, words
from afina.data.enough import FEW, FEWEST, GOOD, MANY
from afina.data.split import mixed
from afina.data.store import SIDES, Store, Traits

_LIMIT_STEP = 64  # an automatic limit is rounded up to a multiple of this
_FAR = 5.0  # robust standard deviations of the logarithm of the length from which on a row is an outlier,
_FAR_TIMES = 8.0  # and so many times longer or shorter than the median it must be besides
_FEWEST_FOR_SHARES = 30  # fewer rows have no median or shares worth the name
_RARE = 0.02  # share below which a language is rare
_MOST_COMPARED = 200_000  # pairs that look alike and are compared word by word, the most alike first
_COUNTED = 2000  # rows whose words are counted,
_COMMON, _COMMON_AT_LEAST = 0.2, 5  # and the share, and number, of them from which on a word is common
_HEAVY = 0.5  # share from which on one answer outweighs all others


@dataclass(frozen=True)
class Pair:
    """Two conversations by their numbers, and how alike they are; the second is the one that is told of."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True)
class Leaked:
    """Of ``all`` rows of a given side, how many are asked, or nearly so, in rows to learn from; ``same``: to the letter."""

    side: str
    rows: int
    same: int
    all: int


@dataclass(frozen=True)
class Limits:
    """``max_tokens``: the recipe's, None for auto; ``context``: what the base can hold; ``examples``: data.limit."""

    max_tokens: int | None
    context: int
    keeps_long: bool
    examples: int | None
    seed: int


@dataclass(frozen=True)
class Survey:
    """What is left of the set. ``dropped`` (conversations,); ``groups`` (conversations,): equal numbers stay together.

    ``over_limit``: how many ``data.limit`` leaves out, for which there are no findings.
    """

    dropped: NDArray[np.bool_]
    groups: NDArray[np.int64]
    findings: tuple[Finding, ...]
    duplicates: tuple[Pair, ...]
    contradictions: tuple[Pair, ...]
    leaks: tuple[Pair, ...]
    leaked: tuple[Leaked, ...]
    languages: tuple[tuple[str, int], ...]
    max_tokens: int
    over_limit: int

    def left(self) -> NDArray[np.int64]:
        return np.flatnonzero(~self.dropped)

    @property
    def dropped_rows(self) -> dict[str, int]:
        """Rows left out here, by the check that did it."""
        return Counter(
            {finding.source: finding.check for finding in reversed(self.findings) if finding.done == "dropped"}.values()
        )


def survey(traits: Traits, store: Store, chosen: Mapping[str, Action], limits: Limits) -> Survey:
    """Makes every check of the whole set, each on what the ones before it left. Raises DataError where a check says ``stop``."""
    work = _Work(traits, store, chosen)
    max_tokens = work.lengths(limits)
    pairs = work.alike()
    leaked = work.leaked(pairs)
    leaks = work.leaks(pairs)
    duplicates = work.duplicates()
    near = work.near_duplicates(pairs)
    contradictions = work.contradictions()
    languages = work.languages()
    over_limit = work.limit(limits)
    work.balance()
    work.enough()
    findings = work.findings()
    groups = Groups(len(store))
    groups.join_equal(traits.prompt)
    grouped = np.flatnonzero(traits.group)
    _join_equal_of(groups, grouped, traits.group[grouped])
    for pair in pairs:
        groups.join(pair.first, pair.second)
    return Survey(
        work.dropped,
        groups.numbers(),
        findings,
        (*near, *duplicates),
        contradictions,
        leaks,
        leaked,
        languages,
        max_tokens,
        over_limit,
    )


def longest_allowed(tokens: NDArray[np.int64], context: int) -> int:
    """What ``max_tokens: auto`` stands for: the longest row, unless it is more than twice as long as what 99.5 % of the rows
    need; then that. Rounded up, and never more than ``context``.
    """
    if not len(tokens):
        return context
    most, longest = int(np.quantile(tokens, 0.995, method="higher")), int(tokens.max())
    wanted = longest if longest <= 2 * most else most
    return min(context, -(-wanted // _LIMIT_STEP) * _LIMIT_STEP)


def _join_equal_of(groups: Groups, numbers: NDArray[np.int64], values: NDArray[np.uint64]) -> None:
    order = np.argsort(values, kind="stable")
    for place in (np.flatnonzero(np.diff(values[order]) == 0) + 1).tolist():
        groups.join(int(numbers[order[place - 1]]), int(numbers[order[place]]))


def _telling(found: set[str], common: frozenset[str]) -> frozenset[str]:
    """The words without the common ones; all of them where nothing else is left."""
    return frozenset(found - common or found)


class _Work:
    """A survey while it is made: what is dropped so far, and what was found."""

    def __init__(self, traits: Traits, store: Store, chosen: Mapping[str, Action]) -> None:
        self._traits, self._store, self._chosen = traits, store, chosen
        self.dropped = np.zeros(len(store), np.bool_)
        self.over_limit = np.zeros(len(store), np.bool_)  # of what is dropped
        self._found: list[tuple[int, Finding]] = []

    def lengths(self, limits: Limits) -> int:
        """Drops what is longer than the limit, tells of what is far from the others, and returns the limit."""
        tokens = self._store.lengths()
        longest = np.zeros(len(self._store), np.int64)
        np.maximum.at(longest, self._store.rows_of(), tokens)
        auto = limits.context if limits.keeps_long else longest_allowed(tokens, limits.context)
        limit = auto if limits.max_tokens is None else min(limits.max_tokens, limits.context)
        for number in np.flatnonzero(longest > limit).tolist():
            reason = _("{count} tokens; at most {limit} fit").format(count=int(longest[number]), limit=limit)
            self._tell(number, "too-long", reason, "drop")
        left = np.flatnonzero(~self.dropped)
        if self._chosen["length-outlier"] != "off" and len(left) >= _FEWEST_FOR_SHARES:
            logs = np.log(longest[left])
            middle = float(np.median(logs))
            away = np.abs(logs - middle)
            spread = 1.4826 * float(np.median(away))
            for number in left[(away > _FAR * spread) & (away > np.log(_FAR_TIMES))].tolist():
                reason = _("{count} tokens, where half of the rows have at most {median}").format(
                    count=int(longest[number]), median=round(np.exp(middle))
                )
                self._tell(number, "length-outlier", reason, self._chosen["length-outlier"])
        return limit

    def duplicates(self) -> tuple[Pair, ...]:
        """The same row again on the same side: the first one stays."""
        action = self._chosen["duplicate"]
        found = []
        if action != "off":
            for members in self._buckets(self._traits.whole):
                first_of: dict[int, int] = {}
                for number in members:
                    first = first_of.setdefault(int(self._traits.side[number]), number)
                    if first != number:
                        reason = _("the same as {place}").format(place=self._store.source(first))
                        self._tell(number, "duplicate", reason, action)
                        found.append(Pair(first, number, 1.0))
        return tuple(found)

    def alike(self) -> list[Pair]:
        """Pairs that are nearly the same, what is asked as well as the whole, without the words that many rows share.

        Rows of one form (the same instruction before each text, one of a few answers) share most of their words and are no
        duplicates for it.
        """
        pairs, scores = similar_pairs(self._traits.signatures)
        order = np.argsort(-scores, kind="stable")[:_MOST_COMPARED]
        if not len(order):
            return []
        common = self._common_words()

        def sets(number: int) -> tuple[frozenset[str], frozenset[str]]:
            talk = self._store.conversation(number)
            return _telling(words(talk.prompt), common), _telling(words(talk.messages), common)

        of_first = -1, sets(int(pairs[0, 0]))  # pairs come by their first one; more than its words need not be held
        found = []
        for first, second in pairs[np.sort(order)].tolist():
            if first != of_first[0]:
                of_first = first, sets(first)
            similarity = min(jaccard(one, other) for one, other in zip(of_first[1], sets(second), strict=True))
            if similarity >= SIMILAR:
                found.append(Pair(first, second, similarity))
        return found

    def _common_words(self) -> frozenset[str]:
        """Words that stand in many rows, counted in those with the lowest hashes: the same ones in whatever order they came."""
        chosen = np.argsort(mixed(self._traits.whole, 0), kind="stable")[:_COUNTED]
        counts = Counter(word for number in chosen.tolist() for word in words(self._store.conversation(number).messages))
        least = max(_COMMON * len(chosen), _COMMON_AT_LEAST)
        return frozenset(word for word, count in counts.items() if count >= least)

    def leaked(self, pairs: Sequence[Pair]) -> tuple[Leaked, ...]:
        """How many rows of the given sides stand in the training, before anything is dropped for it."""
        side, found = self._traits.side, []
        for number in (1, 2) if self._chosen["leak"] != "off" else ():
            held_out, learned = side == number, side == 0
            if not held_out.any():
                continue
            same = held_out & np.isin(self._traits.whole, self._traits.whole[learned])
            asked = held_out & np.isin(self._traits.prompt, self._traits.prompt[learned])
            for pair in pairs:
                for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
                    asked[one] |= bool(held_out[one] and learned[other])
            if asked.any():
                found.append(Leaked(SIDES[number], int(asked.sum()), int(same.sum()), int(held_out.sum())))
        return tuple(found)

    def leaks(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Rows of the training that stand, or nearly so, in files that were given to validate or to test with; likewise rows of
        the validation in the test.
        """
        action = self._chosen["leak"]
        side = self._traits.side
        found: dict[int, Pair] = {}
        if action == "off" or not side.any():
            return ()
        for members in self._buckets(self._traits.prompt):
            held_out = max(members, key=lambda number: int(side[number]))
            for number in members:
                if side[number] < side[held_out]:
                    found[number] = Pair(held_out, number, self._similarity(held_out, number))
        for pair in pairs:
            learned, held_out = sorted((pair.first, pair.second), key=lambda number: int(side[number]))
            if side[learned] < side[held_out] and not self.dropped[[learned, held_out]].any():
                found.setdefault(learned, Pair(held_out, learned, pair.similarity))
        if found and action == "stop":
            first = next(iter(found.values()))
            raise DataError(
                _("{count} rows to learn from stand in the files held out as well; the first is {place}, as in {other}").format(
                    count=len(found), place=self._store.source(first.second), other=self._store.source(first.first)
                ),
                fix=_("take them out, or let afina do it: --set data.checks.leak=drop"),
            )
        for number, pair in found.items():
            reason = _("asked in {side} as well: {place}").format(
                side=SIDES[side[pair.first]], place=self._store.source(pair.first)
            )
            self._tell(number, "leak", reason, action)
        return tuple(found.values())

    def near_duplicates(self, pairs: Sequence[Pair]) -> tuple[Pair, ...]:
        """Rows of one side that are nearly the same: each is told of once, with the first that it resembles."""
        action, traits = self._chosen["near-duplicate"], self._traits
        found: dict[int, Pair] = {}
        for pair in pairs if action != "off" else ():
            first, second = pair.first, pair.second
            if second in found or traits.side[first] != traits.side[second] or self.dropped[[first, second]].any():
                continue
            if traits.whole[first] == traits.whole[second] or self._same_row(first, second):
                continue  # the first are told of as duplicates
            found[second] = pair
            reason = _("{share} of its words are those of {place}").format(
                share=format_share(pair.similarity), place=self._store.source(first)
            )
            self._tell(second, "near-duplicate", reason, action)
        return tuple(found.values())

    def contradictions(self) -> tuple[Pair, ...]:
        """The same question with another answer; nobody knows which is right, so ``drop`` leaves out both."""
        action = self._chosen["contradiction"]
        found = []
        if action != "off":
            for members in self._buckets(self._traits.prompt):
                first = members[0]
                answers = self._traits.answer
                others = [n for n in members if answers[n] != answers[first] and not self._same_row(first, n)]
                for number in others:
                    found.append(Pair(first, number, self._similarity(first, number)))
                    reason = _("answers otherwise than {place}").format(place=self._store.source(first))
                    self._tell(number, "contradiction", reason, action)
                if others and action == "drop":
                    reason = _("answers otherwise than {place}").format(place=self._store.source(others[0]))
                    self._tell(first, "contradiction", reason, action)
        return tuple(found)

    def languages(self) -> tuple[tuple[str, int], ...]:
        """How many answers are in which language, the commonest first; tells of the rare ones."""
        action = self._chosen["rare-language"]
        if action == "off":
            return ()
        codes = self._store.words("language")
        left = np.flatnonzero(~self.dropped).tolist()
        counts = Counter(codes[number] for number in left)
        known = len(left) - counts[""]
        for number in left if known >= _FEWEST_FOR_SHARES else ():
            if codes[number] and counts[codes[number]] < _RARE * known:
                reason = _("its answer is in '{language}', as only {count} of {all} are").format(
                    language=codes[number], count=counts[codes[number]], all=known
                )
                self._tell(number, "rare-language", reason, action)
        return tuple(counts.most_common())

    def limit(self, limits: Limits) -> int:
        """Leaves out all but ``data.limit`` of the examples, chosen by their hashes."""
        left = np.flatnonzero(~self.dropped & (self._traits.side == 0))
        sources, members = np.unique(self._traits.source[left], return_inverse=True)
        if limits.examples is None or limits.examples >= len(sources):
            return 0
        ranks = np.full(len(sources), np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(ranks, members, mixed(self._traits.prompt[left] ^ self._traits.answer[left], limits.seed))
        beyond = np.argsort(ranks, kind="stable")[limits.examples :]
        self.over_limit[left[np.isin(members, beyond)]] = True
        self.dropped |= self.over_limit
        return len(beyond)

    def balance(self) -> None:
        """Tells of an answer that outweighs all others."""
        left = np.flatnonzero(~self.dropped)
        if self._chosen["unbalanced"] == "off" or len(left) < _FEWEST_FOR_SHARES:
            return
        _answers, places, counts = np.unique(self._traits.answer[left], return_index=True, return_counts=True)
        most = int(np.argmax(counts))
        if counts[most] >= _HEAVY * len(left):
            reason = _("its answer is that of {share} of all rows").format(share=format_share(counts[most] / len(left)))
            self._tell(int(left[places[most]]), "unbalanced", reason, "warn")

    def enough(self) -> None:
        """Tells of too few examples; ends the run where the recipe says ``stop``."""
        count, action = len(np.unique(self._traits.source[~self.dropped])), self._chosen["few-examples"]
        if action == "stop" and count < FEWEST:
            raise DataError(
                _("{count} examples are left, fewer than {fewest}: too few to learn a style or a form from").format(
                    count=count, fewest=FEWEST
                ),
                fix=_("add examples ({good} to {many} good ones are usually enough), or go on all the same: --force").format(
                    good=GOOD, many=MANY
                ),
            )
        if action != "off" and 0 < count < FEW:
            reason = _("{count} examples; fewer than about {few} speak against fine-tuning: try a good prompt first").format(
                count=count, few=FEW
            )
            self._tell(int(np.flatnonzero(~self.dropped)[0]), "few-examples", reason, "warn")

    def findings(self) -> tuple[Finding, ...]:
        """What was found. A row of which a part is left has not been left out but changed."""
        sources = self._traits.source
        left = np.isin(sources, sources[~self.dropped | self.over_limit])
        return tuple(
            replace(finding, done="changed") if finding.done == "dropped" and left[number] else finding
            for number, finding in self._found
        )

    def _tell(self, number: int, check: str, reason: str, action: Action) -> None:
        done: Done = "dropped" if action == "drop" else "kept"
        self._found.append((number, Finding(self._store.source(number), check, reason, done)))
        self.dropped[number] |= action == "drop"

    def _same_row(self, one: int, other: int) -> bool:
        """Whether both are parts of one row that was too long."""
        return bool(self._traits.source[one] == self._traits.source[other])

    def _buckets(self, values: NDArray[np.uint64]) -> Iterator[list[int]]:
        """The numbers of what is not dropped and has the same value as another, rising."""
        left = np.flatnonzero(~self.dropped)
        order = left[np.argsort(values[left], kind="stable")]
        borders = np.flatnonzero(np.diff(values[order])) + 1
        for start, stop in zip([0, *borders.tolist()], [*borders.tolist(), len(order)], strict=True):
            if stop - start > 1:
                yield order[start:stop].tolist()

    def _similarity(self, one: int, other: int) -> float:
        return jaccard(*(words(self._store.conversation(number).messages) for number in (one, other)))
