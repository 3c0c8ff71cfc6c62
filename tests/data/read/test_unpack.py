from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from afina.core.errors import DataError
from afina.data.read import unpack
from afina.data.read.files import find_files
from afina.data.read.records import open_records
from tests.data.read.written import knows, problem_of, records_of, rows_of

ROWS = b'{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'
READ = [(1, {"prompt": "a", "completion": "b"}), (2, {"prompt": "c", "completion": "d"})]


def zstd(data: bytes) -> bytes:
    return bytes(pa.compress(data, "zstd", asbytes=True))


PACKS: dict[str, Any] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd}


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def rows_in(path: Path) -> list[tuple[str, Any]]:
    """Place and value of each record of everything that is found at a path."""
    found = []
    for file in find_files([str(path)]):
        records = open_records(file, knows).items
        found += [(str(item.source).removeprefix(f"{path.parent}/"), getattr(item, "value", None)) for item in records]
    return found


@pytest.mark.parametrize("ending", PACKS)
def test_a_packed_file_is_read_whatever_it_is_called(ending: str) -> None:
    assert rows_of(PACKS[ending](ROWS), f"x.jsonl{ending}") == READ
    assert rows_of(PACKS[ending](ROWS), "x.jsonl") == READ


@pytest.mark.parametrize("ending", [".gz", ".bz2", ".xz"])
def test_packs_that_follow_each_other_are_one_file(ending: str) -> None:
    lines = ROWS.splitlines(keepends=True)
    assert rows_of(PACKS[ending](lines[0]) + PACKS[ending](lines[1]), f"x.jsonl{ending}") == READ


@pytest.mark.parametrize("ending", PACKS)
def test_a_pack_that_breaks_off_is_told(ending: str) -> None:
    content = PACKS[ending](ROWS * 3000 + bytes(range(32, 127)) * 9)
    error = problem_of(content[: len(content) - 20], f"x.jsonl{ending}")
    assert error.what.startswith(f"x.jsonl{ending} cannot be read to its end: ")
    assert error.fix == "the file is broken or not complete: fetch or write it again"


@pytest.mark.parametrize("inner", ["gz", "zip", "tar"])
def test_an_archive_in_an_archive_is_refused(tmp_path: Path, inner: str) -> None:
    packed = {"gz": gzip.compress(ROWS), "zip": zipped(tmp_path / "x.zip", {"a.jsonl": ROWS}).read_bytes()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(tmp_path / "x.zip", "a.jsonl")
    packed["tar"] = file.getvalue()
    error = problem_of(gzip.compress(packed[inner]), "x.jsonl.gz")
    assert error.what == "x.jsonl.gz is an archive inside an archive"


def test_the_members_of_a_zip_are_read_by_name(tmp_path: Path) -> None:
    table = b"prompt,completion\ne,f\n"
    path = zipped(tmp_path / "x.zip", {"b.jsonl": ROWS, "a/t.csv": table, "__MACOSX/b.jsonl": b"x", "image.png": b"x"})
    assert rows_in(path) == [
        ("x.zip/a/t.csv:2", {"prompt": "e", "completion": "f"}),
        ("x.zip/b.jsonl:1", READ[0][1]),
        ("x.zip/b.jsonl:2", READ[1][1]),
    ]


def test_a_pack_that_unpacks_to_far_too_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_UNPACKED", 1 << 20)
    content = gzip.compress(ROWS * 200_000)
    assert len(content) * 200 < 200_000 * len(ROWS)
    error = problem_of(content, "x.jsonl.gz")
    assert error.what.startswith("x.jsonl.gz unpacks to more than ")
    assert "over 200 times its own size" in error.what


def test_a_zip_that_unpacks_to_far_too_much_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_UNPACKED", 1 << 20)
    path = zipped(tmp_path / "bomb.zip", {"a.jsonl": b" " * (64 << 20)})
    with pytest.raises(DataError) as caught:
        find_files([str(path)])
    assert caught.value.what.startswith(f"{path} unpacks to more than 64.0 MiB")


def test_a_zip_of_too_many_files_or_with_a_password_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "x.zip", {"a.jsonl": ROWS, "b.jsonl": ROWS})
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 1)
    with pytest.raises(DataError) as caught:
        find_files([str(path)])
    assert caught.value.what == f"{path} holds 2 files; at most 1 are read"
    data = bytearray(zipped(tmp_path / "y.zip", {"a.jsonl": ROWS}).read_bytes())
    data[6] |= 1  # the flag of the member
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and that in the table of contents
    (tmp_path / "y.zip").write_bytes(data)
    with pytest.raises(DataError) as caught:
        find_files([str(tmp_path / "y.zip")])
    assert caught.value.what == f"{tmp_path / 'y.zip'} is locked with a password"


def test_a_zip_whose_member_is_broken_is_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.jsonl": ROWS * 50})
    data = bytearray(path.read_bytes())
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        rows_in(path)
    assert caught.value.what.startswith(f"{path}/a.jsonl cannot be read to its end: ")


def test_what_has_to_be_held_has_a_largest_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afina.data.read.records.LONGEST_TEXT", 100)
    assert len(list(records_of(ROWS * 10).items)) == 20
    error = problem_of(b"[" + b",".join(ROWS.splitlines() * 10) + b"]", "x.json")
    assert error.what == "x.json is larger than 100 B, and a file of its kind has to be held as a whole"
    assert "JSONL" in error.fix
