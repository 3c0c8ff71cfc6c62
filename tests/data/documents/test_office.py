"""DOCX and PPTX as python-docx and python-pptx write them, with what only Word writes put in by hand."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import docx
import pptx
import pytest
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from afina.core.errors import DataError
from afina.data.documents import package
from afina.data.documents.read import read_document
from afina.data.documents.word import read_docx

FILES = Path("rag-office-misc/packages/markitdown/tests/test_files")


def paragraph(inner: str) -> object:
    return parse_xml(f"<w:p {nsdecls('w')}>{inner}</w:p>")


def test_headings_lists_and_tables_stand_in_their_order(tmp_path: Path) -> None:
    file = docx.Document()
    file.add_paragraph("Before all headings.")
    file.add_heading("Horarios", 1)
    file.add_heading("Verano", 2)
    for text in ("Lunes", "Martes"):
        file.add_paragraph(text, style="List Bullet")
    for text in ("Abrir", "Cerrar"):
        file.add_paragraph(text, style="List Number")
    table = file.add_table(2, 2)
    for cell, text in zip((cell for row in table.rows for cell in row.cells), ("Día", "Hora", "Lunes", "9 | 14")):
        cell.text = text
    file.add_heading("Invierno", 2)
    file.add_paragraph("Cerrado.")
    file.save(str(tmp_path / "a.docx"))
    document = read_docx(tmp_path / "a.docx")
    assert [passage.place for passage in document.passages] == [
        *("beginning", "§ Horarios", "§ Horarios > Verano", "§ Horarios > Invierno"),
    ]
    assert document.passages[2].text == (
        "## Verano\n\n- Lunes\n\n- Martes\n\n1. Abrir\n\n2. Cerrar\n\n| Día | Hora |\n|---|---|\n| Lunes | 9 \\| 14 |"
    )
    assert document.title == "Horarios"


def test_inserted_text_is_read_deleted_text_is_not_and_both_are_told(tmp_path: Path) -> None:
    file = docx.Document()
    file.element.body.insert(
        0,
        paragraph(
            "<w:r><w:t xml:space='preserve'>The price is </w:t></w:r>"
            "<w:del w:id='1' w:author='x'><w:r><w:delText>10</w:delText></w:r></w:del>"
            "<w:ins w:id='2' w:author='x'><w:r><w:t>12</w:t></w:r></w:ins><w:r><w:t xml:space='preserve'> euros.</w:t></w:r>"
        ),
    )
    file.save(str(tmp_path / "a.docx"))
    document = read_docx(tmp_path / "a.docx")
    assert document.passages[0].text == "The price is 12 euros."
    assert document.notices == ("2 tracked changes: inserted text is read, deleted text is not",)


def test_text_in_content_controls_and_boxes_is_read_once(tmp_path: Path) -> None:
    file = docx.Document()
    box = "<w:txbxContent><w:p><w:r><w:t>In the box.</w:t></w:r></w:p></w:txbxContent>"
    mc = "xmlns:mc='http://schemas.openxmlformats.org/markup-compatibility/2006'"
    drawn = f"<w:r><mc:AlternateContent {mc}><mc:Choice Requires='wps'>{box}</mc:Choice><mc:Fallback>{box}</mc:Fallback>"
    file.element.body.insert(0, paragraph(f"<w:r><w:t>Around it.</w:t></w:r>{drawn}</mc:AlternateContent></w:r>"))
    control = f"<w:sdt {nsdecls('w')}><w:sdtContent><w:p><w:r><w:t>In the control.</w:t></w:r></w:p></w:sdtContent></w:sdt>"
    file.element.body.insert(1, parse_xml(control))
    file.save(str(tmp_path / "a.docx"))
    assert read_docx(tmp_path / "a.docx").passages[0].text == "Around it.\n\nIn the box.\n\nIn the control."


def test_the_head_of_the_pages_is_left_out_and_told(tmp_path: Path) -> None:
    file = docx.Document()
    file.add_paragraph("Text.")
    file.sections[0].header.paragraphs[0].text = "Confidential"
    file.save(str(tmp_path / "a.docx"))
    assert read_docx(tmp_path / "a.docx").notices == ("the head and foot of the pages left out",)


def test_a_real_file_with_comments_tells_how_many(shared_data: Path) -> None:
    assert read_document(shared_data / FILES / "test_with_comment.docx").notices == ("2 comments left out",)


def test_fractions_and_powers_of_equations_stay_readable(shared_data: Path) -> None:
    text = "\n".join(passage.text for passage in read_document(shared_data / FILES / "equations.docx").passages)
    assert "(mλ)/(a)" in text
    assert "10^(-6)" in text


def test_slides_have_their_titles_texts_tables_charts_and_notes(tmp_path: Path) -> None:
    file = pptx.Presentation()
    slide = file.slides.add_slide(file.slide_layouts[5])
    slide.shapes.title.text = "Prices"
    table = slide.shapes.add_table(2, 2, Inches(1), Inches(3), Inches(4), Inches(1)).table
    for cell, text in zip((cell for row in table.rows for cell in row.cells), ("Tool", "Price", "Saw", "8")):
        cell.text = text
    group = slide.shapes.add_group_shape()
    group.shapes.add_textbox(Inches(1), Inches(1.5), Inches(2), Inches(1)).text_frame.text = "In a group"
    data = CategoryChartData()  # type: ignore[no-untyped-call]
    data.categories = ["2024", "2025"]
    data.add_series("Sold", (10, 12.5))  # type: ignore[no-untyped-call]
    slide.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, Inches(1), Inches(5), Inches(4), Inches(2), data)
    slide.notes_slide.notes_text_frame.text = "Say it slowly."
    file.slides.add_slide(file.slide_layouts[6])
    file.save(str(tmp_path / "a.pptx"))
    document = read_document(tmp_path / "a.pptx")
    assert [passage.place for passage in document.passages] == ["slide 1"]
    assert document.passages[0].text == (
        "# Prices\n\nIn a group\n\n| Tool | Price |\n|---|---|\n| Saw | 8 |\n\n"
        "|  | Sold |\n|---|---|\n| 2024 | 10 |\n| 2025 | 12.5 |\n\n> Say it slowly."
    )


def rewritten(path: Path, target: Path, part: str, content: bytes) -> Path:
    """The archive with one of its parts replaced."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, content if name == part else old.read(name))
    return target


