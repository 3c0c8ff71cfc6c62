"""The one shape of a document: passages in reading order, each with the place where the user would look it up.

The text of a passage is Markdown: headings with ``#``, lists with ``-``, tables with ``|``, blocks apart by an empty line.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from afina.core.translation import _


@dataclass(frozen=True)
class Passage:
    """``place``: ``page 3``, ``slide 2``, ``line 40``, ``§ Opening hours > Summer``."""

    text: str
    place: str


@dataclass(frozen=True)
class Document:
    """``name`` is the path as the user gave it; ``notices`` tell what of the file is not in the passages, and why."""

    name: str
    title: str
    passages: tuple[Passage, ...]
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chunk:
    """A piece of one document, fit to be found and read by itself; ``number`` counts from 1 within the document."""

    text: str
    document: str
    title: str
    place: str
    number: int


@dataclass(frozen=True)
class Block:
    """A heading of ``level`` 1 to 6, or any other block (level 0) with its text as Markdown."""

    text: str
    level: int = 0


def sections(blocks: Iterable[Block]) -> tuple[Passage, ...]:
    """A passage for each heading with the blocks below it; its place is the path of headings that leads there."""
    passages: list[Passage] = []
    path: list[Block] = []
    texts: list[str] = []

    def close() -> None:
        if texts:
            place = "§ " + " > ".join(heading.text for heading in path) if path else _("beginning")
            passages.append(Passage("\n\n".join(texts), place))
            texts.clear()

    for block in blocks:
        text = block.text.strip("\n")
        if not text.strip():
            continue
        if block.level:
            close()
            path = [heading for heading in path if heading.level < block.level]
            path.append(Block(" ".join(text.split()), block.level))
            text = f"{'#' * block.level} {path[-1].text}"
        texts.append(text)
    close()
    return tuple(passages)


def table(rows: Iterable[Iterable[str]]) -> str:
    """Rows of cells as a Markdown table, the first row as its head; empty rows are left out."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows]
    cells = [row for row in cells if any(row)]
    if not cells:
        return ""
    width = max(map(len, cells))
    lines = ["| " + " | ".join(row + [""] * (width - len(row))) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * width, *lines[1:]])
