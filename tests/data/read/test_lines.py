from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest

from afina.data.conversation import Finding
from afina.data.read.item import Record
from afina.data.read.lines import json_lines
from afina.data.read.records import open_records
from afina.data.read.unpack import InputFile
from tests.data.read.written import knows, records_of, rows_of

ROWS = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}, {"prompt": "e", "completion": "f"}]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_numbers_count_blank_lines_and_every_kind_of_line_end(end: str) -> None:
    assert rows_of(end.join(['{"a": "1"}', "", "   ", '{"a": "\\r2\u2028"}', ""])) == [(1, {"a": "1"}), (4, {"a": "\r2\u2028"})]


def test_one_broken_line_among_a_thousand_is_one_refusal() -> None:
    lines = [json.dumps({"prompt": str(i), "completion": "x"}) for i in range(1000)]
    lines[500] = lines[500][:-4]
    items = list(records_of("\n".join(lines)).items)
    assert sum(isinstance(item, Record) for item in items) == 999
    assert [item for item in items if isinstance(item, Finding)] == [items[500]]
    assert str(items[500].source) == "x.jsonl:501"


@pytest.mark.parametrize("first", ["{", '{"a": NaN}', "[" * 99_999, "hello"])
def test_a_broken_first_line_does_not_hide_that_a_file_is_json_lines(first: str) -> None:
    rows = rows_of(first + "\n" + "\n".join(map(json.dumps, ROWS)))
    assert [line for line, _value in rows] == [1, 2, 3, 4]
    assert rows[0][1].startswith("broken-row: ")


def test_a_line_that_is_too_long_is_passed_over_and_the_next_one_read() -> None:
    long = b'{"prompt": "' + b"x" * (17 << 20) + b'", "completion": "y"}'
    content = b"\n".join([b'{"prompt": "a", "completion": "b"}', long, b'{"prompt": "c", "completion": "d"}'])
    assert rows_of(content) == [
        (1, {"prompt": "a", "completion": "b"}),
        (2, "broken-row: the line is longer than 16.0 MiB and is passed over"),
        (3, {"prompt": "c", "completion": "d"}),
    ]


def test_a_file_of_one_endless_line_is_not_held(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.writelines(b'{"prompt": "' + b"x" * (1 << 20) for _mebibyte in range(300))
    tracemalloc.start()
    items = list(open_records(InputFile(path, "x.jsonl"), knows).items)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [item.reason for item in items if isinstance(item, Finding)] == ["the line is longer than 16.0 MiB and is passed over"]
    assert peak < 64 << 20


def test_memory_does_not_grow_with_the_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text((json.dumps({"prompt": "a" * 500, "completion": "b" * 500}) + "\n") * 20_000)
    tracemalloc.start()
    assert sum(isinstance(item, Record) for item in open_records(InputFile(path, "x.jsonl"), knows).items) == 20_000
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_bytes_that_are_no_letters_cost_their_own_line() -> None:
    content = '{"prompt": "á", "completion": "é"}\n'.encode() * 3
    broken = content[:40] + content[40:].replace("á".encode(), b"\xe1", 1)
    assert rows_of(broken) == [
        (1, {"prompt": "á", "completion": "é"}),
        (2, "broken-row: byte 13 of the line (0xe1) is not UTF-8"),
        (3, {"prompt": "á", "completion": "é"}),
    ]


def test_a_zero_byte_in_a_line_costs_that_line() -> None:
    rows = rows_of('{"prompt": "a", "completion": "b"}\n' * 9 + '{"prompt": "a\0", "completion": "b"}\n')
    assert [line for line, value in rows if isinstance(value, str)] == [10]


def test_a_line_of_nothing_but_a_separator_is_told(tmp_path: Path) -> None:
    """Python takes U+001C for white space; nobody who looks at the file does."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": "b"}\n\x1c\n\n \t\n{"a": "c"}\n')
    with path.open("rb") as stream:
        items = list(json_lines("a.jsonl", stream, "utf-8"))
    assert [(type(item).__name__, item.source.line) for item in items] == [("Record", 1), ("Finding", 2), ("Record", 5)]
