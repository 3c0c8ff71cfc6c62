"""A document of any kind that is read here, told by its content first and by its ending second.

The library of a kind is loaded when the first document of that kind is met: together they take a third of a second, which most
runs have no use for.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from shlex import quote

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import MIB, format_bytes
from afina.data.documents.document import Document
from afina.data.documents.package import broken, has_password
from afina.data.documents.plain import read_markdown, read_text

Reader = Callable[[Path], Document]


def _pdf(path: Path) -> Document:
    from afina.data.documents.pdf import read_pdf

    return read_pdf(path)


def _docx(path: Path) -> Document:
    from afina.data.documents.word import read_docx

    return read_docx(path)


def _pptx(path: Path) -> Document:
    from afina.data.documents.slides import read_pptx

    return read_pptx(path)


def _html(path: Path) -> Document:
    from afina.data.documents.web import read_html

    return read_html(path)


def _epub(path: Path) -> Document:
    from afina.data.documents.epub import read_epub

    return read_epub(path)


READERS: dict[str, Reader] = {
    ".pdf": _pdf,
    ".docx": _docx,
    ".docm": _docx,
    ".pptx": _pptx,
    ".pptm": _pptx,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".epub": _epub,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".txt": read_text,
    ".text": read_text,
    ".rst": read_text,
}
EXAMPLES = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".xlsx", ".parquet", ".arrow", ".yaml", ".yml"}
MOST_BYTES = 512 * MIB
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # old Office files, and new ones with a password
_PARTS: dict[str, Reader] = {
    "word/document.xml": _docx,
    "ppt/presentation.xml": _pptx,
    "META-INF/container.xml": _epub,
}


def read_document(path: Path) -> Document:
    """The document at ``path``. Raises DataError, with its name, for all that keeps its text from being read."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError as error:
        raise DataError(
            _("{path} cannot be read: {reason}").format(path=path, reason=error.strerror),
            fix=_("make it readable: chmod u+r {path}").format(path=quote(str(path))),
        ) from None
    if size > MOST_BYTES:
        raise DataError(
            _("{path} has {size}; a document may have {limit}").format(
                path=path, size=format_bytes(size), limit=format_bytes(MOST_BYTES)
            ),
            fix=_("part it into several documents"),
        )
    document = _reader(path, start)(path)
    if not any(passage.text.strip() for passage in document.passages):
        raise DataError(_("{path} has no text").format(path=path), fix=_("leave it out of the documents"))
    return document


def _reader(path: Path, start: bytes) -> Reader:
    ending = path.suffix.lower()
    if start.startswith(b"version https://git-lfs.github.com/spec/"):
        raise DataError(_("{path} is a pointer of Git LFS, not the file itself").format(path=path), fix="git lfs pull")
    if b"%PDF-" in start and ending not in (".md", ".txt", ".html"):
        return _pdf
    if start.startswith(_OLE):
        raise _old_or_locked(path)
    if start.startswith(b"PK\x03\x04") and ending not in EXAMPLES:
        return _reader_of_archive(path)
    if ending in (".pdf", ".docx", ".docm", ".pptx", ".pptm", ".epub"):
        raise broken(path, _("it does not begin as such a file does"))
    if ending in READERS:
        return READERS[ending]
    if ending in EXAMPLES:
        raise DataError(
            _("{path} is a table or a list of rows, not a document").format(path=path),
            fix=_("name it in data.examples in the place of data.documents"),
        )
    raise DataError(
        _("{path} is none of the kinds of documents that are read: {kinds}").format(path=path, kinds=" ".join(READERS)),
        fix=_("save it as one of them, or leave it out"),
    )


def _reader_of_archive(path: Path) -> Reader:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise broken(path, str(error)) from None
    for part, reader in _PARTS.items():
        if part in names:
            return reader
    if path.suffix.lower() in READERS:
        raise broken(path, _("its main part is missing"))
    raise DataError(_("{path} is an archive, not a document").format(path=path), fix=_("unpack it, and name the folder"))


def _old_or_locked(path: Path) -> DataError:
    if "EncryptedPackage".encode("utf-16-le") in path.read_bytes():
        return has_password(path)
    return DataError(
        _("{path} is an old Office file (or an e-mail of Outlook), which is not read").format(path=path),
        fix=_("open it in its program and save it as .docx, .pptx or .pdf"),
    )
