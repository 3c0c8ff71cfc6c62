from __future__ import annotations

import datetime as dt
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.core.errors import DataError
from afina.data.read.number import Number
from tests.data.read.written import problem_of, records_of, rows_of

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}


def parquet(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def arrow(table: Any, *, stream: bool = True) -> bytes:
    sink = pa.BufferOutputStream()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


@pytest.mark.parametrize(
    ("kind", "write"),
    [("parquet", parquet), ("arrow", arrow), ("arrow", lambda table: arrow(table, stream=False))],
)
@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "x"])
def test_rows_have_their_numbers_and_nested_values(kind: str, write: Any, name: str) -> None:
    content = write(pa.Table.from_pylist([CHAT] * 5))
    assert records_of(content, name).kind == kind
    rows = rows_of(content, name)
    assert [line for line, _value in rows] == [1, 2, 3, 4, 5]
    assert rows[4][1]["messages"][1] == {"role": "assistant", "content": "b", "weight": "0"}
    assert type(rows[4][1]["messages"][1]["weight"]) is Number
    assert rows[4][1]["messages"][0]["weight"] is None


def test_values_that_json_does_not_know_become_text_or_are_told() -> None:
    table = pa.table(
        {
            "prompt": pa.array(["a"]),
            "day": pa.array([dt.date(2024, 1, 31)]),
            "time": pa.array([1_700_000_000_000_000_001], pa.timestamp("ns")),
            "price": pa.array([decimal.Decimal("1.50")]),
            "nan": pa.array([float("nan")]),
            "half": pa.array([0.5]),
            "text": pa.array([b"caf\xc3\xa9"]),
            "image": pa.array([b"\x89PNG\xff"]),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "word": pa.array(["x"]).dictionary_encode(),
        }
    )
    records = records_of(parquet(table), "x.parquet")
    (item,) = records.items
    assert getattr(item, "value", None) == {
        "prompt": "a", "day": "2024-01-31", "time": "2023-11-14 22:13:20.000000001", "price": "1.50", "nan": None,
        "half": "0.5", "text": "café", "image": None, "map": {"k": "1"}, "word": "x",
    }  # fmt: skip
    assert records.notes == ["not read, because they hold bytes and no text: image"]


def test_messages_that_old_data_sets_keep_as_lists_are_turned_round() -> None:
    table = pa.Table.from_pylist([{"messages": {"role": ["user", "assistant"], "content": ["a", "b"]}}])
    assert rows_of(parquet(table), "x.parquet") == [
        (1, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    ]


def test_text_that_is_not_utf_8_costs_its_own_row() -> None:
    raw = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    rows = rows_of(parquet(pa.table({"prompt": raw, "completion": pa.array(["x", "y", "z"])})), "x.parquet")
    assert [line for line, value in rows if isinstance(value, dict)] == [1, 3]
    assert rows[1][1].startswith("broken-row: ")


def test_offsets_that_lead_out_of_the_memory_are_found_before_they_are_followed() -> None:
    content = arrow(pa.table({"prompt": ["abcdefg", "hij"], "completion": ["k", "l"]}))
    offsets = (0).to_bytes(4, "little") + (7).to_bytes(4, "little") + (10).to_bytes(4, "little")
    assert content.count(offsets) == 1
    error = problem_of(content.replace(offsets, offsets[:4] + (-9).to_bytes(4, "little", signed=True) + offsets[8:]), "x.arrow")
    assert error.what.startswith("x.arrow cannot be read to its end: ")


@pytest.mark.parametrize("write", [parquet, arrow])
def test_a_file_that_breaks_off_is_told(write: Any) -> None:
    content = write(pa.Table.from_pylist([CHAT] * 5))
    error = problem_of(content[: len(content) // 2], "x.parquet")
    assert error.what.startswith("x.parquet cannot be read to its end: ")


def test_a_packed_table_is_read(tmp_path: Path) -> None:
    content = pa.compress(parquet(pa.Table.from_pylist([CHAT])), "zstd", asbytes=True)
    assert len(rows_of(content, "x.parquet.zst")) == 1


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_mark_are_read_or_refused(data: bytes) -> None:
    for start in (b"PAR1", b"ARROW1\0\0", b"\xff\xff\xff\xff"):
        try:
            rows_of(start + data, "x.arrow")
        except DataError as error:
            assert error.what


@given(
    st.lists(st.fixed_dictionaries({"prompt": st.text(max_size=9), "completion": st.text(max_size=9)}), min_size=1, max_size=5)
)
def test_what_parquet_holds_is_read_to_the_letter(rows: list[dict[str, str]]) -> None:
    assert [value for _line, value in rows_of(parquet(pa.Table.from_pylist(rows)), "x.parquet")] == rows
