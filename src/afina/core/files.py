"""Files that are either whole or not there, and their fingerprints."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.core.units import MIB, format_bytes

_READ_BYTES = 4 * MIB


def write_atomic(path: Path, data: bytes | str) -> None:
    """Writes ``data`` so that a crash leaves the old file or the new one, never a half."""
    raw = data.encode("utf-8") if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
