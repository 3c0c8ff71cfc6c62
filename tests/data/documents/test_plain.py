"""Markdown and text: as they are, with the places where the user finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from afina.core.errors import DataError
from afina.data.documents.read import read_document


def written(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_markdown_is_parted_at_its_headings_and_stays_as_it_is(tmp_path: Path) -> None:
    text = "Intro.\n\n# Tienda\n\nTexto *suyo*.\n\n```\n# no heading\n```\n\nHorarios\n--------\n\n- Lunes\n\n# Otra\nFin."
    document = read_document(written(tmp_path / "a.md", text))
    assert [passage.place for passage in document.passages] == ["beginning", "§ Tienda", "§ Tienda > Horarios", "§ Otra"]
    assert "\n\n".join(passage.text for passage in document.passages).split() == text.split()
    assert document.title == "Tienda"


def test_front_matter_gives_the_title_and_is_told(tmp_path: Path) -> None:
    document = read_document(written(tmp_path / "a.md", '---\ntitle: "The shop"\ntags: [a]\n---\nText.'))
    assert (document.title, document.passages[0].text) == ("The shop", "Text.")
    assert document.notices == ("the lines between --- at the top left out",)


def test_text_is_parted_at_empty_lines_with_the_line_on_which_each_part_begins(tmp_path: Path) -> None:
    document = read_document(written(tmp_path / "a.txt", "One.\nStill one.\n\n \n\nTwo.\r\n\r\nThree."))
    assert [(passage.place, passage.text) for passage in document.passages] == [
        ("line 1", "One.\nStill one."),
        ("line 6", "Two."),
        ("line 8", "Three."),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_text_in_other_encodings_is_read(tmp_path: Path, encoding: str) -> None:
    text = "El año pasado la señora Núñez comió en el jardín. Después volvió a su casa, que está junto al río."
    assert read_document(written(tmp_path / "a.txt", text, encoding)).passages[0].text == text


def test_bytes_that_are_no_text_are_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match=r"a\.txt: "):
        read_document(tmp_path / "a.txt")


def test_all_articles_and_the_tender_are_read(shared_data: Path) -> None:
    paths = [*shared_data.glob("rag-xquad/docs-*/*.md"), *shared_data.glob("rag-es-licitacion/data/raw/web/*.md")]
    assert len(paths) > 100
    for path in paths:
        document = read_document(path)
        assert document.title
        assert document.notices == ()
        found = "\n".join(passage.text for passage in document.passages).split()
        assert found == path.read_text(encoding="utf-8").split()
