"""HTML: the main text of a page, without menus, scripts and what is hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.documents.document import Block, Document, sections, table
from afina.data.documents.plain import text_of

MENU_ITEMS = 8  # from here on a list of links and nothing else is a menu
ENOUGH = 0.3  # share of the page's words from which on <main> or <article> is taken for the main text

_NOT_TEXT = {
    *("script", "style", "noscript", "template", "svg", "iframe", "object", "embed", "canvas", "audio", "video", "head"),
    *("button", "select", "textarea", "input"),
}
_AROUND = {"nav", "aside", "header", "footer", "dialog"}  # header and footer of an article belong to it
_AROUND_ROLES = {"navigation", "banner", "contentinfo", "search", "dialog", "complementary"}
_INLINE = {
    *("a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "del", "dfn", "em", "font", "i", "img", "ins", "kbd"),
    *("label", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr"),
}
_DECLARED = re.compile(rb"<(?:meta[^>]{0,200}charset|\?xml[^>]{0,100}encoding)=[\"']?([\w-]+)", re.IGNORECASE)
_INVISIBLE = re.compile("[\u00ad\u200b\ufeff]")  # where a word may be parted, and the like
_HEADING = re.compile(r"h([1-6])")


def read_html(path: Path) -> Document:
    """Raises DataError for a page that is nested too deeply."""
    root = parse(path, path.read_bytes())
    title = " ".join(str(root.xpath("string(//title[1])")).split())
    main = main_text(root)
    blocks = list(blocks_of(main, inside=main.tag in ("main", "article")))
    left_out = _words(_body(root)) - sum(_count(block.text) for block in blocks)
    notices = (
        [_("about {count} words left out: menus, heads and feet of the page").format(count=left_out)] if left_out > 5 else []
    )
    title = title or next((block.text for block in blocks if block.level == 1), "")
    return Document(str(path), title, sections(blocks), tuple(notices))


def parse(path: Path, data: bytes) -> etree._Element:
    """The root of a page, its tags without namespaces; read as HTML where it is not the XML that it says."""
    root = _parsed_xml(data) if data.lstrip().startswith(b"<?xml") else None
    if root is not None:
        return root
    declared = _DECLARED.search(data[:4096])
    text = text_of(path, data, declared[1].decode("ascii") if declared else None)
    parser = etree.HTMLParser(no_network=True, encoding="utf-8")
    root = etree.fromstring(re.sub(r"^\s*<\?xml.*?\?>", "", text).encode("utf-8", "replace") or b"<p/>", parser)
    if any(error.type_name == "ERR_RESOURCE_LIMIT" for error in parser.error_log):
        raise DataError(
            _("{path} is nested too deeply to be a page").format(path=path), fix=_("leave it out, or save its text anew")
        )
    return root if root is not None else etree.Element("html")


def _parsed_xml(data: bytes) -> etree._Element | None:
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except etree.XMLSyntaxError:
        return None
    for element in root.iter(etree.Element):
        element.tag = etree.QName(element).localname.lower()
    return None if any(True for _entity in root.iter(etree.Entity)) else root


def _body(root: etree._Element) -> etree._Element:
    body = root.find("body")
    return root if body is None else body


def main_text(root: etree._Element) -> etree._Element:
    """The element that holds the main text: ``<main>`` or the only ``<article>`` where it holds enough, else the whole page."""
    body = _body(root)
    enough = ENOUGH * _words(body)
    for query in (".//main", ".//*[@role='main']", ".//article"):
        found = body.xpath(query)
        if len(found) == 1 and _words(found[0]) >= enough:
            return found[0]
    return body


def blocks_of(root: etree._Element, *, inside: bool = False) -> Iterator[Block]:
    """The blocks of an element in their order; ``inside``: it is an article, whose head and foot belong to it."""
    inline: list[str] = []

    def flush() -> Iterator[Block]:
        text = _tidy("".join(inline))
        inline.clear()
        if text:
            yield Block(text)

    def walk(element: etree._Element, inside: bool) -> Iterator[Block]:
        inline.append(element.text or "")
        for child in element:
            if isinstance(child.tag, str) and not _is_left_out(child, inside):
                yield from visit(child, inside)
            inline.append(child.tail or "")

    def visit(element: etree._Element, inside: bool) -> Iterator[Block]:
        tag = element.tag
        if tag == "br":
            inline.append("\0")
        elif tag in _INLINE:
            yield from walk(element, inside)
        elif match := _HEADING.fullmatch(tag):
            yield from flush()
            yield Block(_tidy("".join(_text(element))), int(match[1]))
        elif tag == "pre":
            yield from flush()
            code = "".join(element.itertext()).strip("\n")
            yield Block(f"```\n{code}\n```" if code.strip() else "")
        elif tag in ("ul", "ol", "menu"):
            yield from flush()
            yield Block(_list(element, ""))
        elif tag == "table" and (text := _table(element)):
            yield from flush()
            yield Block(text)
        else:
            yield from flush()
            yield from walk(element, inside or tag in ("article", "main"))
            yield from flush()

    yield from walk(root, inside)
    yield from flush()


def _is_left_out(element: etree._Element, inside: bool) -> bool:
    if element.tag in _NOT_TEXT or element.get("hidden") is not None or element.get("aria-hidden") == "true":
        return True
    if "mw-editsection" in element.get("class", "") or re.search(r"display:\s*none", element.get("style", "")):
        return True
    if inside and element.tag in ("header", "footer"):
        return False
    if element.tag in ("ul", "ol") and _is_menu(element):
        return True
    return element.tag in _AROUND or element.get("role") in _AROUND_ROLES


def _is_menu(element: etree._Element) -> bool:
    items = [child for child in element if child.tag == "li"]
    if len(items) < MENU_ITEMS:
        return False
    linked = sum(len("".join(link.itertext()).split()) for link in element.iter("a"))
    return linked >= 0.95 * len("".join(element.itertext()).split())


def _text(element: etree._Element, without: frozenset[str] = frozenset()) -> Iterator[str]:
    """The text of an element but for what is hidden; ``\\0`` for a line break."""
    yield element.text or ""
    for child in element:
        if isinstance(child.tag, str) and child.tag not in without and not _is_left_out(child, True):
            apart = child.tag not in _INLINE
            yield "\0" if child.tag == "br" else " " if apart else ""
            yield from _text(child, without)
            yield " " if apart else ""
        yield child.tail or ""


def _tidy(text: str) -> str:
    """White space as a browser shows it."""
    lines = (" ".join(line.split()) for line in _INVISIBLE.sub("", text).split("\0"))
    return re.sub(r"\n{2,}", "\n", "\n".join(lines)).strip()


def _list(element: etree._Element, indent: str) -> str:
    """The items of a list, and of the lists in it, a line each."""
    lines: list[str] = []
    number = 0
    nested = frozenset(("ul", "ol", "menu"))
    for child in element:
        if not isinstance(child.tag, str) or _is_left_out(child, True):
            continue
        if child.tag in nested:
            lines.append(_list(child, indent + "  "))
            continue
        number += 1
        text = _tidy("".join(_text(child, nested))).replace("\n", f"\n{indent}  ")
        if text:
            lines.append(f"{indent}{f'{number}.' if element.tag == 'ol' else '-'} {text}")
        lines += [_list(inner, indent + "  ") for inner in child.iter(*nested) if _nearest(inner, nested | {"li"}) is child]
    return "\n".join(line for line in lines if line.strip())


def _nearest(element: etree._Element, tags: frozenset[str]) -> etree._Element | None:
    return next((parent for parent in element.iterancestors() if parent.tag in tags), None)


def _table(element: etree._Element) -> str:
    """A table of data as Markdown; ``""`` for one that only arranges a page."""
    if element.find(".//table") is not None:
        return ""
    rows = [
        [_tidy("".join(_text(cell))) for cell in row if isinstance(cell.tag, str) and cell.tag in ("td", "th")]
        for row in element.iter("tr")
    ]
    if max(map(len, rows), default=0) < 2:
        return ""
    caption = _tidy("".join("".join(_text(found)) for found in element.iter("caption")))
    return "\n\n".join(part for part in (caption, table(rows)) if part)


def _words(element: etree._Element) -> int:
    """The words of an element as one sees it, menus and all."""
    pieces: list[str] = []

    def gather(parent: etree._Element) -> None:
        pieces.append(parent.text or "")
        for child in parent:
            if isinstance(child.tag, str) and child.tag not in _NOT_TEXT:
                gather(child)
            pieces.append(child.tail or "")

    gather(element)
    return _count(" ".join(pieces))


def _count(text: str) -> int:
    return sum(1 for _word in re.finditer(r"\w+", text))
