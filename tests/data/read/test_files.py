from __future__ import annotations

import os
from pathlib import Path

import pytest

from afina.core.errors import DataError
from afina.data.read.files import find_files, read_texts


def problem_of(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        read_texts(find_files([str(path)]))
    return caught.value


def test_files_of_a_pattern_come_sorted_and_no_file_twice(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv", ".hidden.jsonl"):
        (tmp_path / name).write_text("{}")
    found = find_files([str(tmp_path / "c.csv"), str(tmp_path / "*.jsonl"), str(tmp_path / "a.*")])
    assert [path.name for path in found] == ["c.csv", "a.jsonl", "b.jsonl"]


def test_two_stars_look_into_folders(tmp_path: Path) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)
    (tmp_path / "x" / "y" / "a.jsonl").write_text("{}")
    assert [path.name for path in find_files([str(tmp_path / "**" / "*.jsonl")])] == ["a.jsonl"]


def test_a_name_with_brackets_is_a_name_where_such_a_file_is_there(tmp_path: Path) -> None:
    (tmp_path / "faq[1].jsonl").write_text("{}")
    assert [path.name for path in find_files([str(tmp_path / "faq[1].jsonl")])] == ["faq[1].jsonl"]


def test_everything_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("{}")
    (tmp_path / "folder").mkdir()
    wanted = ["trian.jsonl", "gone/a.csv", "folder", "*.csv"]
    with pytest.raises(DataError) as caught:
        find_files([str(tmp_path / name) for name in wanted])
    assert caught.value.what.replace(str(tmp_path), "…").split("\n") == [
        "there is no file …/trian.jsonl; did you mean 'train.jsonl'?",
        "there is no file …/gone/a.csv; there is no folder …/gone either",
        "…/folder is a folder",
        "no file matches …/*.csv",
    ]
    assert caught.value.fix == (
        f"correct data.examples in the recipe\nname its files in data.examples: {tmp_path / 'folder' / '*.jsonl'}"
    )


def test_a_link_that_leads_to_itself_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    assert problem_of(tmp_path / "loop.jsonl").what == f"there is no file {tmp_path / 'loop.jsonl'}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert problem_of(tmp_path / "pipe.jsonl").what == f"{tmp_path / 'pipe.jsonl'} is not a regular file"


@pytest.mark.parametrize("content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf\n"])
def test_a_file_without_text_is_empty(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    error = problem_of(path)
    assert (error.what, error.fix) == (f"{path} is empty", "give a file with examples in it")


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b'{"a": 1}\n\x00\x01', "PATH:2: byte 10 is zero: the file is binary", "give examples as JSONL, JSON or CSV in UTF-8"),
        (
            b'{"a": "b"}\n{"a": "caf\xe9"}',
            "PATH:2: byte 22 (0xe9) is not UTF-8",
            "convert it, for example from Windows: iconv -f WINDOWS-1252 -t UTF-8 PATH > NEW",
        ),
        (b"\xef\xbb\xbfa;b\n\xf1", "PATH:2: byte 8 (0xf1) is not UTF-8", None),
        ("ñ".encode("utf-16"), "PATH:1: the text is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 PATH > NEW"),
        (
            b"PK\x03\x04rest",
            "PATH is a zip archive (Excel and Word files are such), not text",
            "save it from the spreadsheet program as CSV in UTF-8",
        ),
        (b"\x1f\x8brest", "PATH is compressed with gzip, not text", "gunzip -k PATH"),
        (b"%PDF-1.7", "PATH is a PDF document, not text", "give examples as JSONL, JSON or CSV in UTF-8"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "PATH is a pointer of Git LFS, not text", "git lfs pull"),
        (b"PAR1rest", "PATH is Parquet, not text", None),
    ],
)
def test_what_is_no_text_is_named_with_its_line_and_a_remedy(tmp_path: Path, content: bytes, what: str, fix: str | None) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    error = problem_of(path)
    assert error.what == what.replace("PATH", str(path))
    if fix is not None:
        assert error.fix == fix.replace("PATH", str(path)).replace("NEW", str(tmp_path / "a.utf8.csv"))


def test_the_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(b"\x1f\x8b")
    error = problem_of(tmp_path / "*.jsonl")
    assert error.what == f"{tmp_path / 'a.jsonl'} is empty\n{tmp_path / 'b.jsonl'} is compressed with gzip, not text"
    assert error.fix == f"give a file with examples in it\ngunzip -k {tmp_path / 'b.jsonl'}"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    path.chmod(0)
    assert problem_of(path).what == f"{path} cannot be read: Permission denied"


def test_a_byte_order_mark_is_taken_off_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffñ \ufeff\r\n".encode())
    assert [file.text for file in read_texts([tmp_path / "a.csv"])] == ["ñ \ufeff\r\n"]
