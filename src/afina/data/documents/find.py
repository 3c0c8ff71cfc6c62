"""The documents behind paths, folders and patterns; every problem of every entry at once."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.documents.read import READERS

_WILD = "*?["


def find_documents(patterns: Sequence[str]) -> list[Path]:
    """The files in the order of the entries, those of one entry sorted, none twice.

    A file is taken as it is named; a folder gives, with the folders in it, its files of the kinds that are read.
    Raises DataError with every entry that is not there, cannot be opened, or holds no document.
    """
    found: dict[Path, Path] = {}
    problems: list[str] = []
    for pattern in patterns:
        paths, problem = _expand(pattern)
        problems += [problem] if problem else []
        for path in paths:
            found.setdefault(path.resolve(), path)
    if problems:
        raise DataError("\n".join(problems), fix=_("correct the names of the documents"))
    return list(found.values())


def passed_over(patterns: Sequence[str]) -> list[Path]:
    """The files in the named folders that ``find_documents`` does not take, for a notice."""
    folders = (Path(pattern) for pattern in patterns)
    return [path for folder in folders if folder.is_dir() for path in _files(folder, []) if path.suffix.lower() not in READERS]


def _expand(pattern: str) -> tuple[list[Path], str]:
    """The files of one entry, or what is wrong with it."""
    path = Path(pattern)
    if path.is_dir():
        unreadable: list[str] = []
        files = [file for file in _files(path, unreadable) if file.suffix.lower() in READERS]
        if unreadable:
            return [], _("{path} cannot be opened").format(path=", ".join(unreadable))
        return files, "" if files else _("{path} holds no document: {kinds}").format(path=path, kinds=" ".join(READERS))
    if path.is_file():
        return [path], ""
    if path.exists():
        return [], _("{path} is not a regular file").format(path=path)
    if any(letter in pattern for letter in _WILD):
        matches = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- Path.glob takes no absolute pattern
        files = [match for match in map(Path, matches) if match.is_file()]
        return files, "" if files else _("no file matches {pattern}").format(pattern=pattern)
    if path.is_symlink():
        return [], _("{path} is a link that leads nowhere").format(path=path)
    names = sorted(other.name for other in path.parent.iterdir()) if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    what = _("there is no file {path}").format(path=path)
    return [], what + (_("; did you mean '{name}'?").format(name=close[0]) if close else "")


def _files(folder: Path, unreadable: list[str]) -> Iterator[Path]:
    """All files below a folder, sorted, hidden ones not; links to folders are not followed, so that none leads round."""
    for root, folders, names in os.walk(folder, onerror=lambda error: unreadable.append(str(error.filename))):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(root) / name
            if not name.startswith((".", "~$")) and path.is_file():  # ~$: what Office leaves beside an open file
                yield path
