from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from afina.core.errors import DataError
from afina.data.read.files import find_files, look, paths_of
from afina.recipe.recipe import Files


def written(path: Path, content: bytes | str = "{}") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def names_of(*patterns: Path | str) -> list[str]:
    return [file.path.name for file in find_files([str(pattern) for pattern in patterns])]


def problem_of(*patterns: Path | str) -> DataError:
    with pytest.raises(DataError) as caught:
        find_files([str(pattern) for pattern in patterns])
    return caught.value


# ── patterns ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_of_a_pattern_come_sorted_and_no_file_twice(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.csv", ".hidden.jsonl"):
        written(tmp_path / name)
    assert names_of(tmp_path / "c.csv", tmp_path / "*.jsonl", tmp_path / "a.*") == ["c.csv", "a.jsonl", "b.jsonl"]


def test_two_stars_look_into_folders(tmp_path: Path) -> None:
    written(tmp_path / "x" / "y" / "a.jsonl")
    assert names_of(tmp_path / "**" / "*.jsonl") == ["a.jsonl"]


def test_a_name_with_brackets_is_a_name_where_such_a_file_is_there(tmp_path: Path) -> None:
    written(tmp_path / "faq[1].jsonl")
    assert names_of(tmp_path / "faq[1].jsonl") == ["faq[1].jsonl"]


def test_the_words_of_an_entry_stay_with_its_files(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl")
    entry = Files(files=str(tmp_path / "*.jsonl"), encoding="cp1252")
    assert [file.settings for file in find_files([entry])] == [entry]


def test_everything_that_is_not_there_is_named_at_once(tmp_path: Path) -> None:
    written(tmp_path / "train.jsonl")
    (tmp_path / "folder").mkdir()
    assert problem_of(*(tmp_path / name for name in ["trian.jsonl", "gone/a.csv", "folder", "*.csv"])).what.replace(
        str(tmp_path), "…"
    ).split("\n") == [
        "there is no file …/trian.jsonl; did you mean 'train.jsonl'?",
        "there is no file …/gone/a.csv; there is no folder …/gone either",
        "the folder …/folder holds no file that is read as examples",
        "no file matches …/*.csv",
    ]


def test_a_link_that_leads_to_itself_or_to_nothing_says_so(tmp_path: Path) -> None:
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nothing")
    assert problem_of(tmp_path / "loop.jsonl", tmp_path / "gone.jsonl").what.replace(str(tmp_path), "…").split("\n") == [
        "…/loop.jsonl is a link that leads to nothing, or to itself",
        "…/gone.jsonl is a link that leads to nothing, or to itself",
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with a name")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert problem_of(tmp_path / "pipe.jsonl").what == f"{tmp_path / 'pipe.jsonl'} is not a regular file"


# ── a look at each file ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        (b"", "is empty", "give a file with examples in it"),
        (b"\xef\xbb\xbf \n", "is empty", "give a file with examples in it"),
        (
            b"\xd0\xcf\x11\xe0rest",
            "is an old Excel or Word file, not examples",
            "save it from the spreadsheet program as .xlsx, or as CSV in UTF-8",
        ),
        (b"%PDF-1.7", "is a PDF document, not examples", "name it in data.documents"),
        (b"7z\xbc\xaf", "is a 7z archive, not examples", "unpack it first"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "is a pointer of Git LFS, not examples", "git lfs pull"),
    ],
)
def test_what_is_no_file_of_examples_is_named_with_a_remedy(tmp_path: Path, content: bytes, what: str, fix: str) -> None:
    error = problem_of(written(tmp_path / "a.csv", content))
    assert (error.what, error.fix) == (f"{tmp_path / 'a.csv'} {what}", fix)


def test_the_problems_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl", b"")
    written(tmp_path / "b.jsonl", b"%PDF")
    error = problem_of(tmp_path / "*.jsonl")
    assert error.what == f"{tmp_path / 'a.jsonl'} is empty\n{tmp_path / 'b.jsonl'} is a PDF document, not examples"
    assert error.fix == "give a file with examples in it\nname it in data.documents"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl")
    path.chmod(0)
    assert problem_of(path).what == f"{path} cannot be read: Permission denied"


