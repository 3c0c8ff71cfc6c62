"""What the prepare stage leaves for the other stages: Arrow files that are mapped into memory and not read into it.

``conversations.arrow`` holds a record a conversation, ``rows.arrow`` a record a training row, ``sides.safetensors`` which
conversations are on which side of the split, as their numbers (int64) in the order of reading.
"""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from afina.data.render import Rendered, Row

_ENCODER = json.JSONEncoder(ensure_ascii=False)

CONVERSATIONS, ROWS, SIDES_FILE = "conversations.arrow", "rows.arrow", "sides.safetensors"
SIDES = ("train", "val", "test")
_READS = 20_000

_TALKS = pa.schema(
    [
        ("messages", pa.string()),  # JSON: [{"role", "content"}, …]
        ("tools", pa.string()),
        ("group", pa.string()),
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


@dataclass(frozen=True)
class Kept:
    """A conversation that passed every check of its own, with what the stage keeps beside it."""

    rendered: Rendered
    key: int
    language: str
    findings: tuple[Finding, ...]


class Writer:
    """Writes kept conversations in batches; the files are whole when the block ends without an error."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
        self._talks = pa.ipc.new_file(str(folder / CONVERSATIONS), _TALKS, options=options)
        self._rows = pa.ipc.new_file(str(folder / ROWS), _ROWS)
        self._files: dict[str, int] = {}
        self._languages: dict[str, int] = {}
        self.conversations = self.rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._talks.close()
        self._rows.close()

    def write(self, batch: Sequence[Kept]) -> None:
        if not batch:
            return
        talks = [kept.rendered.conversation for kept in batch]
        counts = [len(kept.rendered.rows) for kept in batch]
        first = np.cumsum([self.rows, *counts[:-1]], dtype=np.int64)
        rows = [row for kept in batch for row in kept.rendered.rows]
        columns = [
            pa.array([_messages_text(talk.messages) for talk in talks], pa.string()),
            pa.array([talk.tools for talk in talks], pa.string()),
            pa.array([talk.group for talk in talks], pa.string()),
            _encoded([talk.source.file for talk in talks], self._files),
            pa.array([talk.source.line for talk in talks], pa.int64()),
            pa.array([kept.key for kept in batch], pa.uint64()),
            _encoded([kept.language for kept in batch], self._languages),
            pa.array([_findings_text(kept.findings) for kept in batch], pa.string()),
            pa.array(first, pa.int64()),
            pa.array(counts, pa.int32()),
        ]
        self._talks.write_batch(pa.RecordBatch.from_arrays(columns, schema=_TALKS))
        numbers = np.repeat(np.arange(self.conversations, self.conversations + len(batch), dtype=np.int64), counts)
        spans = [array("i", [place for span in row.spans for place in span]) for row in rows]
        columns = [
            _lists([row.ids for row in rows]),
            _lists(spans),
            pa.array(numbers, pa.int64()),
        ]
        self._rows.write_batch(pa.RecordBatch.from_arrays(columns, schema=_ROWS))
        self.conversations += len(batch)
        self.rows += len(rows)


class Store:
    """All kept conversations and their rows, mapped from ``folder``. Raises DataError where the files are not there or torn."""

    def __init__(self, folder: Path) -> None:
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
        record = self._talks.record(number, ("messages", "file", "line", "tools", "group"))
        return Conversation(
            _messages(record["messages"]), Source(record["file"], record["line"]), record["tools"], record["group"]
        )

    def findings(self, number: int) -> tuple[Finding, ...]:
        return _findings(self._talks.value("findings", number), self.source(number))

    def language(self, number: int) -> str:
        return str(self._talks.value("language", number))

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

    def record(self, number: int, names: Sequence[str]) -> dict[str, Any]:
        self._reads += 1
        if self._reads % _READS == 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)
        batch, place = self._place(number)
        return {name: batch.column(name)[place].as_py() for name in names}

    def integers(self, name: str, number: int) -> array[int]:
        """A list of int32."""
        batch, place = self._place(number)
        return array("i", batch.column(name)[place].values.to_numpy().tobytes())

    def value(self, name: str, number: int) -> Any:
        batch, place = self._place(number)
        return batch.column(name)[place].as_py()

    def numbers(self, name: str) -> NDArray[Any]:
        return np.concatenate([batch.column(name).to_numpy(zero_copy_only=False) for batch in self._batches] or [np.zeros(0)])

    def texts(self, name: str) -> list[str]:
        return [text for batch in self._batches for text in batch.column(name).to_pylist()]

    def list_lengths(self, name: str) -> NDArray[np.int64]:
        parts = [np.diff(batch.column(name).offsets.to_numpy()) for batch in self._batches]
        return np.concatenate(parts).astype(np.int64) if parts else np.zeros(0, np.int64)

    def alternating_sums(self, name: str) -> NDArray[np.int64]:
        """For lists of (start, stop, start, stop, …) the sum of stop - start."""
        parts = []
        for batch in self._batches:
            offsets = batch.column(name).offsets.to_numpy() - batch.column(name).offsets[0].as_py()
            flat = batch.column(name).flatten().to_numpy().astype(np.int64)
            sums = np.concatenate([[0], np.cumsum(flat[1::2] - flat[::2])])
            parts.append(sums[offsets[1:] // 2] - sums[offsets[:-1] // 2])
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
