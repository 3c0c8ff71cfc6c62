"""PDF: the text of each page in the order in which one reads it. PDFium tells each character and where it stands."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import pypdfium2
import pypdfium2.raw as pdfium

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import grouped
from afina.data.documents.document import Document, Passage
from afina.data.documents.layout import GAP, Run, markdown

MOST_CHARACTERS = 50_000_000
HYPHEN = "\x02"  # PDFium's mark for a hyphen at the end of a line

_DEFAULT_TITLES = {"", "untitled", "(anonymous)"}


def read_pdf(path: Path) -> Document:
    """Raises DataError for a password, a broken file, and a scan without text."""
    document = _open(path)
    try:
        pages = [_runs_of_page(path, document, number) for number in range(len(document))]
        title = document.get_metadata_value("Title").strip()
    finally:
        document.close()
    if sum(len(run.text) for page in pages for run in page) > MOST_CHARACTERS:
        raise DataError(
            _("{path} holds more than {count} characters").format(path=path, count=grouped(MOST_CHARACTERS)),
            fix=_("part it into several documents"),
        )
    empty = [number for number, page in enumerate(pages, 1) if not page]
    if len(empty) == len(pages):
        raise DataError(
            _("{path} is a scan: its {count} pages are pictures without text").format(path=path, count=len(pages)),
            fix=_("recognise its text first, for example with: ocrmypdf {path} {new}").format(
                path=quote(str(path)), new=quote(str(path.with_stem(f"{path.stem}.text")))
            ),
        )
    texts, removed = markdown(pages)
    passages = [Passage(text, _("page {number}").format(number=number)) for number, text in enumerate(texts, 1) if text]
    notices = []
    if removed:
        notices.append(_("{count} running heads and feet of pages left out").format(count=removed))
    if empty:
        notices.append(_("pages without text (pictures?): {pages}").format(pages=", ".join(map(str, empty))))
    return Document(str(path), "" if title.lower() in _DEFAULT_TITLES else title, tuple(passages), tuple(notices))


def _open(path: Path) -> pypdfium2.PdfDocument:
    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if error.err_code in (pdfium.FPDF_ERR_PASSWORD, pdfium.FPDF_ERR_SECURITY):
            raise DataError(
                _("{path} has a password").format(path=path),
                fix=_("save it without a password, for example with: qpdf --decrypt --password=… {path} {new}").format(
                    path=quote(str(path)), new=quote(str(path.with_stem(f"{path.stem}.open")))
                ),
            ) from None
        raise _broken(path, str(error)) from None
    if len(document) == 0:
        document.close()
        raise _broken(path, _("it has no pages"))
    return document


def _broken(path: Path, reason: str) -> DataError:
    return DataError(
        _("{path} is broken: {reason}").format(path=path, reason=reason),
        fix=_("open it in a PDF reader and save or print it to a new PDF"),
    )


def _runs_of_page(path: Path, document: pypdfium2.PdfDocument, number: int) -> list[Run]:
    try:
        page = document[number]
        text_page = page.get_textpage()
    except pypdfium2.PdfiumError as error:
        raise _broken(path, _("page {number}: {reason}").format(number=number + 1, reason=error)) from None
    try:
        return list(_runs(text_page, page.get_rotation()))
    finally:
        text_page.close()
        page.close()


def _runs(page: pypdfium2.PdfTextPage, rotation: int) -> Iterator[Run]:
    """The characters of a page, joined as long as they stand beside each other."""
    letters: list[str] = []
    left = right = baseline = size = 0.0
    for character, box in _characters(page, rotation):
        if character in "\r\n" or character == HYPHEN:
            if letters:
                yield Run("".join(letters), left, right, baseline, size, cut=character == HYPHEN)
            letters = []
            continue
        if box is None:  # a blank
            letters += [" "] if letters else []
            continue
        start, end, base, height = box
        beside = -height < start - right < GAP * height and abs(base - baseline) < height
        if letters and not beside:
            yield Run("".join(letters), left, right, baseline, size)
            letters = []
        if not letters:
            left, right, baseline, size = start, end, base, height
        letters.append(character)
        right = max(right, end)
        if height > size:  # a line's size and baseline are those of its largest letters
            baseline, size = base, height
    if letters:
        yield Run("".join(letters), left, right, baseline, size)


def _characters(page: pypdfium2.PdfTextPage, rotation: int) -> Iterator[tuple[str, tuple[float, float, float, float] | None]]:
    """Each character with left, right, baseline and size as one sees them on a page turned by ``rotation``; blanks with None."""
    x, y = ctypes.c_double(), ctypes.c_double()
    box = pdfium.FS_RECTF()
    units: list[int] = []
    for index in range(page.count_chars()):
        code = pdfium.FPDFText_GetUnicode(page, index)
        if 0xD800 <= code < 0xDC00:  # half a character
            units = [code]
            continue
        units.append(code)
        character = b"".join(unit.to_bytes(4 if unit > 0xFFFF else 2, "little") for unit in units).decode(
            "utf-16-le" if max(units) <= 0xFFFF else "utf-32-le", errors="replace"
        )
        units = []
        if character == "\0" or character.isspace():
            yield (character if character in "\r\n" else " "), None
            continue
        pdfium.FPDFText_GetLooseCharBox(page, index, box)
        pdfium.FPDFText_GetCharOrigin(page, index, x, y)
        match rotation:
            case 90:
                place = (box.bottom, box.top, -x.value, box.right - box.left)
            case 180:
                place = (-box.right, -box.left, -y.value, box.top - box.bottom)
            case 270:
                place = (-box.top, -box.bottom, x.value, box.right - box.left)
            case _:
                place = (box.left, box.right, y.value, box.top - box.bottom)
        yield character, place
