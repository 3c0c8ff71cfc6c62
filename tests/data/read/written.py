"""Files that tests write and read at once."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afina.core.errors import DataError
from afina.data.read.item import Record, Records
from afina.data.read.records import open_records
from afina.data.read.unpack import InputFile
from afina.recipe.recipe import Files


def knows(keys: Collection[str]) -> bool:
    return {"prompt", "completion"} <= {key.strip().lower() for key in keys} or "messages" in keys


def records_of(content: str | bytes, name: str = "x.jsonl", encoding: str | None = None) -> Records:
    """The records of a file with this content, all of them taken out of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{Path(name).suffix}"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        records = open_records(InputFile(path, name, Files(files=name, encoding=encoding) if encoding else None), knows)
        return replace(records, items=iter(list(records.items)))


def rows_of(content: str | bytes, name: str = "x.jsonl", encoding: str | None = None) -> list[tuple[int, Any]]:
    """Line and value of each record; line and reason of each finding."""
    return [
        (item.source.line, item.value if isinstance(item, Record) else f"{item.check}: {item.reason}")
        for item in records_of(content, name, encoding).items
    ]


def problem_of(content: str | bytes, name: str = "x.jsonl", encoding: str | None = None) -> DataError:
    with pytest.raises(DataError) as caught:
        rows_of(content, name, encoding)
    return caught.value
