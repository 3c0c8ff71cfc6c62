"""What the prepare stage leaves for the other stages: Arrow files that are mapped into memory and not read into it.

``conversations.arrow`` holds a record a conversation, ``rows.arrow`` a record a training row, ``traits.arrow`` the numbers by
which conversations are compared with each other, ``sides.safetensors`` which conversations are on which side of the split, as
their numbers (int64) in the order of reading.

Everything is written in portions: Arrow records that are made of conversations (``portion``), sent from one process to another,
or cut out of an earlier store (``Store.portion``), without being read one by one.
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from afina.core.errors import DataError
from afina.core.files import write_atomic
from afina.core.translation import _
from afina.data.conversation import Conversation, Finding, Message, Source, ToolCall
from afina.data.duplicates import NUMBERS, compared, digest, signatures
from afina.data.render import Rendered, Row

_ENCODER = json.JSONEncoder(ensure_ascii=False)

CONVERSATIONS, ROWS, TRAITS, SIDES_FILE = "conversations.arrow", "rows.arrow", "traits.arrow", "sides.safetensors"
SIDES = ("train", "val", "test")
_READS = 5_000  # each brings in 64 KiB around it, as Linux has it: about 300 MB

_TALKS = pa.schema(
    [
        ("messages", pa.string()),  # JSON: [{"role", "content"}, …]
        ("tools", pa.string()),
        ("group", pa.string()),
        ("about", pa.string()),  # JSON: [kind, rating], or ""
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("line", pa.int64()),
        ("key", pa.uint64()),  # of the conversation as it was read; what is found again by it need not be done again
        ("language", pa.dictionary(pa.int32(), pa.string())),
        ("findings", pa.string()),  # JSON: what was found and did not drop it
        ("first_row", pa.int64()),
        ("rows", pa.int32()),
    ]
)
_ROWS = pa.schema([("ids", pa.list_(pa.int32())), ("spans", pa.list_(pa.int32())), ("conversation", pa.int64())])
_HASHES = ("whole", "prompt", "answer", "group", "source")
_TRAITS = pa.schema(
    [*((name, pa.uint64()) for name in _HASHES), ("signature", pa.list_(pa.uint16(), NUMBERS)), ("side", pa.int8())]
)
# In a portion, texts are written out and what depends on the place in the store is absent.
_PORTION_TALKS = pa.schema(
    [
        pa.field(field.name, pa.string()) if pa.types.is_dictionary(field.type) else field
        for field in _TALKS
        if field.name != "first_row"
    ]
)
_PORTION_ROWS, _PORTION_TRAITS = _ROWS.remove(2), _TRAITS.remove(len(_TRAITS) - 1)


@dataclass(frozen=True)
class Kept:
    """A conversation that passed every check of its own, with what the stage keeps beside it."""

    rendered: Rendered
    key: int
    language: str
    findings: tuple[Finding, ...]


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
class Portion:
    """Some kept conversations as Arrow records: ``talks`` and ``traits`` one a conversation, ``rows`` one a training row."""

    talks: pa.RecordBatch
    rows: pa.RecordBatch
    traits: pa.RecordBatch

    def __len__(self) -> int:
        return int(self.talks.num_rows)

    def counts(self) -> NDArray[np.int32]:
        """Training rows of each conversation, (conversations,)."""
        numbers: NDArray[np.int32] = self.talks.column("rows").to_numpy()
        return numbers

    def part(self, start: int, stop: int) -> Portion:
        """The conversations from ``start`` up to ``stop``, sharing memory with the whole."""
        ends = np.concatenate([[0], np.cumsum(self.counts())])
        first, last = int(ends[start]), int(ends[stop])
        return Portion(
            self.talks.slice(start, stop - start), self.rows.slice(first, last - first), self.traits.slice(start, stop - start)
        )

    def to_bytes(self) -> list[bytes]:
        return [batch.serialize().to_pybytes() for batch in (self.talks, self.rows, self.traits)]

    @classmethod
    def from_bytes(cls, parts: Sequence[bytes]) -> Portion:
        schemas = (_PORTION_TALKS, _PORTION_ROWS, _PORTION_TRAITS)
        return cls(*(pa.ipc.read_record_batch(pa.py_buffer(part), schema) for part, schema in zip(parts, schemas, strict=True)))

    @classmethod
    def joined(cls, portions: Sequence[Portion]) -> Portion:
        """All of them in their order; of none an empty one."""
        if len(portions) == 1:
            return portions[0]
        return cls(
            _joined([one.talks for one in portions], _PORTION_TALKS),
            _joined([one.rows for one in portions], _PORTION_ROWS),
            _joined([one.traits for one in portions], _PORTION_TRAITS),
        )

    def told_at(self, sources: Sequence[Source], groups: Sequence[str]) -> Portion:
        """The same as read at other places and in other groups; one of each a conversation."""
        changed = {
            "file": pa.array([source.file for source in sources], pa.string()),
            "line": pa.array([source.line for source in sources], pa.int64()),
            "group": pa.array(groups, pa.string()),
        }
        hashes = {"group": _hashes_of_groups(groups), "source": _hashes_of_sources(sources)}
        return Portion(_with_columns(self.talks, changed), self.rows, _with_columns(self.traits, hashes))

    def findings(self, sources: Sequence[Source]) -> Iterator[Finding]:
        """What was found of the conversations, told at other places."""
        for text, source in zip(self.talks.column("findings").to_pylist(), sources, strict=True):
            yield from _findings(text, source)


def portion(kept: Sequence[Kept]) -> Portion:
    """The records of some conversations."""
    talks = [one.rendered.conversation for one in kept]
    sources, groups = [talk.source for talk in talks], [talk.group for talk in talks]
    rows = [row for one in kept for row in one.rendered.rows]
    columns = [
        pa.array([_messages_text(talk.messages) for talk in talks], pa.string()),
        pa.array([talk.tools for talk in talks], pa.string()),
        pa.array(groups, pa.string()),
        pa.array([_about_text(talk) for talk in talks], pa.string()),
        pa.array([source.file for source in sources], pa.string()),
        pa.array([source.line for source in sources], pa.int64()),
        pa.array([one.key for one in kept], pa.uint64()),
        pa.array([one.language for one in kept], pa.string()),
        pa.array([_findings_text(one.findings) for one in kept], pa.string()),
        pa.array([len(one.rendered.rows) for one in kept], pa.int32()),
    ]
    spans = [array("i", [place for span in row.spans for place in span]) for row in rows]
    found, words = zip(*map(compared, talks), strict=True) if talks else ((), ())
    matrix = signatures(words) if talks else np.zeros((0, NUMBERS), np.uint16)
    hashes = [
        pa.array([one.whole for one in found], pa.uint64()),
        pa.array([one.prompt for one in found], pa.uint64()),
        pa.array([one.answer for one in found], pa.uint64()),
        _hashes_of_groups(groups),
        _hashes_of_sources(sources),
        pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel(), pa.uint16()), NUMBERS),
    ]
    return Portion(
        pa.RecordBatch.from_arrays(columns, schema=_PORTION_TALKS),
        pa.RecordBatch.from_arrays([_lists([row.ids for row in rows]), _lists(spans)], schema=_PORTION_ROWS),
        pa.RecordBatch.from_arrays(hashes, schema=_PORTION_TRAITS),
    )


class Writer:
    """Writes portions of conversations; the files are whole when the block ends without an error."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._talks = pa.ipc.new_file(str(folder / CONVERSATIONS), _TALKS, options=options)
        self._rows = pa.ipc.new_file(str(folder / ROWS), _ROWS)
        self._traits = pa.ipc.new_file(str(folder / TRAITS), _TRAITS)
        self._files: dict[str, int] = {}
        self._languages: dict[str, int] = {}
        self.conversations = self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._talks.close()
        self._rows.close()
        self._traits.close()

    def write(self, part: Portion, side: int = 0) -> None:
        """``side``: 0 where the conversations were given as examples, 1 as val, 2 as test."""
        if not len(part):
            return
        counts = part.counts()
        talks = {name: part.talks.column(name) for name in part.talks.schema.names} | {
            "file": _encoded(part.talks.column("file").to_pylist(), self._files),
            "language": _encoded(part.talks.column("language").to_pylist(), self._languages),
            "first_row": pa.array(self.rows + np.cumsum(counts, dtype=np.int64) - counts, pa.int64()),
        }
        numbers = np.repeat(np.arange(self.conversations, self.conversations + len(part), dtype=np.int64), counts)
        sides = pa.array(np.full(len(part), side, np.int8))
        self._talks.write_batch(pa.RecordBatch.from_arrays([talks[name] for name in _TALKS.names], schema=_TALKS))
        self._rows.write_batch(pa.RecordBatch.from_arrays([*part.rows.columns, pa.array(numbers)], schema=_ROWS))
        self._traits.write_batch(pa.RecordBatch.from_arrays([*part.traits.columns, sides], schema=_TRAITS))
        self.conversations += len(part)
        self.rows += part.rows.num_rows


