"""The files that a recipe names, as text; every problem of every file before any row is read."""

from __future__ import annotations

import codecs
import difflib
import glob
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from afina.core.errors import DataError
from afina.core.translation import _

_WILD = "*?["


@dataclass(frozen=True)
class TextFile:
    """A file that is there, is UTF-8 (its byte order mark taken off) and holds more than blanks."""

    path: Path
    text: str


@dataclass(frozen=True)
class _Problem:
    what: str
    fix: str


def find_files(patterns: Sequence[str]) -> list[Path]:
    """The files behind paths and patterns (``*``, ``?``, ``**``): patterns in their order, the files of each sorted, none twice.

    Raises DataError with everything that is not there.
    """
    found: dict[Path, Path] = {}
    problems: list[_Problem] = []
    for pattern in patterns:
        paths, problem = _expand(pattern)
        problems += [problem] if problem else []
        for path in paths:
            found.setdefault(path.resolve(), path)
    _raise(problems)
    return list(found.values())


def read_texts(paths: Sequence[Path]) -> list[TextFile]:
    """Each file's text. Raises DataError with every file that is empty, binary or not UTF-8, and its line."""
    files: list[TextFile] = []
    problems: list[_Problem] = []
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as error:
            what = _("{path} cannot be read: {reason}").format(path=path, reason=error.strerror)
            problems.append(_Problem(what, _("make it readable: chmod u+r {path}").format(path=_quoted(path))))
            continue
        text = _decode(path, data)
        if isinstance(text, _Problem):
            problems.append(text)
        else:
            files.append(TextFile(path, text))
    _raise(problems)
    return files


def _expand(pattern: str) -> tuple[list[Path], _Problem | None]:
    path = Path(pattern)
    if path.is_dir():
        what = _("{path} is a folder").format(path=path)
        return [], _Problem(what, _("name its files in data.examples: {pattern}").format(pattern=path / "*.jsonl"))
    if path.is_file():
        return [path], None
    if path.exists():
        return [], _Problem(_("{path} is not a regular file").format(path=path), _("give a file in data.examples"))
    if any(letter in pattern for letter in _WILD):
        found = glob.glob(pattern, recursive=True)  # noqa: PTH207 -- Path.glob takes no absolute pattern
        matches = sorted(match for match in map(Path, found) if match.is_file())
        what = _("no file matches {pattern}").format(pattern=pattern)
    else:
        matches = []
        what = _("there is no file {path}").format(path=path) + _did_you_mean(path)
    return matches, None if matches else _Problem(what, _("correct data.examples in the recipe"))


def _did_you_mean(path: Path) -> str:
    """The neighbour with the nearest name, so that a typing error is seen at once."""
    if not path.parent.is_dir():
        return _("; there is no folder {folder} either").format(folder=path.parent)
    names = sorted(other.name for other in path.parent.iterdir() if other.is_file())
    close = difflib.get_close_matches(path.name, names, n=1)
    return _("; did you mean '{name}'?").format(name=close[0]) if close else ""


def _decode(path: Path, data: bytes) -> str | _Problem:
    name = _quoted(path)
    for start, kind, fix in _known_formats():
        if data.startswith(start):
            return _Problem(_("{path} is {kind}, not text").format(path=path, kind=kind), fix.format(path=name))
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        fix = _("convert it: iconv -f UTF-16 -t UTF-8 {path} > {new}")
        return _Problem(_("{path}:1: the text is UTF-16, not UTF-8").format(path=path), fix.format(path=name, new=_renamed(path)))
    if (zero := data.find(b"\0")) >= 0:
        what = _("{path}:{line}: byte {place} is zero: the file is binary").format(
            path=path, line=_line(data, zero), place=zero + 1
        )
        return _Problem(what, _("give examples as JSONL, JSON or CSV in UTF-8"))
    body = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start + len(data) - len(body)
        what = _("{path}:{line}: byte {place} (0x{value:02x}) is not UTF-8").format(
            path=path, line=_line(data, place), place=place + 1, value=data[place]
        )
        fix = _("convert it, for example from Windows: iconv -f WINDOWS-1252 -t UTF-8 {path} > {new}")
        return _Problem(what, fix.format(path=name, new=_renamed(path)))
    if not text or text.isspace():
        return _Problem(_("{path} is empty").format(path=path), _("give a file with examples in it"))
    return text


def _known_formats() -> tuple[tuple[bytes, str, str], ...]:
    """First bytes, what such a file is, and what to do with it."""
    as_csv = _("save it from the spreadsheet program as CSV in UTF-8")
    unpack = _("unpack it first")
    parquet = "pandas.read_parquet('x.parquet').to_json('x.jsonl', orient='records', lines=True)"
    return (
        (b"PK\x03\x04", _("a zip archive (Excel and Word files are such)"), as_csv),
        (b"\xd0\xcf\x11\xe0", _("an old Excel or Word file"), as_csv),
        (b"\x1f\x8b", _("compressed with gzip"), "gunzip -k {path}"),
        (b"BZh", _("compressed with bzip2"), "bunzip2 -k {path}"),
        (b"\xfd7zXZ", _("compressed with xz"), "unxz -k {path}"),
        (b"\x28\xb5\x2f\xfd", _("compressed with zstd"), "unzstd {path}"),
        (b"7z\xbc\xaf", _("a 7z archive"), unpack),
        (b"PAR1", _("Parquet"), _("write its rows as JSONL, in Python: {code}").format(code=parquet)),
        (b"%PDF", _("a PDF document"), _("give examples as JSONL, JSON or CSV in UTF-8")),
        (b"version https://git-lfs.github.com/spec/", _("a pointer of Git LFS"), "git lfs pull"),
    )


def _line(data: bytes, place: int) -> int:
    return data.count(b"\n", 0, place) + 1


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _renamed(path: Path) -> str:
    return shlex.quote(str(path.with_name(f"{path.stem}.utf8{path.suffix}")))


def _raise(problems: Sequence[_Problem]) -> None:
    if problems:
        fixes = list(dict.fromkeys(problem.fix for problem in problems))
        raise DataError("\n".join(problem.what for problem in problems), fix="\n".join(fixes))
