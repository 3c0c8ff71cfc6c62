"""EPUB: its chapters in the order of the book's spine."""

from __future__ import annotations

import posixpath
import zipfile
from pathlib import Path
from urllib.parse import unquote

from lxml import etree

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.documents.document import Block, Document, sections
from afina.data.documents.package import broken, opened
from afina.data.documents.package import parse as parse_xml
from afina.data.documents.web import blocks_of, main_text, parse

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"


def read_epub(path: Path) -> Document:
    """Raises DataError for a broken book and one that only its shop's program can read."""
    with opened(path) as archive:
        package, folder = _package(path, archive)
        protected = archive.read(_ENCRYPTION) if _ENCRYPTION in archive.namelist() else b""
        blocks: list[Block] = []
        for chapter in _spine(package, folder):
            if chapter not in archive.namelist():
                raise broken(path, _("its chapter {part} is missing").format(part=chapter))
            if chapter.encode() in protected:  # letters' shapes may be locked as well: that does no harm
                raise DataError(
                    _("{path} is locked by its shop: its text cannot be read").format(path=path),
                    fix=_("use a copy without protection"),
                )
            body = main_text(parse(Path(f"{path}/{chapter}"), archive.read(chapter)))
            blocks += blocks_of(body, inside=True)
    title = " ".join("".join(package.xpath("string(//*[local-name()='title'][1])")).split())
    return Document(str(path), title, sections(blocks))


def _package(path: Path, archive: zipfile.ZipFile) -> tuple[etree._Element, str]:
    """The root of the book's list of parts, and the folder that its names begin from."""
    container = parse_xml(path, archive.read(_CONTAINER))
    name = container.xpath("string(//*[local-name()='rootfile'][1]/@full-path)")
    return parse_xml(path, archive.read(name)), posixpath.dirname(name)


def _spine(package: etree._Element, folder: str) -> list[str]:
    """Names of the chapters' files in the archive, in their order."""
    files = {item.get("id"): item.get("href") or "" for item in package.iter("{*}item")}
    chapters = [files[item.get("idref")] for item in package.iter("{*}itemref") if item.get("idref") in files]
    return [posixpath.normpath(posixpath.join(folder, unquote(chapter.partition("#")[0]))) for chapter in chapters]
