"""HTML and EPUB: the main text and nothing around it."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from afina.core.errors import DataError
from afina.data.documents.read import read_document

FILES = Path("rag-office-misc/packages/markitdown/tests/test_files")

PAGE = """<!doctype html><html><head><title>Shop – hours</title><style>p {}</style></head><body>
<header><a href="/">Home</a></header><nav><ul><li><a>Menu one</a></li><li><a>Menu two</a></li></ul></nav>
<main><h1>Opening   hours</h1><p>We are <b>open</b><br>on weekdays.</p><script>var x = "no";</script>
<ul><li>Monday<ul><li>morning</li></ul></li><li>Tuesday</li></ul><ol><li>Ring</li><li>Wait</li></ol>
<table><caption>Hours</caption><tr><th>Day</th><th>From</th></tr><tr><td>Monday</td><td>9</td></tr></table>
<pre>line one
  line two</pre><p hidden>secret</p><div style="display: none">unseen</div>
<h2>Sum&shy;mer</h2><p>Closed in August &amp; September.</p></main>
<footer>© Shop</footer></body></html>"""


def page(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    (folder / "page.html").write_bytes(text.encode(encoding))
    return folder / "page.html"


def test_the_main_text_is_read_in_its_order_as_markdown(tmp_path: Path) -> None:
    document = read_document(page(tmp_path, PAGE))
    assert document.title == "Shop – hours"
    assert [passage.place for passage in document.passages] == ["§ Opening hours", "§ Opening hours > Summer"]
    assert document.passages[0].text == (
        "# Opening hours\n\nWe are open\non weekdays.\n\n- Monday\n  - morning\n- Tuesday\n\n1. Ring\n2. Wait\n\nHours\n\n"
        "| Day | From |\n|---|---|\n| Monday | 9 |\n\n```\nline one\n  line two\n```"
    )
    assert document.passages[1].text == "## Summer\n\nClosed in August & September."


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    text = "<nav>" + "word " * 40 + "</nav><p>Text.</p>"
    assert read_document(page(tmp_path, text)).notices == ("about 40 words left out: menus, heads and feet of the page",)
    assert read_document(page(tmp_path, "<p>Text.</p>")).notices == ()


def test_a_long_list_of_links_is_a_menu_and_a_list_with_text_is_not(tmp_path: Path) -> None:
    links = "".join(f"<li><a>entry {number}</a></li>" for number in range(10))
    items = "".join(f"<li><a>entry</a> and what it says {number}</li>" for number in range(10))
    assert read_document(page(tmp_path, f"<p>Text.</p><ul>{links}</ul>")).passages[0].text == "Text."
    assert "what it says 9" in read_document(page(tmp_path, f"<p>Text.</p><ul>{items}</ul>")).passages[0].text


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-8-sig"])
def test_pages_in_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    declared = '<meta charset="windows-1252">' if encoding == "cp1252" else ""
    assert read_document(page(tmp_path, f"{declared}<p>¿Cuánto cuesta el año?</p>", encoding)).passages[0].text == (
        "¿Cuánto cuesta el año?"
    )


def test_a_page_that_lies_about_its_encoding_is_read(tmp_path: Path) -> None:
    text = '<meta charset="utf-8"><p>' + "El niño comió en el jardín de la señora. " * 5 + "</p>"
    assert "jardín de la señora" in read_document(page(tmp_path, text, "cp1252")).passages[0].text


def test_a_page_nested_too_deeply_is_refused_and_not_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nested too deeply"):
        read_document(page(tmp_path, "<div>" * 5000 + "the end"))


@pytest.mark.parametrize("text", ["", "   ", "<html></html>", "<!-- nothing -->", "<script>var x;</script>"])
def test_a_page_without_text_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="page.html has no text"):
        read_document(page(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "word"), [("test_blog.html", "budget"), ("test_wikipedia.html", "Paul Allen"), ("test_serp.html", "Windows")]
)
def test_real_pages_are_read(shared_data: Path, name: str, word: str) -> None:
    document = read_document(shared_data / FILES / name)
    text = "\n".join(passage.text for passage in document.passages)
    assert word in text
    assert "function(" not in text
    assert "left out" in document.notices[0]


CONTAINER = '<container><rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
CHAPTER = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body>{}</body></html>'


def book(path: Path, chapters: dict[str, str], *, spine: list[str] | None = None, encrypted: str = "") -> Path:
    items = "".join(f'<item id="{name}" href="{name}.xhtml"/>' for name in chapters)
    order = "".join(f'<itemref idref="{name}"/>' for name in spine or chapters)
    package = f'<package xmlns="x"><metadata><title>The book</title></metadata><manifest>{items}</manifest><spine>{order}</spine>'
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", package + "</package>")
        if encrypted:
            archive.writestr("META-INF/encryption.xml", f'<e><CipherReference URI="{encrypted}"/></e>')
        for name, text in chapters.items():
            archive.writestr(f"OEBPS/{name}.xhtml", CHAPTER.format(text))
    return path


def test_chapters_come_in_the_order_of_the_spine(tmp_path: Path) -> None:
    path = book(tmp_path / "a.epub", {"b": "<h1>Second</h1><p>Two.</p>", "a": "<h1>First</h1><p>One.</p>"}, spine=["a", "b"])
    document = read_document(path)
    assert document.title == "The book"
    assert [(passage.place, passage.text) for passage in document.passages] == [
        ("§ First", "# First\n\nOne."),
        ("§ Second", "# Second\n\nTwo."),
    ]


def test_a_locked_book_is_told_and_locked_letters_do_no_harm(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="locked.epub is locked by its shop"):
        read_document(book(tmp_path / "locked.epub", {"a": "<p>x</p>"}, encrypted="OEBPS/a.xhtml"))
    assert read_document(book(tmp_path / "font.epub", {"a": "<p>Text.</p>"}, encrypted="OEBPS/font.ttf")).passages


def test_a_missing_chapter_is_told(tmp_path: Path) -> None:
    path = book(tmp_path / "a.epub", {"a": "<p>x</p>"})
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.epub", "w") as new:
        for name in old.namelist():
            if not name.endswith("a.xhtml"):
                new.writestr(name, old.read(name))
    with pytest.raises(DataError, match="b.epub is broken: its chapter OEBPS/a.xhtml is missing"):
        read_document(tmp_path / "b.epub")


def test_a_real_book_is_read(shared_data: Path) -> None:
    document = read_document(shared_data / FILES / "test.epub")
    assert [passage.place for passage in document.passages] == ["§ Chapter 1: Test Content", "§ Chapter 2: More Content"]