class Store:
    """All kept conversations and their rows, mapped from ``folder``. Raises DataError where the files are not there or torn."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._talks = _open(folder / CONVERSATIONS, _TALKS)
        self._rows = _open(folder / ROWS, _ROWS)

    def __len__(self) -> int:
        return self._talks.count

    def column(self, name: str) -> NDArray[Any]:
        """A column of numbers of all conversations, (conversations,)."""
        return self._talks.numbers(name)

    def words(self, name: str) -> list[str]:
        """A column of texts of all conversations."""
        return self._talks.texts(name)

    def conversation(self, number: int) -> Conversation:
        record = self._talks.record(number, ("messages", "file", "line", "tools", "group", "about"))
        kind, rating = json.loads(record["about"] or '["", ""]')
        return Conversation(
            _messages(record["messages"]), Source(record["file"], record["line"]), record["tools"], record["group"], kind, rating
        )

    def findings(self, number: int) -> tuple[Finding, ...]:
        return _findings(self._talks.value("findings", number), self.source(number))

    def source(self, number: int) -> Source:
        return Source(self._talks.value("file", number), self._talks.value("line", number))

    def row_numbers(self, conversation: int) -> range:
        first = self._talks.value("first_row", conversation)
        return range(first, first + self._talks.value("rows", conversation))

    def row(self, number: int) -> Row:
        spans = self._rows.value("spans", number)
        return Row(
            self._rows.integers("ids", number),
            tuple(zip(spans[::2], spans[1::2], strict=True)),
            self.source(self._rows.value("conversation", number)),
        )

    @cached_property
    def _traits(self) -> _Mapped:
        return _open(self._folder / TRAITS, _TRAITS)

    @property
    def traits(self) -> Traits:
        """What the conversations are compared by."""
        mapped = self._traits
        whole, prompt, answer, group, source = (mapped.numbers(name).astype(np.uint64, copy=False) for name in _HASHES)
        return Traits(
            whole,
            prompt,
            answer,
            group,
            source,
            mapped.numbers("side").astype(np.int8, copy=False),
            mapped.lists("signature", NUMBERS).astype(np.uint16, copy=False),
        )

    def portion(self, start: int, stop: int) -> Portion:
        """The records of the conversations from ``start`` up to ``stop``, as they lie in the files."""
        talks = _joined(self._talks.slices(start, stop), _TALKS)
        first, last = (
            talks.column("first_row")[0].as_py(),
            talks.column("first_row")[-1].as_py() + talks.column("rows")[-1].as_py(),
        )
        plain = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for name, column in zip(talks.schema.names, talks.columns, strict=True)
            if name != "first_row"
        ]
        return Portion(
            pa.RecordBatch.from_arrays(plain, schema=_PORTION_TALKS),
            _joined(self._rows.slices(first, last), _ROWS).select(_PORTION_ROWS.names),
            _joined(self._traits.slices(start, stop), _TRAITS).select(_PORTION_TRAITS.names),
        )

    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, (rows,)."""
        return self._rows.list_lengths("ids")

    def trained(self) -> NDArray[np.int64]:
        """Trained tokens of each row, (rows,)."""
        return self._rows.alternating_sums("spans")

    def rows_of(self) -> NDArray[np.int64]:
        """The conversation of each row, (rows,)."""
        return self._rows.numbers("conversation")


