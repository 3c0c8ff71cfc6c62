"""Markdown, by its headings, and plain text, by its paragraphs. Their text stays as it is."""

from __future__ import annotations

import re
from pathlib import Path

from markdown_it import MarkdownIt

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.documents.document import Document, Passage
from afina.data.read.encoding import decode

_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)---[ \t]*\n", re.DOTALL)


def read_markdown(path: Path) -> Document:
    """A passage for each heading with what stands below it."""
    text = _read(path)
    notices: tuple[str, ...] = ()
    title = ""
    if front := _FRONT_MATTER.match(text):
        named = re.search(r"^title:\s*[\"']?(.+?)[\"']?\s*$", front[1], re.MULTILINE)
        title = named[1] if named else ""
        notices = (_("the lines between --- at the top left out"),)
        text = text[front.end() :]
    lines = text.split("\n")
    tokens = MarkdownIt("commonmark").parse(text)
    headings = [
        (token.map[0], int(token.tag[1]), " ".join(tokens[at + 1].content.split()))
        for at, token in enumerate(tokens)
        if token.type == "heading_open" and token.map and token.level == 0
    ]
    passages: list[Passage] = []
    path_of: list[tuple[int, str]] = []
    starts = [(0, 0, ""), *headings] if not headings or headings[0][0] > 0 else headings
    for at, (start, level, heading) in enumerate(starts):
        end = starts[at + 1][0] if at + 1 < len(starts) else len(lines)
        body = "\n".join(lines[start:end]).strip("\n")
        if level:
            path_of = [*((depth, name) for depth, name in path_of if depth < level), (level, heading)]
        if body.strip():
            place = "§ " + " > ".join(name for _depth, name in path_of) if path_of else _("beginning")
            passages.append(Passage(body, place))
    first = next((heading for _start, level, heading in headings if level == 1), "")
    return Document(str(path), title or first, tuple(passages), notices)


def read_text(path: Path) -> Document:
    """A passage for each paragraph, by the line on which it begins."""
    text = _read(path)
    passages: list[Passage] = []
    line, at = 1, 0
    for match in re.finditer(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", text):
        line += text.count("\n", at, match.start())
        at = match.start()
        passages.append(Passage(match[0], _("line {number}").format(number=line)))
    return Document(str(path), "", tuple(passages))


def text_of(path: Path, data: bytes, declared: str | None = None) -> str:
    """The text of a file's bytes; ``declared`` is the encoding that the file says it has, which is not always true."""
    try:
        return decode(data, declared)[0]
    except DataError as error:
        if declared is not None:
            return text_of(path, data)
        raise DataError(f"{path}: {error.what}", fix=_("save it as text in UTF-8")) from None


def _read(path: Path) -> str:
    text = text_of(path, path.read_bytes())
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")
