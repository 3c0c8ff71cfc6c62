"""The files that a recipe names: found in folders, patterns and archives; every problem of every file before any row is read."""

from __future__ import annotations

import difflib
import glob
import os
import shlex
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.read.chats import is_slack_export
from afina.data.read.strict_json import BrokenJsonError, parse_json
from afina.data.read.unpack import BREAKS, InputFile, members
from afina.recipe.recipe import Files

ENDINGS = (
    *(".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".md", ".markdown", ".yaml", ".yml"),
    *(".xlsx", ".xlsm", ".parquet", ".arrow"),
)
PACKED_ENDINGS = (".gz", ".bz2", ".xz", ".zst")
_WILD = "*?["
_ABOUT = ("readme", "license", "licence", "changelog", "dataset_info", "dataset_infos", "state")  # not examples
_START = 1 << 16  # bytes that a look at a file takes in


@dataclass(frozen=True)
class PassedOver:
    """A file in a folder or an archive that is not read, and why. ``is_loss``: by its ending it could have been examples."""

    name: str
    reason: str
    is_loss: bool = False


@dataclass(frozen=True)
class Found:
    files: tuple[InputFile, ...]
    passed_over: tuple[PassedOver, ...] = ()


@dataclass(frozen=True)
class _Problem:
    what: str
    fix: str


def find_files(entries: Sequence[str | Files]) -> list[InputFile]:
    """The files behind the recipe's entries, in their order and those of each sorted, none twice.

    Raises DataError with everything that is not there or cannot be read.
    """
    return list(look(entries).files)


def paths_of(files: Sequence[InputFile]) -> list[Path]:
    """Every file on the disk that these are read from, each once."""
    paths: dict[Path, None] = {}
    for file in files:
        paths |= dict.fromkeys([file.path / part for part in file.parts] if file.path.is_dir() else [file.path])
    return list(paths)


def look(entries: Sequence[str | Files]) -> Found:
    """As ``find_files``, with what was passed over in folders and archives."""
    found: dict[tuple[Path, str], InputFile] = {}
    passed: list[PassedOver] = []
    problems: list[_Problem] = []
    for entry in entries:
        pattern, settings = (entry, None) if isinstance(entry, str) else (entry.files, entry)
        for item in _expand(pattern, settings):
            match item:
                case InputFile():
                    found.setdefault((item.path.resolve(), item.member), item)
                case PassedOver():
                    passed.append(item)
                case _Problem():
                    problems.append(item)
    if problems:
        fixes = list(dict.fromkeys(problem.fix for problem in problems))
        raise DataError("\n".join(dict.fromkeys(problem.what for problem in problems)), fix="\n".join(fixes))
    return Found(tuple(found.values()), tuple(passed))


# ── from an entry to files ────────────────────────────────────────────────────────────────────────────────────────────


def _expand(pattern: str, settings: Files | None) -> Iterator[InputFile | PassedOver | _Problem]:
    path = Path(pattern)
    if path.is_dir():
        yield from _folder(path, settings)
    elif path.is_file():
        yield from _file(InputFile(path, str(path), settings))
    elif path.exists():
        yield _Problem(_("{path} is not a regular file").format(path=path), _("give a file in data.examples"))
    elif any(letter in pattern for letter in _WILD):
        matches = sorted(match for match in map(Path, glob.glob(pattern, recursive=True)) if match.is_file())  # noqa: PTH207 -- Path.glob takes no absolute pattern
        for match in matches:
            yield from _file(InputFile(match, str(match), settings))
        if not matches:
            yield _Problem(_("no file matches {pattern}").format(pattern=pattern), _("correct data.examples in the recipe"))
    elif path.is_symlink():
        what = _("{path} is a link that leads to nothing, or to itself").format(path=path)
        yield _Problem(what, _("correct data.examples in the recipe"))
    else:
        what = _("there is no file {path}").format(path=path) + _did_you_mean(path)
        yield _Problem(what, _("correct data.examples in the recipe"))


def _did_you_mean(path: Path) -> str:
    """The neighbour with the nearest name, so that a typing error is seen at once."""
    if not path.parent.is_dir():
        return _("; there is no folder {folder} either").format(folder=path.parent)
    names = sorted(other.name for other in path.parent.iterdir())
    close = difflib.get_close_matches(path.name, names, n=1)
    return _("; did you mean '{name}'?").format(name=close[0]) if close else ""


def _folder(folder: Path, settings: Files | None) -> Iterator[InputFile | PassedOver | _Problem]:
    """The files below a folder that have a known ending; a folder that a link leads to a second time is not gone into."""
    listed = [str(path.relative_to(folder)) for path in _walk(folder)]
    if is_slack_export(listed):
        yield InputFile(folder, str(folder), settings, parts=tuple(name for name in listed if name.endswith(".json")))
        return
    count = 0
    for below in sorted({(folder / name).parent for name in listed}):
        names = sorted(Path(name).name for name in listed if (folder / name).parent == below)
        stated = _stated_files(below) if "state.json" in names else None
        for name in names:
            path = below / name
            if reason := _passed_over(name, stated):
                yield PassedOver(str(path), reason)
                continue
            for item in _file(InputFile(path, str(path), settings, sought=True)):
                count += isinstance(item, InputFile | _Problem)
                yield item
    if not count:
        what = _("the folder {path} holds no file that is read as examples").format(path=folder)
        yield _Problem(what, _("these endings are read: {endings}").format(endings=" ".join((*ENDINGS, *PACKED_ENDINGS, ".zip"))))


def _walk(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(root))
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and os.path.realpath(f"{root}/{name}") not in seen
        )
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _stated_files(folder: Path) -> frozenset[str] | None:
    """The Arrow files that a folder of Hugging Face ``datasets`` says it is made of; None where it does not say."""
    try:
        state: Any = parse_json((folder / "state.json").read_text(encoding="utf-8"))
        return frozenset(file["filename"] for file in state["_data_files"])
    except (OSError, UnicodeDecodeError, BrokenJsonError, KeyError, TypeError):
        return None


