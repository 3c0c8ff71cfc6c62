"""PDF: text in the order in which one reads it, and each way in which a file has none."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from afina.core.errors import DataError
from afina.data.documents.pdf import read_pdf
from tests.data.documents.paper import column, write_pdf

LEFT = [
    "The left column tells of the shop, of its",
    "opening hours and of the people who work",
    "there on weekdays and at weekends, and of",
    "what they like best in their long days of",
    "work behind the old counter by the door",
    "that no one has ever seen closed before.",
]
RIGHT = [line.replace("left", "right").replace("shop", "garden") for line in LEFT]
FILES = Path("rag-office-misc/packages/markitdown/tests/test_files")


def texts(path: Path) -> list[str]:
    return [passage.text for passage in read_pdf(path).passages]


def test_lines_that_fill_the_column_become_flowing_text_and_short_ones_stay_lines(tmp_path: Path) -> None:
    path = write_pdf(
        tmp_path / "a.pdf", [column([*LEFT[:3], "and it ends."]) + column(["Main Street 4", "Springfield"], top=600)]
    )
    assert texts(path) == [" ".join(LEFT[:3]) + " and it ends.\n\nMain Street 4\nSpringfield"]


def test_a_word_cut_at_the_end_of_a_line_is_joined(tmp_path: Path) -> None:
    lines = ["This is a very long sentence about pro-", "gramming, and it names the well-known", "and well-", "known methods."]
    text = texts(write_pdf(tmp_path / "a.pdf", [column(lines)]))[0]
    assert "programming" in text
    assert text.count("well-known") == 2


def test_columns_are_read_one_after_the_other_and_what_spans_them_stands_between(tmp_path: Path) -> None:
    page = [
        (72, 790, 20, "A heading across both of the columns here"),
        *column(LEFT, left=40),
        *column(RIGHT, left=320, top=737),
        *column(["This closing line reaches across the two columns, from one edge to the other edge of it."], left=40, top=500),
    ]
    text = texts(write_pdf(tmp_path / "a.pdf", [page]))[0]
    order = ["# A heading", "The left column", "closed before.", "The right column", "closed before.", "This closing line"]
    places = [text.index(part, 0) for part in (order[0], order[1], order[3], order[5])]
    assert places == sorted(places)
    assert text.index("ever seen closed before") < text.index("The right column")


def test_rows_with_wide_gaps_become_a_table_with_its_empty_cells(tmp_path: Path) -> None:
    rows = [("Tool", "Price", "Stock"), ("Hammer", "12.50", "8"), ("Saw", "", "3"), ("Drill", "49.00", "")]
    words = [(72 + 120 * x, 700 - 16 * y, 11, cell) for y, row in enumerate(rows) for x, cell in enumerate(row) if cell]
    assert texts(write_pdf(tmp_path / "a.pdf", [words]))[0].splitlines() == [
        "| Tool | Price | Stock |",
        "|---|---|---|",
        "| Hammer | 12.50 | 8 |",
        "| Saw |  | 3 |",
        "| Drill | 49.00 |  |",
    ]


def test_an_items_number_belongs_to_its_text_and_makes_no_table(tmp_path: Path) -> None:
    words = [
        (72.0, 700.0, 11.0, "1."),
        (110.0, 700.0, 11.0, "Open the box."),
        (72.0, 684.0, 11.0, "2."),
        (110.0, 684.0, 11.0, "Read."),
    ]
    assert texts(write_pdf(tmp_path / "a.pdf", [words])) == ["1. Open the box.\n\n2. Read."]


def test_running_heads_are_left_out_and_counted_while_real_lines_stay(tmp_path: Path) -> None:
    pages = [
        [(72, 810, 9, "Manual of the shop"), *column([f"What is said on sheet {word}."]), (280, 30, 9, f"{number} of 4")]
        for number, word in enumerate(("one", "two", "three", "four"), 1)
    ]
    document = read_pdf(write_pdf(tmp_path / "a.pdf", pages))
    assert [passage.text for passage in document.passages] == [
        f"What is said on sheet {word}." for word in ("one", "two", "three", "four")
    ]
    assert [passage.place for passage in document.passages] == ["page 1", "page 2", "page 3", "page 4"]
    assert document.notices == ("8 running heads and feet of pages left out",)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_page_reads_as_an_upright_one(tmp_path: Path, turn: int) -> None:
    page = column([*LEFT[:3], "and it ends."], top=400)
    assert texts(write_pdf(tmp_path / "a.pdf", [page], rotate=turn)) == texts(write_pdf(tmp_path / "b.pdf", [page]))


def test_the_title_is_the_files_own_unless_it_says_nothing(tmp_path: Path) -> None:
    assert read_pdf(write_pdf(tmp_path / "a.pdf", [column(LEFT)], title="Opening hours")).title == "Opening hours"
    assert read_pdf(write_pdf(tmp_path / "b.pdf", [column(LEFT)], title="untitled")).title == ""


def test_a_password_is_told(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "locked.pdf", [column(LEFT)], password="secret")
    with pytest.raises(DataError, match="locked.pdf has a password") as error:
        read_pdf(path)
    assert "qpdf" in error.value.fix


def test_a_page_without_text_is_named_and_a_scan_is_refused(tmp_path: Path) -> None:
    assert read_pdf(write_pdf(tmp_path / "a.pdf", [column(LEFT), []])).notices == ("pages without text (pictures?): 2",)
    with pytest.raises(DataError, match="scan.pdf is a scan: its 2 pages are pictures"):
        read_pdf(write_pdf(tmp_path / "scan.pdf", [[], []]))


@pytest.mark.parametrize(
    "content", [b"%PDF-1.4 and no more", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<</Root 1 0 R>>\n%%EOF"]
)
def test_a_broken_file_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(DataError, match="a.pdf is broken"):
        read_pdf(tmp_path / "a.pdf")


def words_of(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize(
    "name",
    [
        "RECEIPT-2024-TXN-98765_retail_purchase",
        "REPAIR-2022-INV-001_multipage",
        "SPARSE-2024-INV-1234_borderless_table",
        "movie-theater-booking-2024",
        "test",
    ],
)
def test_every_word_that_another_reader_finds_is_found(shared_data: Path, name: str) -> None:
    expected = words_of((shared_data / FILES / "expected_outputs" / f"{name}.md").read_text(encoding="utf-8"))
    found = words_of("\n".join(texts(shared_data / FILES / f"{name}.pdf")))
    recall = sum((expected & found).values()) / sum(expected.values())
    assert recall >= (0.97 if name == "test" else 1.0)  # in test.pdf the other reader leaves the words cut that we join


def test_words_cut_in_a_real_paper_are_joined(shared_data: Path) -> None:
    text = texts(shared_data / FILES / "test.pdf")[0]
    for word in ("confirming", "reasoning", "programming", "potentially", "multi-agent"):
        assert word in text
    assert "\x02" not in text


def test_a_real_scan_is_told(shared_data: Path) -> None:
    with pytest.raises(DataError, match="is a scan: its 3 pages"):
        read_pdf(shared_data / FILES / "MEDRPT-2024-PAT-3847_medical_report_scan.pdf")
