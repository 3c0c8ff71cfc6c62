"""From a file to its records, each with the line (the row of a table) on which it begins.

What a file is follows from its content; its ending only decides where the content leaves two readings. A record that cannot
be read becomes a finding and the reading goes on behind it. JSON Lines, CSV, Parquet and Arrow are read as a stream; what has to
be held as a whole has a largest size.
"""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Source
from afina.data.read.arrow import ARROW_STREAM, arrow_rows, parquet_rows
from afina.data.read.chats import recognise_chat
from afina.data.read.encoding import as_utf8, find_encoding, telling_sample, with_line_ends
from afina.data.read.files import PACKED_ENDINGS
from afina.data.read.item import LONGEST_TEXT, Item, Kind, Knows, NoExamplesError, Record, Records, broken
from afina.data.read.json_file import json_rows
from afina.data.read.lines import json_lines
from afina.data.read.markdown import has_questions, markdown_rows
from afina.data.read.strict_json import BrokenJsonError, parse_json
from afina.data.read.table import find_delimiter, header, table_rows
from afina.data.read.unpack import InputFile, nested, opened, too_large, whole
from afina.data.read.yaml_file import yaml_rows

LINES = (".jsonl", ".ndjson")
TABLES = (".csv", ".tsv")
YAMLS = (".yaml", ".yml")
MARKDOWNS = (".md", ".markdown")

_SAMPLE = 1 << 20  # bytes that decide what a file is
_SAMPLE_LINES = 20  # lines that decide between JSON and JSON Lines
_ESCAPED = re.compile(r"[\udc80-\udcff]")  # what Python makes of bytes that are no letters


def open_records(file: InputFile, knows: Knows) -> Records:
    """The rows of a file. Raises DataError where it cannot be read as a whole, and so may going through ``items``."""
    before = _facts(file.path)
    with opened(file) as stream:
        start = stream.peek(16)[:16]
    records = _tables(file, start, knows) or _texts(file, knows)
    return replace(records, items=_unchanged(file, before, records.items))


def _tables(file: InputFile, start: bytes, knows: Knows) -> Records | None:
    """The rows of a file that is no text; None where it is one."""
    notes: list[str] = []
    if start.startswith(b"PK\x03\x04"):
        if file.member and not file.name.lower().endswith((".xlsx", ".xlsm")):
            raise nested(file.name)
        from afina.data.read.excel import excel_rows  # openpyxl takes a tenth of a second

        return Records("excel", excel_rows(file.name, whole(file, LONGEST_TEXT), knows, notes), notes=notes)
    is_stream = start.startswith(ARROW_STREAM)
    if not (is_stream or start.startswith((b"PAR1", b"ARROW1"))):
        return None
    with file.path.open("rb") as raw:
        lies_open = not file.member and raw.read(16).startswith(start)
    data: Path | BinaryIO = file.path if lies_open else io.BytesIO(whole(file, LONGEST_TEXT))
    if start.startswith(b"PAR1"):
        return Records("parquet", parquet_rows(file.name, data, notes), notes=notes)
    return Records("arrow", arrow_rows(file.name, data, notes, is_stream=is_stream), notes=notes)


def _texts(file: InputFile, knows: Knows) -> Records:
    writing = _writing(file)
    with _letters(file, writing) as (stream, codec):
        first = stream.read(_SAMPLE)
    is_whole = len(first) < _SAMPLE
    sample = codecs.getincrementaldecoder(codec)("replace").decode(first, is_whole)
    if not sample.strip() and is_whole:
        raise NoExamplesError(_("{path} is empty").format(path=file.name), fix=_("give a file with examples in it"))
    kind = _kind(sample, file.name, knows, is_whole=is_whole)
    notes = [] if writing.name == "utf-8" else [_("its letters are written in {encoding}").format(encoding=writing.name)]
    delimiter = ""
    name, old_mac = file.name, b"\r" in first and b"\n" not in first
    match kind:
        case "jsonl":
            items = _streamed(file, writing, lambda stream, codec: json_lines(name, stream, codec), old_mac=old_mac)
        case "csv":
            delimiter = find_delimiter(sample, knows)
            items = _streamed(file, writing, lambda stream, codec: table_rows(name, stream, codec, delimiter), old_mac=old_mac)
        case "json":
            items = _held(file, writing, lambda text: json_rows(name, text, knows))
        case "yaml":
            items = _held(file, writing, lambda text: yaml_rows(name, text, knows))
        case "markdown":
            items = _held(file, writing, lambda text: markdown_rows(name, text, notes))
        case _:
            items = _held(file, writing, lambda text: iter([Record(Source(name, 1), text)]))
    return Records(kind, items, delimiter, writing.name, notes)


