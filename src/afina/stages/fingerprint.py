"""What a stage's result depends on, as short texts that change when it does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from afina import __version__
from afina.core.files import sha256_of, sha256_of_text
from afina.core.run import Manifest
from afina.core.units import MIB
from afina.model.base import Base

_READ_WHOLE = 64 * MIB
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)


def of_files(paths: Iterable[Path]) -> str:
    """One fingerprint of the contents of files, in order. Above 64 MiB a file counts by its size and the time of its last
    change.
    """
    parts = []
    for path in paths:
        facts = path.stat()
        content = sha256_of(path) if facts.st_size <= _READ_WHOLE else f"{facts.st_size}@{facts.st_mtime_ns}"
        parts.append(f"{path.name}={content}")
    return _short("\n".join(parts))


def of_settings(*sections: BaseModel | str | float | tuple[Any, ...] | None) -> str:
    """One fingerprint of sections and values of a recipe."""
    return _short("\n".join(part.model_dump_json() if isinstance(part, BaseModel) else repr(part) for part in sections))


def settings_by_key(section: BaseModel, prefix: str, *, without: frozenset[str] = frozenset()) -> dict[str, str]:
    """``train.epochs`` → ``3.0``: each setting as an input of its own, so that a change is told key by key."""
    return {f"{prefix}.{key}": str(value) for key, value in section.model_dump().items() if key not in without}


def of_tokenizer(base: Base) -> str:
    return of_files(path for name in ("config.json", *_TOKENIZER_FILES) if (path := base.folder / name).is_file())


def of_template(setting: str) -> str:
    """The recipe's ``chat_template``; a file counts by what is in it."""
    return of_files([Path(setting)]) if setting.endswith(".jinja") and Path(setting).is_file() else setting


def of_base(base: Base) -> str:
    return of_files([base.folder / "config.json", *base.weight_files])


def of_model(base: Base, adapter: Path | None) -> str:
    """A base with the adapter on it, if any, by what is in their files."""
    files = sorted(path for path in adapter.iterdir() if path.is_file()) if adapter is not None else []
    return _short(f"{of_base(base)} {of_files(files)}")


def of_stage(manifest: Manifest) -> str:
    """A finished stage, by what went into it: the same inputs give the same result."""
    return _short(f"{__version__}\n" + "\n".join(f"{name}={value}" for name, value in sorted(manifest.inputs.items())))


def _short(text: str) -> str:
    return sha256_of_text(text)[:16]
