"""How the letters of a text are written: found out from its bytes, and never guessed where they say it.

A byte order mark decides; then UTF-8 where the bytes are UTF-8; then UTF-16 and UTF-32 by the places of their zeros; then cp1252
where what it makes of the bytes looks like a Western text; then charset-normalizer.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterator
from typing import BinaryIO

from charset_normalizer import from_bytes

from afina.core.errors import DataError
from afina.core.translation import _

UTF_8 = "utf-8"
_MARKS = (  # the longer before the shorter that it begins with
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_BLOCK = 1 << 13
_SAMPLE = 1 << 16  # bytes of lines with other than ASCII letters that decide
_SCANNED = 1 << 28  # bytes that are searched for such lines
_LEAST_OF_TEXT = 0.95
_FEW_ZEROS = 16
_HIGH = re.compile(rb"[\x80-\xff]")
_NEIGHBOURS = re.compile(rb"[\x80-\xff]{2}")
_TWO_TO_FOUR = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_WESTERN = frozenset("áéíóúüñçàèìòùâêîôûäëïöÿãõåæøœßÁÉÍÓÚÜÑÇÀÈÌÒÙÂÊÎÔÛÄËÏÖÃÕÅÆØŒ¿¡ºª·°«»“”‘’„–—…•€£©®™\xa0½±×")
_USUAL = [  # what people's programs write; charset-normalizer also knows many that none does
    *(
        "cp1250",
        "cp1251",
        "cp1252",
        "cp1253",
        "cp1254",
        "cp1255",
        "cp1256",
        "cp1257",
        "cp874",
        "iso8859_2",
        "koi8_r",
        "mac_roman",
    ),
    *("cp437", "cp850", "cp866", "cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
_JAPANESE_MAIL = re.compile(rb"\x1b\$[@B]")
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def decode(data: bytes, encoding: str | None = None) -> tuple[str, str]:
    """The text of ``data`` without its byte order mark, and the name of the encoding; ``encoding`` is taken where it is given.

    Raises DataError, without a file's name, where the bytes are no text or do not fit the encoding.
    """
    name, mark = find_encoding(data, encoding)
    try:
        return data[mark:].decode(name), name
    except UnicodeDecodeError as error:
        place = mark + error.start
        raise DataError(
            _("line {line}: byte {place} (0x{value:02x}) is not {encoding}").format(
                line=data.count(b"\n", 0, place) + 1, place=place + 1, value=data[place], encoding=name.upper()
            ),
            fix=_("write the text in UTF-8, or say in the recipe how it is written: encoding: cp1252"),
        ) from None


def find_encoding(sample: bytes, encoding: str | None = None) -> tuple[str, int]:
    """The encoding's name, and the length of the byte order mark. ``sample`` may end within a letter."""
    mark, marked = next(((mark, name) for mark, name in _MARKS if sample.startswith(mark)), (b"", ""))
    if encoding is not None:
        name = _known(encoding)
        if name in ("utf-16", "utf-32"):  # the family is said, the order of its bytes is to be found out
            return (marked, len(mark)) if marked.startswith(name) else (_wide(sample) or f"{name}-le", 0)
        return name, len(mark) if marked == name else 0
    if marked:
        return marked, len(mark)
    if wide := _wide(sample):
        return wide, 0
    if _JAPANESE_MAIL.search(sample):
        return "iso2022-jp", 0
    if _is_utf8(sample) and sample.count(0) <= _FEW_ZEROS + len(sample) // 10:
        return UTF_8, 0
    if len(_CONTROLS.findall(sample)) > len(sample) // 100:
        raise _no_text()
    if _is_western(sample):
        return "cp1252", 0
    best = from_bytes(sample[-_SAMPLE:], cp_isolation=_USUAL).best() or from_bytes(sample[-_SAMPLE:]).best()
    if best is None:
        raise _no_text()
    return best.encoding.replace("_", "-"), 0


def telling_sample(stream: BinaryIO) -> bytes:
    """The bytes of a stream that tell how it is written: its beginning, and where that is ASCII, lines that are not."""
    first = stream.read(_SAMPLE)
    if not first.isascii() or b"\0" in first:
        return first
    scanned, found, gathered = len(first), [first], 0
    while gathered < _SAMPLE and scanned < _SCANNED and (block := stream.read(1 << 20)):
        scanned += len(block)
        if not block.isascii():
            lines = [line[:_SAMPLE] for line in block.split(b"\n") if not line.isascii()]
            gathered += sum(map(len, lines))
            found += lines
    return b"\n".join(found) if len(found) == 1 else b"\n".join([*found, b""])