@pytest.fixture
def letter(tmp_path: Path) -> Path:
    file = docx.Document()
    file.add_paragraph("A letter.")
    file.save(str(tmp_path / "letter.docx"))
    return tmp_path / "letter.docx"


def test_entities_are_refused(letter: Path, tmp_path: Path) -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><x>&b;</x>'
    with pytest.raises(DataError, match="bomb.docx: word/document.xml defines entities"):
        read_document(rewritten(letter, tmp_path / "bomb.docx", "word/document.xml", bomb))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(letter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "MOST_UNPACKED", 1_000_000)
    bomb = rewritten(letter, tmp_path / "bomb.docx", "word/document.xml", b"<x>" + b" " * 2_000_000 + b"</x>")
    assert bomb.stat().st_size < 100_000
    with pytest.raises(DataError, match=r"bomb.docx unpacks to .* a document may have 977 KiB"):
        read_document(bomb)


@pytest.mark.parametrize("part", ["word/document.xml", "[Content_Types].xml", "word/styles.xml", "word/_rels/document.xml.rels"])
@pytest.mark.parametrize("content", [b"", b"<broken", b"\0\1\2", b"<x/>"])
def test_a_damaged_part_is_told_and_no_traceback(letter: Path, tmp_path: Path, part: str, content: bytes) -> None:
    path = rewritten(letter, tmp_path / "damaged.docx", part, content)
    try:
        assert read_document(path).passages
    except DataError as error:
        assert "damaged.docx" in error.what


def test_a_cut_archive_is_told(letter: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.docx").write_bytes(letter.read_bytes()[:2000])
    with pytest.raises(DataError, match="cut.docx is broken"):
        read_document(tmp_path / "cut.docx")


def test_a_docx_with_a_password_is_told(tmp_path: Path) -> None:
    content = io.BytesIO(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + "EncryptedPackage".encode("utf-16-le"))
    (tmp_path / "locked.docx").write_bytes(content.getvalue())
    with pytest.raises(DataError, match="locked.docx has a password"):
        read_document(tmp_path / "locked.docx")