# ── which kind ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _kind(sample: str, name: str, knows: Knows, *, is_whole: bool) -> Kind:
    """What a text is, from its first mebibyte (``is_whole``: that is all of it)."""
    ending = _ending(name)
    if ending in YAMLS:
        return "yaml"
    if ending in MARKDOWNS:
        return "markdown"
    if ending not in (*LINES, *TABLES) and recognise_chat(name, sample):
        return "text"
    stripped = sample.lstrip()
    lines = [line for line in (sample if is_whole else sample.rpartition("\n")[0] or sample).split("\n") if line.strip()]
    lines = lines[:_SAMPLE_LINES]
    containers = sum(map(_is_container, lines))
    first_is_whole = ending in LINES or _is_container(lines[0])
    if len(lines) > 1 and 2 * containers >= len(lines) + (0 if first_is_whole else 1):
        return "jsonl"
    if stripped[0] in "[{" and (ending not in (*LINES, *TABLES) or _is_json(sample, ending, len(lines), containers, is_whole)):
        return "json"
    if ending in TABLES or knows(header(sample, find_delimiter(sample, knows))):
        return "csv"
    if ending in LINES:
        return "jsonl"
    if has_questions(sample):
        return "markdown"
    raise NoExamplesError(
        _("{path}:1: this is neither JSONL nor JSON nor CSV: it begins with {start!r}").format(
            path=name, start=stripped[:40].split("\n")[0]
        ),
        fix=_("write one JSON object a line, a CSV whose first line names the columns, or Q: … and A: … in lines of their own"),
    )


def _is_json(sample: str, ending: str, lines: int, containers: int, is_whole: bool) -> bool:
    """Whether a file whose ending says otherwise is one JSON value."""
    return _is_container(sample) if is_whole else ending in LINES and lines > 1 and not containers


def _is_container(text: str) -> bool:
    """Whether ``text`` is one whole JSON object or list."""
    try:
        return isinstance(parse_json(text), dict | list)
    except BrokenJsonError:
        return False


def _ending(name: str) -> str:
    """The ending without that of a packed file: ``.jsonl`` of ``x.jsonl.gz``."""
    path = PurePosixPath(name)
    return PurePosixPath(path.stem).suffix.lower() if path.suffix.lower() in PACKED_ENDINGS else path.suffix.lower()


# ── the text of a file ────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class _Writing:
    """How a file's letters are written; ``mark``: bytes of its byte order mark."""

    name: str
    mark: int


def _writing(file: InputFile) -> _Writing:
    with opened(file) as stream:
        sample = telling_sample(stream)
    try:
        return _Writing(*find_encoding(sample, file.settings.encoding if file.settings else None))
    except DataError as error:
        raise DataError(f"{file.name}: {error.what}", fix=error.fix) from None


@contextmanager
def _letters(file: InputFile, writing: _Writing, *, old_mac: bool = False) -> Iterator[tuple[BinaryIO, str]]:
    """The bytes behind the byte order mark, with ``\\n`` as one byte, and the codec that reads them."""
    with opened(file) as stream:
        stream.read(writing.mark)
        plain, codec = as_utf8(stream, writing.name)
        yield with_line_ends(plain) if old_mac else plain, codec


def _streamed(
    file: InputFile, writing: _Writing, read: Callable[[BinaryIO, str], Iterator[Item]], *, old_mac: bool
) -> Iterator[Item]:
    with _letters(file, writing, old_mac=old_mac) as (stream, codec):
        yield from read(stream, codec)


def _held(file: InputFile, writing: _Writing, read: Callable[[str], Iterator[Item]]) -> Iterator[Item]:
    """The items of a text that is held as a whole; a record with bytes that are no letters is found broken.

    Only that of a chat is left as it is: there the message is found broken that has them.
    """
    with _letters(file, writing) as (stream, codec):
        data = stream.read(LONGEST_TEXT + 1)
    if len(data) > LONGEST_TEXT:
        raise too_large(file.name, LONGEST_TEXT)
    try:
        text, wrong = data.decode(codec), None
    except UnicodeDecodeError as error:
        text, wrong = data.decode(codec, "surrogateescape"), error
    if wrong is None:
        yield from read(text)
        return
    line = data.count(b"\n", 0, wrong.start) + 1
    reason = _("a byte (0x{value:02x}) is not {encoding}").format(value=data[wrong.start], encoding=writing.name.upper())
    try:
        for item in read(text):
            if isinstance(item, Record) and not isinstance(item.value, str) and _has_escapes(item.value):
                yield broken(item.source, reason)
            else:
                yield item
    except UnicodeEncodeError:  # YAML's parser takes nothing but letters
        raise DataError(f"{file.name}:{line}: {reason}", fix=_("write the text in UTF-8")) from None


def _has_escapes(value: Any) -> bool:
    """Whether a text in the value holds a byte that was no letter."""
    return _ESCAPED.search(json.dumps(value, ensure_ascii=False)) is not None


# ── a file that changes ───────────────────────────────────────────────────────────────────────────────────────────────


def _facts(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _unchanged(file: InputFile, before: tuple[int, int], items: Iterator[Item]) -> Iterator[Item]:
    yield from items
    if _facts(file.path) != before:
        raise DataError(
            _("{path} was changed while it was read").format(path=file.path),
            fix=_("wait until nothing writes to it any more, and start again"),
        )
