"""Chunks: of the wanted size, cut where a reader would, and with every word."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.data.documents.chunks import LONGEST, SHORTEST, chunk
from afina.data.documents.document import Document, Passage
from afina.data.documents.read import read_document

SENTENCE = "The shop is open on weekdays from nine to two."


def document(*texts: str) -> Document:
    passages = tuple(Passage(text, f"page {number}") for number, text in enumerate(texts, 1))
    return Document("a.pdf", "A", passages)


def holds_in_order(words: Iterable[str], text: str) -> bool:
    found = iter(text.split())
    return all(word in found for word in words)


def test_a_short_document_is_one_chunk_with_its_name_and_place() -> None:
    (only,) = chunk(document("# Hours\n\n" + SENTENCE), 400)
    assert (only.text, only.document, only.title, only.place, only.number) == (
        "# Hours\n\n" + SENTENCE,
        "a.pdf",
        "A",
        "page 1",
        1,
    )


def test_several_short_pages_share_a_chunk_that_names_both_ends() -> None:
    (only,) = chunk(document(SENTENCE, SENTENCE, SENTENCE), 200)
    assert only.place == "page 1 – page 3"


def test_a_long_paragraph_is_cut_between_sentences_evenly() -> None:
    chunks = list(chunk(document(" ".join([SENTENCE] * 40)), 300))
    assert all(piece.text.startswith("The shop") and piece.text.endswith("two.") for piece in chunks)
    assert all(SHORTEST * 300 <= len(piece.text) <= LONGEST * 300 for piece in chunks)
    assert " ".join(piece.text for piece in chunks) == " ".join([SENTENCE] * 40)


def test_a_heading_stays_with_its_text() -> None:
    text = "\n\n".join(f"## Part {number}\n\n" + " ".join([SENTENCE] * 4) for number in range(12))
    chunks = list(chunk(document(text), 230))
    assert all(re.match("## Part", piece.text) for piece in chunks)
    assert not any(re.search(r"## Part \d+$", piece.text) for piece in chunks)


def test_a_table_is_cut_between_rows_and_each_part_has_its_head() -> None:
    rows = "\n".join(f"| tool {number} | {number} euros, and some more words |" for number in range(60))
    chunks = list(chunk(document("Prices:\n\n| Tool | Price |\n|---|---|\n" + rows), 400))
    assert len(chunks) > 3
    for piece in chunks[1:]:
        assert piece.text.startswith("| Tool | Price |\n|---|---|\n| tool")
    for line in "\n".join(piece.text for piece in chunks).split("\n"):
        assert not line.startswith("|") or line.endswith("|")
    assert holds_in_order(rows.split(), "\n".join(piece.text for piece in chunks))


def test_abbreviations_end_no_sentence() -> None:
    text = " ".join(["El Sr. García vive en la Av. Mayor núm. 4 de EE. UU. desde siempre."] * 30)
    for piece in chunk(document(text), 200):
        assert piece.text.startswith("El Sr.")
        assert piece.text.endswith("siempre.")


def test_code_keeps_its_lines() -> None:
    code = "```\n" + "\n".join(f"    call_{number}(first, second)" for number in range(80)) + "\n```"
    text = "\n".join(piece.text for piece in chunk(document(code), 300))
    assert text == code


def test_a_word_longer_than_a_chunk_is_not_cut() -> None:
    chunks = list(chunk(document("before " + "x" * 3000 + " after"), 200))
    assert any("x" * 3000 in piece.text for piece in chunks)


def test_many_tiny_lines_are_joined_and_all_there() -> None:
    chunks = list(chunk(document("12\n" * 50_000), 1000))
    assert sum(piece.text.count("12") for piece in chunks) == 50_000


WORDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=30)
BLOCK = st.lists(WORDS, min_size=1, max_size=25).map(" ".join)
TEXTS = st.lists(
    st.lists(st.one_of(BLOCK, BLOCK.map("## {}".format), BLOCK.map("- {}".format)), min_size=1).map("\n\n".join), min_size=1
)


@settings(max_examples=25)
@given(TEXTS, st.integers(50, 500))
def test_no_word_is_lost_cut_or_moved(texts: list[str], characters: int) -> None:
    chunks = list(chunk(document(*texts), characters))
    assert " ".join(piece.text for piece in chunks).split() == " ".join(texts).split()
    assert [piece.number for piece in chunks] == list(range(1, len(chunks) + 1))


@pytest.mark.parametrize("characters", [400, 1200])
def test_real_documents_give_chunks_of_the_wanted_size(shared_data: Path, characters: int) -> None:
    paths = [*shared_data.glob("rag-xquad/docs-es/*.md"), *shared_data.glob("rag-es-licitacion/data/raw/web/*.md")]
    sizes = []
    for path in paths:
        read = read_document(path)
        chunks = list(chunk(read, characters))
        words = "\n".join(passage.text for passage in read.passages).split()
        assert holds_in_order(words, "\n".join(piece.text for piece in chunks))
        sizes += [len(piece.text) for piece in chunks]
    outside = sum(not SHORTEST * characters <= size <= LONGEST * characters for size in sizes)
    assert outside <= 0.01 * len(sizes)