class Conversations(Sequence[Conversation]):
    """The conversations of one side, each read when it is asked for."""

    def __init__(self, store: Store, numbers: NDArray[np.int64]) -> None:
        self._store, self._numbers = store, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Conversation: ...
    @overload
    def __getitem__(self, place: slice) -> list[Conversation]: ...
    def __getitem__(self, place: int | slice) -> Conversation | list[Conversation]:
        if isinstance(place, slice):
            return [self._store.conversation(int(number)) for number in self._numbers[place]]
        return self._store.conversation(int(self._numbers[place]))


class Rows(Sequence[Row]):
    """The training rows of one side, each read when it is asked for."""

    def __init__(self, store: Store, numbers: NDArray[np.int64]) -> None:
        self._store = store
        self._numbers = [row for number in numbers.tolist() for row in store.row_numbers(number)]

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        if isinstance(place, slice):
            return [self._store.row(number) for number in self._numbers[place]]
        return self._store.row(self._numbers[place])


def save_sides(folder: Path, sides: Mapping[str, NDArray[np.int64]]) -> None:
    write_atomic(folder / SIDES_FILE, save({side: np.ascontiguousarray(sides[side], np.int64) for side in SIDES}))


def load_conversations(folder: Path, side: str) -> Conversations:
    """The conversations of ``train``, ``val`` or ``test`` that the prepare stage left in ``folder``."""
    return Conversations(Store(folder), load_side(folder, side))


