"""A writer of small PDF files, in Helvetica, with a password where one is wanted: real files for the reader to read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

Word = tuple[float, float, float, str]  # from the left, from below, size in points, text

_PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
_ID = b"0123456789abcdef"


def write_pdf(path: Path, pages: Sequence[Sequence[Word]], *, title: str = "", rotate: int = 0, password: str = "") -> Path:
    """Each page is a list of texts and where they stand (A4 upright is 595 by 842 points)."""
    key, encryption = _encryption(password) if password else (b"", b"")
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>"]
    kids = b" ".join(b"%d 0 R" % (5 + 2 * number) for number in range(len(pages)))
    objects.append(b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)))
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
    objects.append(b"<< /Title %s >>" % _string(title, key, 4))
    for number, page in enumerate(pages):
        head = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Rotate %d /Contents %d 0 R" % (rotate, 6 + 2 * number)
        objects.append(head + b" /Resources << /Font << /F1 3 0 R >> >> >>")
        drawn = b"\n".join(
            b"BT /F1 %g Tf %s Tm (%s) Tj ET" % (size, _matrix(x, y, rotate), _escaped(text)) for x, y, size, text in page
        )
        drawn = _rc4(_object_key(key, 6 + 2 * number), drawn) if key else drawn
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
    written, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1) + b"".join(b"%010d 00000 n \n" % at for at in places)
    written += b"trailer\n<< /Size %d /Root 1 0 R /Info 4 0 R /ID [<%s> <%s>] %s >>\n" % (
        *(len(places) + 1, _ID.hex().encode(), _ID.hex().encode(), encryption),
    )
    path.write_bytes(written + b"startxref\n%d\n%%%%EOF\n" % start)
    return path


def column(texts: Sequence[str], *, left: float = 72, top: float = 740, size: float = 11, leading: float = 14) -> list[Word]:
    """Lines below each other."""
    return [(left, top - leading * number, size, text) for number, text in enumerate(texts)]


def _matrix(x: float, y: float, rotate: int) -> bytes:
    """Where a text stands on the sheet so that it is upright at ``x``, ``y`` when the sheet is turned clockwise."""
    match rotate:
        case 90:
            return b"0 1 -1 0 %g %g" % (595 - y, x)
        case 180:
            return b"-1 0 0 -1 %g %g" % (595 - x, 842 - y)
        case 270:
            return b"0 -1 1 0 %g %g" % (y, 842 - x)
        case _:
            return b"1 0 0 1 %g %g" % (x, y)


def _escaped(text: str) -> bytes:
    return text.encode("cp1252").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")


def _string(text: str, key: bytes, number: int) -> bytes:
    return b"<%s>" % _rc4(_object_key(key, number), text.encode("cp1252")).hex().encode() if key else b"(%s)" % _escaped(text)


def _encryption(password: str) -> tuple[bytes, bytes]:
    """The key and the entry of the trailer for RC4 with 40 bits (revision 2), as the standard describes it."""
    padded = (password.encode() + _PADDING)[:32]
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    allowed = b"\xfc\xff\xff\xff"
    key = hashlib.md5(padded + owner + allowed + _ID).digest()[:5]
    user = _rc4(key, _PADDING)
    entry = b"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (owner.hex().encode(), user.hex().encode())
    return key, entry


def _object_key(key: bytes, number: int) -> bytes:
    return hashlib.md5(key + number.to_bytes(3, "little") + b"\0\0").digest()[: len(key) + 5]


def _rc4(key: bytes, data: bytes) -> bytes:
    box, at = list(range(256)), 0
    for place in range(256):
        at = (at + box[place] + key[place % len(key)]) % 256
        box[place], box[at] = box[at], box[place]
    out, first, second = bytearray(), 0, 0
    for byte in data:
        first = (first + 1) % 256
        second = (second + box[first]) % 256
        box[first], box[second] = box[second], box[first]
        out.append(byte ^ box[(box[first] + box[second]) % 256])
    return bytes(out)
