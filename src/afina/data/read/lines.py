"""JSON Lines: one value a line, from a stream of bytes; never more than one line is held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from afina.core.translation import _
from afina.core.units import format_bytes
from afina.data.conversation import Source
from afina.data.read.item import LONGEST_LINE, Item, Record, broken
from afina.data.read.strict_json import BrokenJsonError, parse_json

_BLOCK = 1 << 20
_BLANKS = " \t\r\n\v\f"


def json_lines(name: str, stream: BinaryIO, encoding: str) -> Iterator[Item]:
    for number, line in numbered_lines(stream):
        if line is None:
            yield broken(Source(name, number), too_long())
            continue
        if not line or line.isspace():
            continue
        source = Source(name, number)
        try:
            text = line.decode(encoding)
            if text.strip(_BLANKS):  # not isspace(): U+001C and its like are no blanks to a person
                yield Record(source, parse_json(text))
        except UnicodeDecodeError as error:
            yield broken(source, undecodable(line, error, encoding))
        except BrokenJsonError as error:
            yield broken(source, error.reason)


def numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Number and bytes of each line without its end (``\\n``, ``\\r\\n``, ``\\r``); None in the place of one that is too long."""
    number = 0
    readline = stream.readline
    while line := readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            skip_line(stream)
            yield number, None
            continue
        bare = line.removesuffix(b"\n").removesuffix(b"\r")
        if b"\r" not in bare:
            yield number, bare
            continue
        parts = bare.replace(b"\r\n", b"\r").split(b"\r")  # line ends of old Macs, alone or among others
        yield from enumerate(parts, start=number)
        number += len(parts) - 1


def skip_line(stream: BinaryIO) -> None:
    """Goes behind the next line end, without holding what is before it."""
    while (rest := stream.readline(_BLOCK)) and not rest.endswith(b"\n"):
        pass


def too_long() -> str:
    return _("the line is longer than {limit} and is passed over").format(limit=format_bytes(LONGEST_LINE))


def undecodable(line: bytes, error: UnicodeDecodeError, encoding: str) -> str:
    return _("byte {place} of the line (0x{value:02x}) is not {encoding}").format(
        place=error.start + 1, value=line[error.start], encoding=encoding.upper()
    )
