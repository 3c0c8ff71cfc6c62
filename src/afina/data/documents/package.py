"""Documents that are zip archives of XML (DOCX, PPTX, EPUB): opened within bounds, without entities."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lxml import etree

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import MIB, format_bytes

MOST_UNPACKED = 200 * MIB
MOST_MEMBERS = 20_000


@contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive. Raises DataError where it is broken, has a password, or unpacks to more than a document ever does."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check(path, archive)
            yield archive
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, KeyError) as error:
        raise broken(path, str(error)) from error


def _check(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    size = sum(member.file_size for member in members)  # zipfile never unpacks more of a member than it declares
    if size > MOST_UNPACKED or len(members) > MOST_MEMBERS:
        raise DataError(
            _("{path} unpacks to {size} in {count} files; a document may have {limit} and {most}").format(
                path=path, size=format_bytes(size), count=len(members), limit=format_bytes(MOST_UNPACKED), most=MOST_MEMBERS
            ),
            fix=_("save it anew with smaller pictures, or part it; and do not trust it where it came from a stranger"),
        )
    if any(member.flag_bits & 1 for member in members):
        raise has_password(path)
    for member in members:
        if member.filename.lower().endswith((".xml", ".rels", ".opf", ".xhtml", ".html", ".htm", ".ncx")):
            with archive.open(member) as file:
                if b"<!ENTITY" in file.read():
                    raise DataError(
                        _("{path}: {part} defines entities of its own, as attacks do and documents do not").format(
                            path=path, part=member.filename
                        ),
                        fix=_("save it anew with a program that you trust"),
                    )


def parse(path: Path, data: bytes) -> etree._Element:
    """The root of an XML part; nothing outside it is ever loaded."""
    try:
        return etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False))
    except etree.XMLSyntaxError as error:
        raise broken(path, str(error)) from error


def broken(path: Path, reason: str) -> DataError:
    return DataError(
        _("{path} is broken: {reason}").format(path=path, reason=reason),
        fix=_("open it in the program that made it and save it anew"),
    )


def has_password(path: Path) -> DataError:
    return DataError(_("{path} has a password").format(path=path), fix=_("save it without one, in the program that made it"))
