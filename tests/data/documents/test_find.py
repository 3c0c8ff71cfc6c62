"""Which documents are found, which are told, and which kinds are refused with a way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from afina.core.errors import DataError
from afina.data.documents.find import find_documents, passed_over
from afina.data.documents.read import read_document

FILES = Path("rag-office-misc/packages/markitdown/tests/test_files")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.md", "a.txt", "inner/c.html", "inner/data.csv", ".hidden.md", "~$open.docx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Text.", encoding="utf-8")
    return tmp_path


def test_a_folder_gives_its_documents_and_names_the_rest(folder: Path) -> None:
    assert [path.name for path in find_documents([str(folder)])] == ["a.txt", "b.md", "c.html"]
    assert [path.name for path in passed_over([str(folder)])] == ["data.csv"]


def test_files_patterns_and_folders_give_each_file_once_in_their_order(folder: Path) -> None:
    found = find_documents([str(folder / "b.md"), str(folder / "*.txt"), str(folder), str(folder / "**" / "*.html")])
    assert [path.name for path in found] == ["b.md", "a.txt", "c.html"]


def test_a_loop_of_links_ends(folder: Path) -> None:
    (folder / "inner" / "round").symlink_to(folder)
    (folder / "self.md").symlink_to(folder / "self.md")
    assert [path.name for path in find_documents([str(folder)])] == ["a.txt", "b.md", "c.html"]


def test_all_problems_are_told_at_once(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "gone.md").symlink_to(folder / "nowhere")
    wanted = [str(folder / name) for name in ("b.dm", "*.pdf", "empty", "gone.md")]
    with pytest.raises(DataError) as error:
        find_documents(wanted)
    first, second, third, fourth = error.value.what.split("\n")
    assert "did you mean 'b.md'?" in first
    assert "no file matches" in second
    assert "empty holds no document" in third
    assert "gone.md is a link that leads nowhere" in fourth


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("random.bin", "none of the kinds"),
        ("test.json", "a table or a list of rows"),
        ("test.xlsx", "a table or a list of rows"),
        ("test_mskanji.csv", "a table or a list of rows"),
        ("test.xls", "an old Office file"),
        ("test_outlook_msg.msg", "an old Office file"),
        ("test_files.zip", "an archive"),
        ("test_rss.xml", "none of the kinds"),
        ("test_notebook.ipynb", "none of the kinds"),
        ("MEDRPT-2024-PAT-3847_medical_report_scan.pdf", "is a scan"),
    ],
)
def test_each_real_file_that_is_not_read_says_why_by_name(shared_data: Path, name: str, what: str) -> None:
    with pytest.raises(DataError, match=what) as error:
        read_document(shared_data / FILES / name)
    assert name in error.value.what
    assert error.value.fix


def test_all_other_real_files_are_read(shared_data: Path) -> None:
    names = ("equations.docx", "rlink.docx", "test.docx", "test_with_comment.docx", "test.pptx", "test.epub", "test.pdf")
    for name in names:
        assert read_document(shared_data / FILES / name).passages


def test_a_pointer_of_git_lfs_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", encoding="ascii")
    with pytest.raises(DataError, match="a pointer of Git LFS") as error:
        read_document(tmp_path / "a.pdf")
    assert error.value.fix == "git lfs pull"


@pytest.mark.parametrize("name", ["a.pdf", "a.docx", "a.pptx", "a.epub"])
def test_a_file_with_a_wrong_ending_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Just text.", encoding="utf-8")
    with pytest.raises(DataError, match="it does not begin as such a file does"):
        read_document(tmp_path / name)


def test_the_content_decides_where_the_ending_is_wrong(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.doc").write_bytes((shared_data / FILES / "test.docx").read_bytes())
    assert read_document(tmp_path / "letter.doc").title.startswith("AutoGen")


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_an_empty_document_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.md").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match="a.md has no text"):
        read_document(tmp_path / "a.md")