def _passed_over(name: str, stated: frozenset[str] | None) -> str:
    """Why a file of a folder is not read; empty where it is."""
    path = PurePosixPath(name)
    inner = PurePosixPath(path.stem) if path.suffix.lower() in PACKED_ENDINGS else path
    if path.suffix.lower() != ".zip" and inner.suffix.lower() not in ENDINGS:
        return _("not an ending that is read")
    if name == "dataset_dict.json":
        return _("names the splits: all are read; to keep one apart, give its folder in data.test")
    if path.stem.lower() in _ABOUT:
        return _("tells about the others")
    if stated is not None and inner.suffix.lower() == ".arrow" and name not in stated:
        return _("not a part of the data set, by its state.json")
    return ""


# ── a look at one file ────────────────────────────────────────────────────────────────────────────────────────────────


def _file(file: InputFile) -> Iterator[InputFile | PassedOver | _Problem]:
    """The file, those inside of it where it is an archive, or what is wrong with it."""
    try:
        with file.path.open("rb") as stream:
            start = stream.read(_START)
    except OSError as error:
        what = _("{path} cannot be read: {reason}").format(path=file.path, reason=error.strerror)
        yield _Problem(what, _("make it readable: chmod u+r {path}").format(path=_quoted(file.path)))
        return
    if problem := _look_at(file, start):
        if file.sought and not start.startswith(_LFS):
            yield PassedOver(file.name, problem.what.removeprefix(f"{file.path} "), is_loss=True)
        else:
            yield problem
    elif start.startswith(b"PK\x03\x04") and not is_workbook(file.path):
        yield from _archive(file)
    else:
        yield file


def _archive(file: InputFile) -> Iterator[InputFile | PassedOver | _Problem]:
    """The members of a zip that have a known ending."""
    try:
        names = [member.filename for member in members(file.path)]
    except DataError as error:
        yield _Problem(error.what, error.fix)
        return
    if any(name in ("word/document.xml", "ppt/presentation.xml", "META-INF/container.xml") for name in names):
        yield _Problem(_("{path} is a document").format(path=file.path), _("name it in data.documents"))
        return
    if is_slack_export(names):
        yield InputFile(file.path, file.name, file.settings, parts=tuple(name for name in names if name.endswith(".json")))
        return
    count = 0
    for name in sorted(names):
        path = PurePosixPath(name)
        if path.name.startswith(".") or "__MACOSX" in path.parts:
            continue
        reason = _passed_over(path.name, None)
        if not reason and (path.suffix.lower() == ".zip" or path.suffix.lower() in PACKED_ENDINGS):
            reason = _("an archive inside an archive")
        if reason:
            yield PassedOver(f"{file.name}/{name}", reason)
        else:
            count += 1
            yield InputFile(file.path, f"{file.name}/{name}", file.settings, member=name, sought=True)
    if not count:
        what = _("{path} holds no file that is read as examples").format(path=file.path)
        yield _Problem(what, _("these endings are read: {endings}").format(endings=" ".join(ENDINGS)))


def is_workbook(path: Path) -> bool:
    """Whether a zip is a workbook of Excel; a broken one counts by its ending."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except BREAKS:
        return path.suffix.lower() in (".xlsx", ".xlsm")


_LFS = b"version https://git-lfs.github.com/spec/"


def _look_at(file: InputFile, start: bytes) -> _Problem | None:
    path = file.path
    for mark, kind, fix in _known_formats():
        if start.startswith(mark):
            return _Problem(_("{path} is {kind}, not examples").format(path=path, kind=kind), fix.format(path=_quoted(path)))
    if len(start) < _START and not start.removeprefix(b"\xef\xbb\xbf").strip():
        return _Problem(_("{path} is empty").format(path=path), _("give a file with examples in it"))
    return None


def _known_formats() -> tuple[tuple[bytes, str, str], ...]:
    """First bytes, what such a file is, and what to do with it."""
    unpack = _("unpack it first")
    return (
        (
            b"\xd0\xcf\x11\xe0",
            _("an old Excel or Word file"),
            _("save it from the spreadsheet program as .xlsx, or as CSV in UTF-8"),
        ),
        (b"7z\xbc\xaf", _("a 7z archive"), unpack),
        (b"Rar!", _("a RAR archive"), unpack),
        (b"%PDF", _("a PDF document"), _("name it in data.documents")),
        (b"{\\rtf", _("a text of a word processor (RTF)"), _("save it as text in UTF-8")),
        (b"SQLite format 3\0", _("a data base of SQLite"), _("write its rows as CSV or JSONL")),
        (_LFS, _("a pointer of Git LFS"), "git lfs pull"),
    )


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
