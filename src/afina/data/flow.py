"""The stream from conversations read to rows on disk, batch by batch, so that memory does not grow with the data.

    read ─▶ clean ─▶ render ─▶ encode (in Rust, many at once) ─▶ prove ─▶ conversations.arrow, rows.arrow

Of each conversation that is kept only a few numbers stay in memory: what the checks of the whole set work on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from afina.data.clean.checks import Action
from afina.data.clean.language import language_of
from afina.data.clean.row import Cleaner
from afina.data.conversation import Conversation, Finding
from afina.data.duplicates import NUMBERS, digest, keys, signatures, words
from afina.data.findings import Findings
from afina.data.render import Draft, Limits, Rendered, Renderer
from afina.data.store import Kept, Store, Writer

BATCH = 1024  # conversations encoded at once


@dataclass(frozen=True)
class Traits:
    """What the checks of the whole set know of each kept conversation; all arrays are (conversations,) but ``signatures``."""

    whole: NDArray[np.uint64]
    prompt: NDArray[np.uint64]
    answer: NDArray[np.uint64]
    group: NDArray[np.uint64]  # 0: none
    source: NDArray[np.uint64]  # parts of one row have the same
    side: NDArray[np.int8]  # 0: given as examples, 1: as val, 2: as test
    signatures: NDArray[np.uint16]  # (conversations, NUMBERS)


@dataclass(frozen=True)
class Steps:
    """What is done to each conversation."""

    cleaner: Cleaner
    renderer: Renderer
    limits: Limits
    chosen: Mapping[str, Action]
    fingerprint: str  # of all of the above: what was done before under the same one need not be done again


class Earlier:
    """What an earlier run kept: a conversation that was read to the letter the same is taken over with its rows."""

    def __init__(self, store: Store) -> None:
        self._store = store
        known = store.column("key").astype(np.uint64)
        self._order = np.argsort(known, kind="stable")
        self._keys = known[self._order]

    def find(self, key: int, conversation: Conversation) -> Kept | None:
        place = int(np.searchsorted(self._keys, np.uint64(key)))
        if place == len(self._keys) or self._keys[place] != key:
            return None
        number = int(self._order[place])
        source = conversation.source
        rows = tuple(replace(self._store.row(row), source=source) for row in self._store.row_numbers(number))
        kept = replace(self._store.conversation(number), source=source, group=conversation.group)
        found = tuple(replace(finding, source=source) for finding in self._store.findings(number))
        return Kept(Rendered(kept, rows), key, self._store.language(number), found)


@dataclass(frozen=True)
class _Waiting:
    """A conversation between cleaning and writing; ``kept`` where an earlier run had it, else ``draft``."""

    key: int
    kept: Kept | None
    draft: Draft | None
    language: str = ""
    findings: tuple[Finding, ...] = ()


class Flow:
    """Takes in conversations and writes those that are kept; ``traits`` once all are in."""

    def __init__(self, steps: Steps, writer: Writer, findings: Findings, earlier: Earlier | None) -> None:
        self._steps, self._writer, self._findings, self._earlier = steps, writer, findings, earlier
        self._wants_languages = steps.chosen.get("rare-language") != "off"
        self._parts: list[tuple[NDArray[np.uint64], int, NDArray[np.uint16]]] = []
        self.worked = self.taken_over = 0

    def take(self, conversations: Iterable[Conversation], side: int, on_progress: Callable[[int], None]) -> None:
        """Works through conversations; ``on_progress`` hears how many were taken in so far."""
        batch: list[Conversation] = []
        for conversation in conversations:
            batch.append(_with_digest(conversation) if conversation.group else conversation)
            if len(batch) == BATCH:
                self._work(batch, side)
                batch = []
                on_progress(self.worked + self.taken_over)
        self._work(batch, side)
        on_progress(self.worked + self.taken_over)

    @cached_property
    def traits(self) -> Traits:
        """The numbers of all kept conversations, in the order of the store; asked for once all are in."""
        whole, prompt, answer, group, source = np.concatenate([part for part, _side, _matrix in self._parts]).T
        sides = np.repeat([side for _part, side, _matrix in self._parts], [len(part) for part, _side, _matrix in self._parts])
        matrix = np.concatenate([matrix for _part, _side, matrix in self._parts])
        self._parts.clear()
        return Traits(whole, prompt, answer, group, source, sides.astype(np.int8), matrix)

    def _work(self, batch: Sequence[Conversation], side: int) -> None:
        """Cleans, renders, encodes, proves and writes some conversations."""
        waiting = [ready for conversation in batch if (ready := self._prepared(conversation)) is not None]
        encoder = self._steps.renderer.encoder
        encoded = iter(encoder.encode([text for item in waiting if item.draft for text in item.draft.texts]))
        kept: list[Kept] = []
        for item in waiting:
            if item.kept is not None:
                kept.append(item.kept)
                self._findings.add(*item.kept.findings)
            elif item.draft is not None:
                steps = self._steps
                texts = [next(encoded) for _text in item.draft.rows]
                outcome = steps.renderer.finish(item.draft, texts, steps.limits, steps.chosen)
                found = (*item.findings, *outcome.findings)
                self._findings.add(*found)
                whole = len(outcome.rendered) == 1
                key, told = (item.key, found) if whole else (0, ())
                kept += [Kept(rendered, key, item.language, told) for rendered in outcome.rendered]
        self._writer.write(kept)
        self._remember(kept, side)

    def _prepared(self, conversation: Conversation) -> _Waiting | None:
        key = _key(conversation, self._steps.fingerprint)
        if self._earlier is not None and (kept := self._earlier.find(key, conversation)) is not None:
            self.taken_over += 1
            return _Waiting(key, kept, None)
        self.worked += 1
        cleaned, found = self._steps.cleaner.clean(conversation)
        if cleaned is None:
            self._findings.add(found[0])  # a row is left out once
            return None
        draft = self._steps.renderer.draft(cleaned, self._steps.limits, self._steps.chosen)
        if isinstance(draft, Finding):
            self._findings.add(*found, draft)
            return None
        language = language_of(cleaned.answer) if self._wants_languages else ""
        return _Waiting(key, None, draft, language, tuple(found))

    def _remember(self, kept: Sequence[Kept], side: int) -> None:
        talks = [one.rendered.conversation for one in kept]
        numbers = np.array([_numbers(talk) for talk in talks], np.uint64).reshape(len(talks), 5)
        matrix = signatures([words(talk.messages) for talk in talks]) if talks else _NONE
        self._parts.append((numbers, side, matrix))


_NONE = np.zeros((0, NUMBERS), np.uint16)


def _with_digest(conversation: Conversation) -> Conversation:
    """The same with its group as a hash: what a group is called may be a person's name."""
    return replace(conversation, group=f"{digest(conversation.group):016x}")


def _numbers(talk: Conversation) -> tuple[int, int, int, int, int]:
    found = keys(talk)
    return found.whole, found.prompt, found.answer, digest(talk.group) if talk.group else 0, digest(str(talk.source))


def _key(conversation: Conversation, fingerprint: str) -> int:
    """A hash of all that the work on a conversation depends on; never 0."""
    parts = [f"{m.role}\x1f{m.content}\x1f{m.calls or ''}\x1f{m.name}\x1f{m.trained}" for m in conversation.messages]
    return digest("\x1e".join((fingerprint, conversation.tools, *parts))) or 1