def test_a_document_in_a_zip_is_told_to_be_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    error = problem_of(tmp_path / "a.docx")
    assert (error.what, error.fix) == (f"{tmp_path / 'a.docx'} is a document", "name it in data.documents")


# ── folders ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_searched_to_its_depth_and_what_is_not_read_is_told(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "x/a.csv.gz",
        "x/y/c.YAML",
        "README.md",
        "x/photo.png",
        ".git/d.jsonl",
        "e.json",
        "old.xls",
        "f.zip.gz",
    ):
        written(tmp_path / name, b"" if name == "e.json" else "{}")
    found = look([str(tmp_path)])
    assert [file.name.removeprefix(f"{tmp_path}/") for file in found.files] == ["b.jsonl", "x/a.csv.gz", "x/y/c.YAML"]
    assert all(file.sought for file in found.files)
    assert {file.name.removeprefix(f"{tmp_path}/"): file.reason for file in found.passed_over} == {
        "README.md": "tells about the others",
        "e.json": "is empty",
        "f.zip.gz": "not an ending that is read",
        "old.xls": "not an ending that is read",
        "x/photo.png": "not an ending that is read",
    }


def test_a_loop_of_links_between_folders_ends(tmp_path: Path) -> None:
    written(tmp_path / "a" / "x.jsonl")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "b").symlink_to(tmp_path / "a", target_is_directory=True)
    assert names_of(tmp_path) == ["x.jsonl"]


def test_a_pointer_of_git_lfs_in_a_folder_is_an_error(tmp_path: Path) -> None:
    written(tmp_path / "a.jsonl")
    written(tmp_path / "b.parquet", "version https://git-lfs.github.com/spec/v1\n")
    assert problem_of(tmp_path).what == f"{tmp_path / 'b.parquet'} is a pointer of Git LFS, not examples"


def test_a_folder_of_hugging_face_datasets_is_read_by_its_own_list(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"prompt": "a", "completion": "b"}])
    for name in ("data-00000-of-00001.arrow", "cache-1234.arrow"):
        (tmp_path / "train").mkdir(exist_ok=True)
        with pa.OSFile(str(tmp_path / "train" / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    written(tmp_path / "train" / "state.json", json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    written(tmp_path / "train" / "dataset_info.json")
    written(tmp_path / "dataset_dict.json", json.dumps({"splits": ["train"]}))
    found = look([str(tmp_path)])
    assert [file.path.name for file in found.files] == ["data-00000-of-00001.arrow"]
    assert {Path(file.name).name for file in found.passed_over} == {
        "cache-1234.arrow", "state.json", "dataset_info.json", "dataset_dict.json",
    }  # fmt: skip


def test_a_snapshot_of_the_hub_is_read_from_its_parquet_files(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"prompt": ["a"], "completion": ["b"]}), tmp_path / "data" / "train-00000-of-00001.parquet")
    written(tmp_path / "README.md", "# Card\n")
    written(tmp_path / ".gitattributes", "x")
    assert names_of(tmp_path) == ["train-00000-of-00001.parquet"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_export_of_slack_is_one_file(tmp_path: Path, packed: bool) -> None:
    export = tmp_path / "export"
    written(export / "users.json", "[]")
    written(export / "general" / "2024-01-31.json", "[]")
    written(export / "general" / "photo.png")
    if packed:
        shutil.make_archive(str(export), "zip", export)
    path = tmp_path / ("export.zip" if packed else "export")
    (file,) = find_files([str(path)])
    assert sorted(file.parts) == ["general/2024-01-31.json", "users.json"]
    on_disk = [path] if packed else [export / "general" / "2024-01-31.json", export / "users.json"]
    assert sorted(paths_of([file])) == on_disk


def test_the_files_on_the_disk_are_listed_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jsonl", "{}")
        archive.writestr("b.jsonl", "{}")
    files = find_files([str(tmp_path / "x.zip"), str(written(tmp_path / "c.jsonl"))])
    assert len(files) == 3
    assert paths_of(files) == [tmp_path / "x.zip", tmp_path / "c.jsonl"]