def load_rows(folder: Path, side: str) -> Rows:
    """Their training rows."""
    return Rows(Store(folder), load_side(folder, side))


def load_side(folder: Path, side: str) -> NDArray[np.int64]:
    """The numbers of the conversations on a side."""
    path = folder / SIDES_FILE
    if not path.is_file():
        raise _absent(path)
    numbers: NDArray[np.int64] = load_file(path)[side]
    return numbers


# ── records ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Mapped:
    """The batches of an Arrow file in memory that the system shares with the disk.

    Pages that were read stay with the process until the system wants them back; so that a walk through a large file does not look
    like a large process, they are given back after every ``_READS`` records.
    """

    def __init__(self, batches: list[pa.RecordBatch], pages: mmap.mmap) -> None:
        self._batches, self._pages, self._reads = batches, pages, 0
        self._ends = np.cumsum([batch.num_rows for batch in batches], dtype=np.int64)

    @property
    def count(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _place(self, number: int) -> tuple[pa.RecordBatch, int]:
        if not 0 <= number < self.count:
            raise IndexError(number)
        batch = int(np.searchsorted(self._ends, number, side="right"))
        return self._batches[batch], number - (int(self._ends[batch - 1]) if batch else 0)

    def _count(self, records: int) -> None:
        """Gives the pages back where so many records more make it due. What was copied out of them stays."""
        if (self._reads + records) // _READS > self._reads // _READS and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)
        self._reads += records

    def slices(self, start: int, stop: int) -> list[pa.RecordBatch]:
        """The records from ``start`` up to ``stop``, a batch after the other."""
        self._count(stop - start)
        found = []
        while start < stop:
            batch, place = self._place(start)
            found.append(batch.slice(place, stop - start))
            start += found[-1].num_rows
        return found

    def record(self, number: int, names: Sequence[str]) -> dict[str, Any]:
        self._count(1)
        batch, place = self._place(number)
        return {name: batch.column(name)[place].as_py() for name in names}

    def integers(self, name: str, number: int) -> array[int]:
        """A list of int32."""
        self._count(1)
        batch, place = self._place(number)
        return array("i", batch.column(name)[place].values.to_numpy().tobytes())

    def value(self, name: str, number: int) -> Any:
        self._count(1)
        batch, place = self._place(number)
        return batch.column(name)[place].as_py()

    def numbers(self, name: str) -> NDArray[Any]:
        found = np.concatenate(
            [batch.column(name).to_numpy(zero_copy_only=False) for batch in self._batches] or [np.zeros(0, np.int64)]
        )
        self._count(self.count)
        return found

    def lists(self, name: str, width: int) -> NDArray[Any]:
        """A column of lists of one length, (records, width)."""
        parts = [batch.column(name).flatten().to_numpy() for batch in self._batches]
        found = np.concatenate(parts or [np.zeros(0)]).reshape(-1, width)
        self._count(self.count)
        return found

    def texts(self, name: str) -> list[str]:
        found = [text for batch in self._batches for text in batch.column(name).to_pylist()]
        self._count(self.count)
        return found

    def list_lengths(self, name: str) -> NDArray[np.int64]:
        parts = [np.diff(batch.column(name).offsets.to_numpy()) for batch in self._batches]
        found = np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)
        self._count(self.count)
        return found

    def alternating_sums(self, name: str) -> NDArray[np.int64]:
        """For lists of (start, stop, start, stop, …) the sum of stop - start."""
        parts = []
        for batch in self._batches:
            offsets = batch.column(name).offsets.to_numpy() - batch.column(name).offsets[0].as_py()
            flat = batch.column(name).flatten().to_numpy().astype(np.int64)
            sums = np.concatenate([[0], np.cumsum(flat[1::2] - flat[::2])])
            parts.append(sums[offsets[1:] // 2] - sums[offsets[:-1] // 2])
        self._count(self.count)
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _open(path: Path, schema: pa.Schema) -> _Mapped:
    if not path.is_file():
        raise _absent(path)
    try:
        with path.open("rb") as opened:
            pages = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        file = pa.ipc.open_file(pa.py_buffer(pages))
        if file.schema.names != schema.names:
            raise pa.ArrowInvalid("other columns")
        return _Mapped([file.get_batch(number) for number in range(file.num_record_batches)], pages)
    except (pa.ArrowInvalid, OSError, ValueError):
        raise DataError(
            _("{path} is no file that afina wrote, or it is torn").format(path=path),
            fix=_("delete the folder and prepare the examples again: afina prepare"),
        ) from None


def _absent(path: Path) -> DataError:
    what = _("there is no file {path}").format(path=path)
    return DataError(what, fix=_("prepare the examples again: afina prepare"))


def _joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """The records of all batches as one batch."""
    if len(batches) == 1:
        return batches[0]
    table = pa.Table.from_batches(batches, schema).unify_dictionaries().combine_chunks()
    return next(iter(table.to_batches()), pa.RecordBatch.from_pylist([], schema))


def _with_columns(batch: pa.RecordBatch, changed: Mapping[str, pa.Array]) -> pa.RecordBatch:
    columns = [changed.get(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _about_text(talk: Conversation) -> str:
    return _ENCODER.encode([talk.kind, talk.rating]) if talk.kind or talk.rating else ""


def _hashes_of_groups(groups: Sequence[str]) -> pa.Array:
    return pa.array([digest(group) if group else 0 for group in groups], pa.uint64())


def _hashes_of_sources(sources: Sequence[Source]) -> pa.Array:
    return pa.array([digest(str(source)) for source in sources], pa.uint64())


def _lists(parts: Sequence[array[int]]) -> pa.ListArray:
    """Lists of int32, taken over as they lie in memory."""
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int32)
    values = pa.Array.from_buffers(pa.int32(), int(offsets[-1]), [None, pa.py_buffer(b"".join(parts))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _encoded(texts: Sequence[str], known: dict[str, int]) -> pa.DictionaryArray:
    """Texts as numbers of a dictionary that only grows, as Arrow's files want it."""
    numbers = [known.setdefault(text, len(known)) for text in texts]
    return pa.DictionaryArray.from_arrays(pa.array(numbers, pa.int32()), pa.array(list(known), pa.string()))


def _messages_text(messages: Sequence[Message]) -> str:
    return _ENCODER.encode([_as_record(message) for message in messages])


def _as_record(message: Message) -> dict[str, Any]:
    record: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.calls:
        record["calls"] = [[call.name, call.arguments] for call in message.calls]
    if message.name:
        record["name"] = message.name
    if not message.trained:
        record["trained"] = False
    return record


def _messages(text: str) -> tuple[Message, ...]:
    return tuple(
        Message(
            record["role"],
            record["content"],
            tuple(ToolCall(name, arguments) for name, arguments in record.get("calls", ())),
            record.get("name", ""),
            record.get("trained", True),
        )
        for record in json.loads(text)
    )


def _findings_text(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    return json.dumps([{k: v for k, v in asdict(f).items() if k != "source"} for f in findings], ensure_ascii=False)


def _findings(text: str, source: Source) -> tuple[Finding, ...]:
    return tuple(Finding(source, **record) for record in json.loads(text)) if text else ()
