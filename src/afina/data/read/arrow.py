"""Parquet and Arrow (also the files of Hugging Face ``datasets``): rows in batches, never the whole file.

Numbers become ``Number``; a number that is NaN counts as not there, as pandas means it. Dates and times become their ISO text.
Bytes that are UTF-8 are text; others are not read, and a note tells it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Source
from afina.data.read.item import Item, Record, broken
from afina.data.read.number import Number

_BATCH = 1000  # rows that are held at once
ARROW_STREAM = b"\xff\xff\xff\xff"


def parquet_rows(name: str, file: Path | BinaryIO, notes: list[str]) -> Iterator[Item]:
    with _naming(name), pq.ParquetFile(file) as table:
        yield from _rows(name, table.iter_batches(batch_size=_BATCH), table.schema_arrow, notes)


def arrow_rows(name: str, file: Path | BinaryIO, notes: list[str], *, is_stream: bool) -> Iterator[Item]:
    """``is_stream``: batches one behind the other, as ``datasets`` writes them, without a table of contents."""
    with _naming(name), pa.OSFile(str(file)) if isinstance(file, Path) else pa.PythonFile(file, "r") as source:
        if is_stream:
            stream = pa.ipc.open_stream(source)
            yield from _rows(name, map(_sound, stream), stream.schema, notes)
        else:
            table = pa.ipc.open_file(source)
            yield from _rows(name, map(_sound, map(table.get_batch, range(table.num_record_batches))), table.schema, notes)


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Arrow's errors as one that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last: a column's name
        raise DataError(
            _("{name} cannot be read to its end: {reason}").format(name=name, reason=str(error).split("\n")[0]),
            fix=_("the file is broken or not complete: fetch or write it again"),
        ) from None


def _sound(batch: Any) -> Any:
    """The batch, if its parts fit together: Arrow trusts a file, and a broken one would lead it out of its memory."""
    batch.validate(full=True)
    return batch


def _rows(name: str, batches: Iterator[Any], schema: Any, notes: list[str]) -> Iterator[Item]:
    simple = all(_is_simple(field.type) for field in schema)
    unread: set[str] = set()
    line = 0
    for whole in batches:
        for start in range(0, whole.num_rows, _BATCH):
            batch = _readable(whole.slice(start, _BATCH))
            for offset, row in enumerate(_values(batch), start=1):
                source = Source(name, line + offset)
                if isinstance(row, str):
                    yield broken(source, row)
                else:
                    yield Record(source, row if simple else {key: _plain(item, key, unread) for key, item in row.items()})
            line += batch.num_rows
    if unread:
        notes.append(_("not read, because they hold bytes and no text: {columns}").format(columns=", ".join(sorted(unread))))


def _values(batch: Any) -> Iterator[dict[str, Any] | str]:
    """Each row; the reason in the place of one that holds what Python cannot."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # text that is not UTF-8, a time outside of Python's years
        for place in range(batch.num_rows):
            try:
                yield batch.slice(place, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield str(error)


def _readable(batch: Any) -> Any:
    """The batch with dates and times as text: Python has no nanoseconds."""
    names = batch.schema.names
    columns = [
        column.cast(pa.string()) if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=names)


def _is_simple(kind: Any) -> bool:
    """Whether Python's values of this type are texts, truth values, lists and objects of them."""
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _is_simple(kind.value_type)
    if types.is_struct(kind):
        has_lists = any(types.is_list(kind.field(place).type) for place in range(kind.num_fields))
        return not has_lists and all(_is_simple(kind.field(place).type) for place in range(kind.num_fields))
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_boolean(kind)
        or types.is_null(kind)
        or (types.is_temporal(kind) and not types.is_duration(kind))
    )


def _is_turned(value: dict[str, Any]) -> bool:
    """Whether messages stand as ``{"role": […], "content": […]}``, as old ``datasets`` keep a list of objects."""
    keys = value.keys()
    is_messages = {"role", "content"} <= keys or {"from", "value"} <= keys
    return is_messages and all(isinstance(item, list) for item in value.values()) and len({*map(len, value.values())}) == 1


def _plain(value: Any, column: str, unread: set[str]) -> Any:
    match value:
        case str() | bool() | None:
            return value
        case int():
            return Number(value)
        case float():
            return None if math.isnan(value) else Number(value)
        case dict() if _is_turned(value):
            return [_plain(dict(zip(value, turn, strict=True)), column, unread) for turn in zip(*value.values(), strict=True)]
        case dict():
            return {str(key): _plain(item, column, unread) for key, item in value.items()}
        case list() if value and all(isinstance(item, tuple) for item in value):  # a column of maps
            return {str(key): _plain(item, column, unread) for key, item in value}
        case list():
            return [_plain(item, column, unread) for item in value]
        case bytes():
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                unread.add(column)
                return None
        case _:  # decimals, durations and their like
            return str(value)
