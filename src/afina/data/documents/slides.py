"""PPTX: a passage a slide, with its title, texts, tables, the numbers of its charts, and the speaker's notes (as a quotation)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pptx
from pptx.enum.shapes import MSO_SHAPE_TYPE

from afina.core.translation import _
from afina.data.documents.document import Document, Passage, table
from afina.data.documents.package import broken, opened

_DIAGRAM = "http://schemas.openxmlformats.org/drawingml/2006/diagram"
_DEFAULT_TITLES = {"", "powerpoint presentation", "presentación de powerpoint"}


def read_pptx(path: Path) -> Document:
    """Raises DataError for a broken file. Texts stand from top to bottom and from left to right."""
    with opened(path):
        try:
            file = pptx.Presentation(str(path))
            slides = [(_slide(slide), slide) for slide in file.slides]
        except Exception as error:  # python-pptx raises whatever the damaged part leads to
            raise broken(path, str(error) or type(error).__name__) from error
        title = file.core_properties.title.strip()
    passages = [
        Passage(text, _("slide {number}").format(number=number)) for number, (text, _slide_of) in enumerate(slides, 1) if text
    ]
    if title.lower() in _DEFAULT_TITLES:
        title = next((passage.text.splitlines()[0].lstrip("# ") for passage in passages), "")
    shapes = [shape for _text, slide in slides for shape in _shapes(slide.shapes)]
    pictures = sum(shape.shape_type == MSO_SHAPE_TYPE.PICTURE for shape in shapes)
    diagrams = sum(shape.has_chart is False and _is_diagram(shape) for shape in shapes)
    hidden = [str(number) for number, (_text, slide) in enumerate(slides, 1) if slide._element.get("show") == "0"]
    notices = []
    if pictures:
        notices.append(_("{count} pictures: the text in them is not read").format(count=pictures))
    if diagrams:
        notices.append(_("{count} diagrams (SmartArt): the text in them is not read").format(count=diagrams))
    if hidden:
        notices.append(_("hidden slides are read too: {slides}").format(slides=", ".join(hidden)))
    return Document(str(path), title, tuple(passages), tuple(notices))


def _slide(slide: Any) -> str:  # python-pptx has no types for its shapes
    """The Markdown of one slide."""
    title = slide.shapes.title
    blocks = [f"# {' '.join(title.text_frame.text.split())}"] if title is not None and title.text_frame.text.strip() else []
    shapes = [shape for shape in _shapes(slide.shapes) if title is None or shape.shape_id != title.shape_id]
    for shape in sorted(shapes, key=lambda shape: (shape.top or 0, shape.left or 0)):
        if shape.has_text_frame:
            blocks.append(_paragraphs(shape.text_frame))
        elif shape.has_table:
            blocks.append(table([cell.text for cell in row.cells] for row in shape.table.rows))
        elif shape.has_chart:
            blocks.append(_chart(shape.chart))
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = slide.notes_slide.notes_text_frame.text.strip()
        blocks += ["\n".join(f"> {line}" for line in notes.replace("\v", "\n").split("\n"))] if notes else []
    return "\n\n".join(block for block in blocks if block)


def _shapes(shapes: Iterable[Any]) -> Iterator[Any]:
    for shape in shapes:
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            yield from _shapes(shape.shapes)
        else:
            yield shape


def _paragraphs(frame: Any) -> str:
    """A list where there are several paragraphs, else the text."""
    lines = [(paragraph.level, paragraph.text.replace("\v", "\n").strip()) for paragraph in frame.paragraphs]
    lines = [(level, text) for level, text in lines if text]
    if len(lines) == 1:
        return str(lines[0][1])
    return "\n".join(f"{'  ' * level}- {text}" for level, text in lines)


def _chart(chart: Any) -> str:
    """The categories and series of a chart as a table, its title above."""
    title = chart.chart_title.text_frame.text.strip() if chart.has_title and chart.chart_title.has_text_frame else ""
    blocks = [title] if title else []
    for plot in chart.plots:
        series = list(plot.series)
        names = [str(category) for category in plot.categories]
        rows = [["", *(one.name or "" for one in series)]]
        rows += [[name, *(_number(one.values, at) for one in series)] for at, name in enumerate(names)]
        blocks.append(table(rows))
    return "\n\n".join(blocks)


def _number(values: Any, at: int) -> str:
    return f"{values[at]:g}" if at < len(values) and values[at] is not None else ""


def _is_diagram(shape: Any) -> bool:
    return any(child.get("uri") == _DIAGRAM for child in shape._element.iter("{*}graphicData"))
