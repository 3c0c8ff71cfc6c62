from __future__ import annotations

import json
from pathlib import Path

import pytest

from afina.core.errors import DataError
from afina.data.read.item import Record
from afina.data.read.records import open_records
from afina.data.read.unpack import InputFile
from tests.data.read.written import knows, problem_of, records_of

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}, {"prompt": "e", "completion": "f"}]


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".txt", ""])
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("jsonl", "\n".join(map(json.dumps, ROWS))),
        ("json", json.dumps(ROWS)),
        ("json", json.dumps(ROWS, indent=2)),
        ("json", json.dumps({"version": "1", "data": ROWS}, indent=2)),
        ("csv", "prompt;completion\na;b\nc;d\ne;f\n"),
    ],
)
def test_content_decides_what_a_file_is_whatever_it_is_called(kind: str, text: str, ending: str) -> None:
    records = records_of(text, f"x{ending}")
    assert records.kind == kind
    assert [item.value for item in records.items if isinstance(item, Record)] == ROWS


@pytest.mark.parametrize("name", ["notes.txt", "notes.json", "x"])
def test_a_file_of_no_known_kind_shows_how_it_begins(name: str) -> None:
    error = problem_of("\n  # Notes, of today\nmore\n", name)
    assert error.what == f"{name}:1: this is neither JSONL nor JSON nor CSV: it begins with '# Notes, of today'"
    assert error.fix.startswith("write one JSON object a line, a CSV whose first line names the columns, or Q: … and A: …")


def test_a_large_file_is_recognised_by_its_beginning() -> None:
    rows = [{"prompt": "a" * 400, "completion": "b" * 400} for _row in range(2000)]
    for name, content, kind in (
        ("x.json", json.dumps(rows), "json"),
        ("x.jsonl", json.dumps(rows, indent=1), "json"),
        ("x.json", "\n".join(map(json.dumps, rows)), "jsonl"),
        ("x", "prompt,completion\n" + f"{'a' * 400},{'b' * 400}\n" * 2000, "csv"),
    ):
        records = records_of(content, name)
        assert (records.kind, sum(isinstance(item, Record) for item in records.items)) == (kind, 2000), (name, kind)


@pytest.mark.parametrize("line", [b'{"prompt": "more", "completion": "x"}\n', b""])
def test_a_file_that_is_changed_while_it_is_read_stops_the_run(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "a", "completion": "b"}\n' * 9)
    items = open_records(InputFile(path, "x.jsonl"), knows).items
    next(items)
    with path.open("r+b") as file:
        file.seek(0, 2)
        file.write(line)
        if not line:
            file.truncate(10)
    with pytest.raises(DataError) as caught:
        list(items)
    assert caught.value.what == f"{path} was changed while it was read"


@pytest.mark.parametrize("content", ["", " \n\t\r\n", "\ufeff\n"])
def test_a_file_without_text_is_empty(content: str) -> None:
    assert problem_of(content).what == "x.jsonl is empty"


def test_bytes_that_are_no_letters_cost_their_own_row_of_a_json_list() -> None:
    content = json.dumps([{"prompt": "á", "completion": str(n)} for n in range(3)], ensure_ascii=False, indent=0).encode()
    content = content[:40] + content[40:].replace("á".encode(), b"\xe1", 1)
    items = list(records_of(content, "x.json").items)
    assert [isinstance(item, Record) for item in items] == [True, False, True]
    assert getattr(items[1], "reason", "") == "a byte (0xe1) is not UTF-8"
