"""DOCX: headings, paragraphs, lists and tables in their order, read from the XML, where nothing is left out unsaid.

Inserted text of tracked changes is read and deleted text is not; text boxes, content controls, equations and footnotes are read.
Comments, the heads and feet of pages and pictures are left out; notices count them.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import docx
from docx.document import Document as Docx
from docx.styles.style import BaseStyle
from lxml import etree

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.documents.document import Block, Document, sections, table
from afina.data.documents.package import broken, opened, parse

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
M = "{http://schemas.openxmlformats.org/officeDocument/2006/math}"
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # the same text again, for old programs
_NOTES = ("footnotes", "endnotes")
_EQUATION = {
    "f": "({num})/({den})",
    "sSup": "{e}^({sup})",
    "sSub": "{e}_({sub})",
    "sSubSup": "{e}_({sub})^({sup})",
    "rad": "√({e})",
}
_BREAKS = {f"{W}tab": "\t", f"{W}br": "\n", f"{W}cr": "\n", f"{W}noBreakHyphen": "-"}


@dataclass
class _Reading:
    """What is known of one file while it is read."""

    styles: dict[str, BaseStyle]
    formats: dict[tuple[str, str], str]  # number and level of a list → bullet, decimal, …
    notes: dict[str, str]
    counters: dict[tuple[str, str], int] = field(default_factory=dict)
    open_notes: list[str] = field(default_factory=list)  # of the paragraph that is being read


def read_docx(path: Path) -> Document:
    """Raises DataError for a broken file and for one with a password."""
    with opened(path):
        try:
            return _read(path)
        except DataError:
            raise
        except Exception as error:  # python-docx raises whatever the damaged part leads to
            raise broken(path, str(error) or type(error).__name__) from error


def _read(path: Path) -> Document:
    file = docx.Document(str(path))
    styles = {style.style_id: style for style in file.styles}
    reading = _Reading(styles=styles, formats=_list_formats(file), notes=_notes(path, file))
    body = file.element.body
    blocks = list(_blocks(body, reading))
    title = file.core_properties.title.strip() or next((block.text for block in blocks if block.level == 1), "")
    return Document(str(path), title, sections(blocks), tuple(_notices(file, body)))


def _notices(file: Docx, body: etree._Element) -> Iterator[str]:
    def count(*names: str) -> int:
        return sum(1 for name in names for _element in body.iter(W + name))

    if comments := count("commentReference"):
        yield _("{count} comments left out").format(count=comments)
    if changes := count("ins", "del", "moveFrom", "moveTo"):
        yield _("{count} tracked changes: inserted text is read, deleted text is not").format(count=changes)
    if pictures := count("drawing", "pict"):
        yield _("{count} pictures or drawings: only the text in them is read").format(count=pictures)
    parts = [part for section in file.sections for part in (section.header, section.footer)]
    if any(not part.is_linked_to_previous and any(p.text.strip() for p in part.paragraphs) for part in parts):
        yield _("the head and foot of the pages left out")


def _blocks(parent: etree._Element, reading: _Reading) -> Iterator[Block]:
    """The blocks in their order, through content controls and all other wrappings."""
    for child in parent:
        if child.tag == f"{W}p":
            yield from _paragraph(child, reading)
        elif child.tag == f"{W}tbl":
            yield from _table(child, reading)
        elif isinstance(child.tag, str) and child.tag not in (f"{W}sectPr", FALLBACK):
            yield from _blocks(child, reading)


def _paragraph(paragraph: etree._Element, reading: _Reading) -> Iterator[Block]:
    text = _text(paragraph, reading).strip()
    notes, reading.open_notes = reading.open_notes, []
    if text:
        level = _heading_level(paragraph, reading)
        yield Block(text if level else _list_mark(paragraph, reading) + text, level)
    for note in notes:
        yield Block(f"[^{note}]: {reading.notes.get(note, '')}")
    for box in paragraph.iter(f"{W}txbxContent"):
        if not any(parent.tag in (FALLBACK, f"{W}txbxContent") for parent in box.iterancestors()):
            yield from _blocks(box, reading)


def _text(element: etree._Element, reading: _Reading) -> str:
    """The text of a paragraph as it stands after its tracked changes, without that of its boxes."""
    pieces: list[str] = []
    for child in element:
        if child.tag in (f"{W}t", f"{M}t"):
            pieces.append(child.text or "")
        elif child.tag in _BREAKS:
            pieces.append(_BREAKS[child.tag])
        elif child.tag in (f"{W}footnoteReference", f"{W}endnoteReference"):
            note = ("e" if "end" in child.tag else "") + (child.get(f"{W}id") or "")
            reading.open_notes.append(note)
            pieces.append(f"[^{note}]")
        elif isinstance(child.tag, str) and (form := _EQUATION.get(child.tag.removeprefix(M))) and child.tag.startswith(M):
            parts = {part.tag.removeprefix(M): _text(part, reading) for part in child if isinstance(part.tag, str)}
            pieces.append(form.format_map(defaultdict(str, parts)))
        elif isinstance(child.tag, str) and child.tag not in (f"{W}txbxContent", f"{W}del", f"{W}moveFrom", FALLBACK, f"{W}pPr"):
            pieces.append(_text(child, reading))
    return "".join(pieces)


def _table(element: etree._Element, reading: _Reading) -> Iterator[Block]:
    rows: list[list[str]] = []
    boxes = [row for row in element.iter(f"{W}tr") if next(row.iterancestors(f"{W}tbl")) is element]
    for row in boxes:
        cells: list[str] = []
        for cell in row.iter(f"{W}tc"):
            if next(cell.iterancestors(f"{W}tr")) is not row:
                continue  # of a table within a cell: its text is in that cell
            cells.append(" ".join(block.text for block in _blocks(cell, reading)))
            span = cell.find(f"{W}tcPr/{W}gridSpan")
            cells += [""] * (min(64, int(span.get(f"{W}val") or 1)) - 1 if span is not None else 0)
        rows.append(cells)
    if max(map(len, rows), default=0) == 1:  # a frame around text
        for row in boxes:
            for cell in row.iter(f"{W}tc"):
                if next(cell.iterancestors(f"{W}tr")) is row:
                    yield from _blocks(cell, reading)
        return
    yield Block(table(rows))


def _heading_level(paragraph: etree._Element, reading: _Reading) -> int:
    """1 to 6 by the outline level of the paragraph or of its style, or by the style's name; else 0."""
    style = reading.styles.get(_value(paragraph, "pStyle"))
    outline = _value(paragraph, "outlineLvl")
    while style is not None:
        name = (style.name or "").lower()
        if name == "title":
            return 1
        if match := re.fullmatch(r"heading (\d)", name):
            return min(6, int(match[1]))
        level = style.element.find(f"{W}pPr/{W}outlineLvl")
        outline = outline or (level.get(f"{W}val") if level is not None else "") or ""
        style = getattr(style, "base_style", None)
    return min(6, int(outline) + 1) if outline.isdigit() and int(outline) < 9 else 0


