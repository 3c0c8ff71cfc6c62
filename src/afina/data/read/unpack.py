"""The bytes of a file, unpacked on the way: gzip, bzip2, xz, Zstandard, and the members of a zip.

What a file is packed with follows from its first bytes. An archive inside an archive is refused, and so is one that unpacks to
very much more than it is (a zip bomb).
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import GIB, format_bytes, grouped
from afina.recipe.recipe import Files

MOST_UNPACKED = GIB  # bytes that anything may unpack to …
MOST_TIMES = 200  # … and beyond that, times its own size
MOST_MEMBERS = 100_000
_BUFFER = 1 << 18
_ZIP = b"PK\x03\x04"
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_UNPACK: dict[str, Callable[[BinaryIO], Any]] = {
    "gzip": lambda raw: gzip.GzipFile(fileobj=raw),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda raw: pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"),
}
BREAKS = (OSError, EOFError, ValueError, struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)


@dataclass(frozen=True)
class InputFile:
    """A file of examples: where it lies, and the name by which the user knows it (``chats.zip/2024.txt`` inside an archive).

    ``settings`` are the recipe's words for it; ``member`` its name inside the zip at ``path``; ``sought`` says that it was found
    in a folder or an archive, and not named. ``parts``: the files of a chat of Slack below ``path``, a folder or a zip.
    """

    path: Path
    name: str
    settings: Files | None = None
    member: str = ""
    sought: bool = False
    parts: tuple[str, ...] = ()


@contextmanager
def opened(file: InputFile) -> Iterator[io.BufferedReader[_Bounded]]:
    """The file's unpacked bytes as a stream. Reading it raises DataError where the file breaks or unpacks to far too much."""
    with ExitStack() as stack:
        with _reading(file.name):
            raw, size = _raw(file, stack)
            packed = packing(raw.read(8))
            raw.seek(0)
            plain = _UNPACK[packed](raw) if packed else raw
        if packed and file.member:
            raise nested(file.name)
        bound = max(MOST_UNPACKED, MOST_TIMES * size) if packed or file.member else None
        stream = stack.enter_context(io.BufferedReader(_Bounded(plain, file.name, bound), _BUFFER))
        if packed or file.member:
            start = stream.peek(512)
            if packing(start) or start[257:262] == b"ustar" or (packed and start.startswith(_ZIP)):
                raise nested(file.name)
        yield stream


def packing(start: bytes) -> str:
    """What a file with these first bytes is packed with; empty where it is not."""
    return next((name for mark, name in _PACKED.items() if start.startswith(mark)), "")


def whole(file: InputFile, limit: int) -> bytes:
    """All bytes of a file that has to be held as a whole. Raises DataError where they are more than ``limit``."""
    with opened(file) as stream:
        data = stream.read(limit + 1)
    if len(data) > limit:
        raise too_large(file.name, limit)
    return data


def members(path: Path) -> list[zipfile.ZipInfo]:
    """The files in a zip, in their order. Raises DataError where it is broken, locked or a bomb."""
    with _reading(str(path)):
        found = [member for member in _archive(path).infolist() if member.filename and not member.filename.endswith("/")]
    unpacked, size = sum(member.file_size for member in found), path.stat().st_size
    if len(found) > MOST_MEMBERS:
        raise DataError(
            _("{path} holds {count} files; at most {limit} are read").format(
                path=path, count=grouped(len(found)), limit=grouped(MOST_MEMBERS)
            ),
            fix=_("unpack it, and give the folder"),
        )
    if unpacked > max(MOST_UNPACKED, MOST_TIMES * size):
        raise _bomb(str(path), unpacked)
    if any(member.flag_bits & 1 for member in found):
        raise DataError(
            _("{path} is locked with a password").format(path=path), fix=_("unpack it with its password, and give the folder")
        )
    return found


def _raw(file: InputFile, stack: ExitStack) -> tuple[BinaryIO, int]:
    """The bytes as they lie on the disk or in the archive, and their number."""
    if not file.member:
        return stack.enter_context(file.path.open("rb")), file.path.stat().st_size
    archive = _archive(file.path)
    info = archive.getinfo(file.member)
    return cast(BinaryIO, stack.enter_context(archive.open(info))), info.compress_size


def _archive(path: Path) -> zipfile.ZipFile:
    facts = path.stat()
    return _opened_archive(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=1)  # the table of contents is read once an archive, not once a member
def _opened_archive(path: Path, _size: int, _changed: int) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """The errors of the libraries that unpack, as one that names the file."""
    try:
        yield
    except BREAKS as error:
        raise _broken(name, error) from None


class _Bounded(io.RawIOBase):
    """A stream that stops where it has given more than ``bound`` bytes, and names the file where it breaks."""

    def __init__(self, stream: BinaryIO, name: str, bound: int | None) -> None:
        self._stream, self._name, self._bound, self._given = stream, name, bound, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no slices
        with _reading(self._name):
            block = self._stream.read(len(buffer))
        self._given += len(block)
        if self._bound is not None and self._given > self._bound:
            raise _bomb(self._name, self._given)
        buffer[: len(block)] = block
        return len(block)


def _broken(name: str, error: Exception) -> DataError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DataError(
        _("{name} cannot be read to its end: {reason}").format(name=name, reason=reason),
        fix=_("the file is broken or not complete: fetch or write it again"),
    )


def _bomb(name: str, unpacked: int) -> DataError:
    return DataError(
        _("{name} unpacks to more than {unpacked}, over {times} times its own size").format(
            name=name, unpacked=format_bytes(unpacked), times=MOST_TIMES
        ),
        fix=_("if you trust it, unpack it yourself and give the files"),
    )


def too_large(name: str, limit: int) -> DataError:
    return DataError(
        _("{name} is larger than {limit}, and a file of its kind has to be held as a whole").format(
            name=name, limit=format_bytes(limit)
        ),
        fix=_("write it as JSONL (one object a line), or in several files"),
    )


def nested(name: str) -> DataError:
    return DataError(
        _("{name} is an archive inside an archive").format(name=name), fix=_("unpack the outer one, and give its files")
    )