def as_utf8(stream: BinaryIO, name: str) -> tuple[BinaryIO, str]:
    """A stream whose lines end with the byte ``\\n``, and its encoding: UTF-16 and UTF-32 become UTF-8, others stay.

    What is no letter in UTF-16 or UTF-32 becomes a byte that is none in UTF-8, so that its line is found to be broken.
    """
    if name not in _WIDE:
        return stream, name
    return io.BufferedReader(_Blocks(_narrow(stream, name))), UTF_8


def with_line_ends(stream: BinaryIO) -> BinaryIO:
    """The stream with ``\\n`` in the place of ``\\r``, as old Macs end lines."""
    return io.BufferedReader(_Blocks(block.replace(b"\r", b"\n") for block in iter(lambda: stream.read(_BLOCK), b"")))


class _Blocks(io.RawIOBase):
    """Blocks of bytes as a stream."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks, self._rest = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no slices
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _narrow(stream: BinaryIO, name: str) -> Iterator[bytes]:
    read = getattr(codecs, name.replace("-", "_") + "_decode")
    rest = b""
    while block := stream.read(_BLOCK):
        rest += block
        while rest:
            try:
                text, used = read(rest, "strict", False)
            except UnicodeDecodeError as error:
                text, _used = read(rest[: error.start], "strict", False)
                rest = rest[error.end :]
                yield text.encode() + b"\xff"
                continue
            rest = rest[used:]
            yield text.encode()
            break
    if rest:
        yield b"\xff"


def _known(encoding: str) -> str:
    try:
        name = codecs.lookup(encoding).name
        b"".decode(name)  # base64 and its like are codecs, but none of letters
    except LookupError:
        raise DataError(
            _("encoding: {encoding!r} is the name of no encoding").format(encoding=encoding),
            fix=_("write one such as utf-8, utf-16, cp1252, or leave it out: then it is found out"),
        ) from None
    return name


def _wide(sample: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: the letters of ASCII have zeros, always in the same places."""
    if sample.count(0) * 20 < len(sample) or len(sample) < 4:
        return None
    zeros = [sample[place::4].count(0) for place in range(4)]
    quarter = len(sample) // 4
    if min(zeros[1:]) >= quarter * 0.9 > zeros[0] or (min(zeros[2:]) >= quarter * 0.9 > max(zeros[:2])):
        candidates: tuple[str, ...] = ("utf-32-le",)
    elif min(zeros[:3]) >= quarter * 0.9 > zeros[3] or (min(zeros[:2]) >= quarter * 0.9 > max(zeros[2:])):
        candidates = ("utf-32-be",)
    else:
        low, high = zeros[0] + zeros[2], zeros[1] + zeros[3]
        candidates = ("utf-16-le",) if high > 9 * low else ("utf-16-be",) if low > 9 * high else ()
    for name in candidates:
        text = codecs.getincrementaldecoder(name)("replace").decode(sample)
        if text.count("�") * 100 <= len(text) and not any(letter in text for letter in "\0\x01\x02\x03\x04"):
            return name
    return None


def _is_utf8(sample: bytes) -> bool:
    """Whether the bytes are UTF-8; a few that are not are broken lines of a text in UTF-8, told later with their line."""
    try:
        codecs.getincrementaldecoder(UTF_8)().decode(sample)
    except UnicodeDecodeError:
        high = len(_HIGH.findall(sample))
        return sum(map(len, _TWO_TO_FOUR.findall(sample))) >= 0.5 * high
    return True


def _is_western(sample: bytes) -> bool:
    """Whether cp1252 makes a Western text of the bytes: its letters with accents stand alone between letters of ASCII."""
    letters = sample[-_SAMPLE:]
    high = _HIGH.findall(letters)
    try:
        known = sum(byte.decode("cp1252") in _WESTERN for byte in high)
    except UnicodeDecodeError:
        return False
    return known >= _LEAST_OF_TEXT * len(high) and len(_NEIGHBOURS.findall(letters)) <= 0.15 * len(high)


def _no_text() -> DataError:
    return DataError(
        _("the bytes are no text in an encoding that is known"),
        fix=_("give examples as text in UTF-8, or say in the recipe how it is written: encoding: cp1252"),
    )
