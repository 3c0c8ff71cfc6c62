"""The stream from conversations read to rows on disk, batch by batch, so that memory does not grow with the data.

    read ─▶ batch ─▶ what an earlier run kept is cut out of its files, as records
                └──▶ the rest is worked on (``data/work.py``), here or in other processes
                                     └──▶ conversations.arrow, rows.arrow, traits.arrow, in the order of reading

What is written is the same whoever did the work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
from numpy.typing import NDArray

from afina.core.child import result_of
from afina.data.conversation import Conversation, Finding
from afina.data.duplicates import digest
from afina.data.findings import Findings
from afina.data.store import Portion, Store, Writer
from afina.data.work import Steps, Work, Worked, key_of
from afina.data.workers import Workers

BATCH = 1024  # conversations encoded at once
_WORTH_STARTING = BATCH  # new conversations beside known ones before processes are started to help: many may follow
_AHEAD = 2  # batches a process that are read before the first one is done


class Earlier:
    """What an earlier run kept: a conversation that was read to the letter the same is taken over with its rows."""

    def __init__(self, store: Store) -> None:
        self.store = store
        known = store.column("key").astype(np.uint64)
        self._order = np.argsort(known, kind="stable")
        self._keys = known[self._order]

    def find(self, keys: Sequence[int]) -> NDArray[np.int64]:
        """The number of the conversation that has each key, -1 where none has it."""
        if not len(self._keys):
            return _new(len(keys))
        wanted = np.array(keys, np.uint64)
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        return np.where(self._keys[places] == wanted, self._order[places], -1)


@dataclass(frozen=True)
class _Batch:
    """Conversations that were read together. ``numbers``: which of the earlier run each is, -1 where it is new.

    ``told``: what the reader found on the way to them; ``first``: how many were worked on before. ``doing`` where the new ones
    are worked on in another process.
    """

    talks: Sequence[Conversation]
    side: int
    told: Sequence[Finding]
    numbers: NDArray[np.int64]
    first: int
    doing: Future[Worked] | None = None

    @cached_property
    def new(self) -> list[Conversation]:
        return [talk for talk, number in zip(self.talks, self.numbers.tolist(), strict=True) if number < 0]

    def stretches(self) -> Iterator[tuple[int, int]]:
        """Starts and stops of conversations that are all new, or stand in the earlier run one behind the other."""
        numbers = self.numbers
        goes_on = np.where(numbers[1:] < 0, numbers[:-1] < 0, numbers[1:] == numbers[:-1] + 1) & (
            (numbers[1:] < 0) == (numbers[:-1] < 0)
        )
        borders = [0, *(np.flatnonzero(~goes_on) + 1).tolist(), len(numbers)]
        yield from pairwise(borders)


class Flow:
    """Takes in conversations and writes those that are kept; use ``with``. ``processes``: how many may help, 0 for none."""

    def __init__(
        self, steps: Steps, writer: Writer, findings: Findings, earlier: Earlier | None = None, processes: int = 0
    ) -> None:
        self._steps, self._writer, self._findings, self._earlier = steps, writer, findings, earlier
        self._work = Work(steps)
        self._processes = processes
        self._workers: Workers | None = None
        self._waiting: deque[_Batch] = deque()
        self._begun = 0
        self.worked = self.taken_over = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._workers is not None:
            self._workers.close()

    def take(self, items: Iterable[Conversation | Finding], side: int, on_progress: Callable[[int], None]) -> None:
        """Works through conversations, and notes what was found while they were read; ``on_progress`` hears how many are done."""
        talks: list[Conversation] = []
        told: list[Finding] = []
        for item in items:
            if isinstance(item, Finding):
                told.append(item)
                continue
            talks.append(_with_digest(item) if item.group else item)
            if len(talks) == BATCH:
                self._begin(talks, side, told)
                talks, told = [], []
                on_progress(self.worked + self.taken_over)
        self._begin(talks, side, told)
        while self._waiting:
            self._end()
        on_progress(self.worked + self.taken_over)

    def _begin(self, talks: Sequence[Conversation], side: int, told: Sequence[Finding]) -> None:
        """Lets the work on a batch begin, and ends that on earlier ones where enough are under way."""
        numbers = _new(len(talks))
        if self._earlier is not None and talks:
            numbers = self._earlier.find([key_of(talk, self._steps.fingerprint) for talk in talks])
        batch = _Batch(talks, side, told, numbers, self._begun)
        self._begun += len(batch.new)
        most = 0
        if batch.new and (workers := self._ready_workers()) is not None:
            batch = replace(batch, doing=workers.do(batch.new, batch.first, self._steps.renderer.shortcuts))
            most = _AHEAD * workers.count
        self._waiting.append(batch)
        while len(self._waiting) > most:
            self._end()

    def _ready_workers(self) -> Workers | None:
        """The processes that help, once there is enough to do and they have started."""
        if self._workers is None and self._processes and (self._earlier is None or self._begun > _WORTH_STARTING):
            self._workers = Workers(self._steps, self._processes)
        return self._workers if self._workers is not None and self._workers.ready else None

    def _end(self) -> None:
        """Writes the batch that was read first."""
        batch = self._waiting.popleft()
        self._findings.add(*batch.told)
        worked = self._worked(batch) if batch.new else None
        if worked is not None:
            self._findings.add(*worked.left_out)
        self._writer.write(self._portion(batch, worked), batch.side)
        self.worked += len(batch.new)
        self.taken_over += len(batch.talks) - len(batch.new)

    def _worked(self, batch: _Batch) -> Worked:
        """What became of the new ones; done again where another process took a shortcut that has failed in the meantime."""
        renderer = self._steps.renderer
        worked = result_of(batch.doing) if batch.doing is not None else None
        if worked is None or worked.before != renderer.shortcuts:
            worked = self._work.do(batch.new, batch.first)
        renderer.forgo(worked.after)
        return worked

    def _portion(self, batch: _Batch, worked: Worked | None) -> Portion:
        """What is kept of a batch, in its order; tells of what was found."""
        if worked is not None and len(batch.new) == len(batch.talks):
            self._findings.add(*(finding for _place, finding in worked.findings))
            return worked.portion
        parts, new = [], 0
        ends = np.concatenate([[0], np.cumsum(worked.counts)]) if worked is not None else None
        for start, stop in batch.stretches():
            if worked is not None and ends is not None and batch.numbers[start] < 0:
                parts.append(worked.portion.part(int(ends[new]), int(ends[new + stop - start])))
                places = range(new, new + stop - start)
                self._findings.add(*(finding for place, finding in worked.findings if place in places))
                new = places.stop
            elif self._earlier is not None and stop > start:
                sources = [talk.source for talk in batch.talks[start:stop]]
                number = int(batch.numbers[start])
                part = self._earlier.store.portion(number, number + stop - start)
                self._findings.add(*part.findings(sources))
                parts.append(part.told_at(sources, [talk.group for talk in batch.talks[start:stop]]))
        return Portion.joined(parts)


def _new(count: int) -> NDArray[np.int64]:
    return np.full(count, -1, np.int64)


def _with_digest(conversation: Conversation) -> Conversation:
    """The same with its group as a hash: what a group is called may be a person's name."""
    return replace(conversation, group=f"{digest(conversation.group):016x}")
