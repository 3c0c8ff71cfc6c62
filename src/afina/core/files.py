"""Files that are either whole or not there, and their fingerprints."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.core.units import MIB, format_bytes

_READ_BYTES = 4 * MIB
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no quota, no larger file allowed


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new path beside ``path``; what was written there takes its place, on the disk, where the block ends well.

    A crash leaves the old file or the new one, never a half. Raises ResourceError where the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with told_when_full(path):
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
        _keep_entry(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes ``data`` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def remove_parts(folder: Path) -> None:
    """Deletes what killed processes left half-written in ``folder``."""
    for part in folder.glob(".*.part"):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink()


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Makes a ResourceError of the system's word that there is no room for ``path``."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise full_disk(path) from None
        raise


def full_disk(path: Path) -> ResourceError:
    return ResourceError(
        _("the disk is full: {path} could not be written, {free} are free").format(
            path=path, free=format_bytes(shutil.disk_usage(path.parent).free)
        ),
        fix=_("free some space there; then the same command goes on"),
    )


def _keep_entry(folder: Path) -> None:
    """Makes a rename in ``folder`` outlive a power cut, where the system lets a folder be opened."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=False) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def require_disk(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raises ResourceError where ``folder``'s disk has less than ``needed_bytes`` free (checked before the work)."""
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise ResourceError(
            _("{purpose} needs {needed} on the disk of {folder}, {free} are free").format(
                purpose=purpose, needed=format_bytes(needed_bytes), folder=existing, free=format_bytes(free)
            ),
            fix=_("free some space there, or choose another place with --runs FOLDER"),
        )