def _list_mark(paragraph: etree._Element, reading: _Reading) -> str:
    """``- `` or ``3. ``, indented by its level, before an item of a list."""
    holder: etree._Element | None = paragraph
    style = reading.styles.get(_value(paragraph, "pStyle"))
    while holder is not None and not _value(holder, "numPr/{W}numId"):
        holder = style.element if style is not None else None
        style = getattr(style, "base_style", None) if style is not None else None
    if holder is None or (number := _value(holder, "numPr/{W}numId")) == "0":
        return ""
    level = _value(paragraph, "numPr/{W}ilvl") or "0"
    indent = "  " * min(8, int(level) if level.isdigit() else 0)
    if reading.formats.get((number, level), "bullet") in ("bullet", "none"):
        return f"{indent}- "
    reading.counters[number, level] = reading.counters.get((number, level), 0) + 1
    for key in [key for key in reading.counters if key[0] == number and key[1] > level]:
        del reading.counters[key]
    return f"{indent}{reading.counters[number, level]}. "


def _value(element: etree._Element, name: str) -> str:
    """``w:val`` of a property of a paragraph or style; ``""`` where it has none."""
    found = element.find(f"{W}pPr/{W}{name.replace('{W}', W)}")
    return (found.get(f"{W}val") or "") if found is not None else ""


def _list_formats(file: Docx) -> dict[tuple[str, str], str]:
    part = next((rel.target_part for rel in file.part.rels.values() if rel.reltype.endswith("/numbering")), None)
    if part is None:
        return {}
    root = parse(Path("numbering.xml"), part.blob)
    kinds: dict[tuple[str, str], str] = {}
    for abstract in root.iter(f"{W}abstractNum"):
        for level in abstract.iter(f"{W}lvl"):
            kind = level.find(f"{W}numFmt")
            if kind is not None:
                kinds[abstract.get(f"{W}abstractNumId") or "", level.get(f"{W}ilvl") or ""] = kind.get(f"{W}val") or ""
    formats: dict[tuple[str, str], str] = {}
    for number in root.iter(f"{W}num"):
        abstract_id = number.find(f"{W}abstractNumId")
        wanted = abstract_id.get(f"{W}val") if abstract_id is not None else None
        formats |= {(number.get(f"{W}numId") or "", level): kind for (of, level), kind in kinds.items() if of == wanted}
    return formats


def _notes(path: Path, file: Docx) -> dict[str, str]:
    """The texts of footnotes and endnotes by the mark that stands for them."""
    notes: dict[str, str] = {}
    for rel in file.part.rels.values():
        kind = rel.reltype.rpartition("/")[2]
        if kind not in _NOTES or rel.is_external:
            continue
        for note in parse(path, rel.target_part.blob):
            mark = ("e" if kind == "endnotes" else "") + (note.get(f"{W}id") or "")
            notes[mark] = " ".join(_text(p, _Reading({}, {}, {})).strip() for p in note.iter(f"{W}p"))
    return notes
