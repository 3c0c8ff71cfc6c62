"""What ``prepare`` tells of its data: the values of ``report.json`` and ``report.html``. Its texts are masked."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from afina.core.errors import DataError
from afina.core.files import read_json, write_json
from afina.core.translation import _

# The stages of the flow: rows as they stand in the files, then what each kind of check left over, then the recipe's limit.
Stage = Literal["read", "reading", "text", "tokens", "set", "limit"]
Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class FileFlow:
    """One file: what it is (``csv``), how its rows are read (``shape``) and why, and what came of them."""

    name: str
    kind: str
    shape: str
    reason: str
    encoding: str
    rows: int
    conversations: int
    dropped: int
    sample: str


@dataclass(frozen=True)
class DocumentFlow:
    """One document. ``problem`` is empty where it was read."""

    name: str
    chunks: int
    problem: str


@dataclass(frozen=True)
class Step:
    """One stage of the flow: ``left`` conversations after it, what it left out by check, how many it changed.

    A row that is parted because it is long counts as one. ``left`` and what was dropped make up the ``left`` of the step before.
    """

    stage: Stage
    left: int
    dropped: tuple[tuple[str, int], ...] = ()
    changed: int = 0


@dataclass(frozen=True)
class Lengths:
    """Tokens of the rows before the limit is applied. ``bins``: upper edges, included; ``limit`` 0: there is none."""

    bins: tuple[int, ...]
    counts: tuple[int, ...]
    median: int
    p95: int
    p995: int
    longest: int
    limit: int


@dataclass(frozen=True)
class Kind:
    """Questions that resemble each other: their typical words, how many they are, a few of them."""

    words: tuple[str, ...]
    share: float
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Twins:
    """Two rows side by side: places, texts, and how alike they are (1: the same)."""

    first: str
    second: str
    left: str
    right: str
    similarity: float


@dataclass(frozen=True)
class FoundRow:
    place: str
    reason: str
    excerpt: str = ""


@dataclass(frozen=True)
class Found:
    """What one check found: in how many rows (``count``), what is done about it (``action``), and the first of the rows."""

    check: str
    severity: Severity
    action: str  # off, warn, fix, drop, stop
    reason: str
    count: int
    rows: tuple[FoundRow, ...]


@dataclass(frozen=True)
class Side:
    """One side of the split: ``train``, ``val`` or ``test``. ``rows`` are what is trained on, tokens those of all rows."""

    name: str
    conversations: int
    rows: int
    tokens: int
    trained_tokens: int


@dataclass(frozen=True)
class ShownRow:
    """One rendered row: its text in segments, each with whether the model learns to write it."""

    place: str
    side: str
    segments: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class PreparePage:
    """Everything that the page says; ``report.json`` holds it as it is."""

    language: str  # of the page: en, es
    name: str
    base: str
    template: str
    verdict: str
    next_steps: tuple[str, ...]
    files: tuple[FileFlow, ...]
    documents: tuple[DocumentFlow, ...]
    flow: tuple[Step, ...]
    sides: tuple[Side, ...]
    lengths: Lengths | None  # None: no row is left
    languages: tuple[tuple[str, int], ...]  # code and rows; "" where the text is too short to tell
    kinds: tuple[Kind, ...]
    found: tuple[Found, ...]
    findings_path: str  # of the file that holds all of them
    duplicates: tuple[Twins, ...]
    contradictions: tuple[Twins, ...]
    leaks: tuple[Twins, ...]
    shown: tuple[ShownRow, ...]
    settings: tuple[tuple[str, str], ...]  # label and value
    finished: str  # UTC
    seconds: float
    version: str  # of afina


def measure_lengths(tokens: Sequence[int] | np.ndarray[Any, Any], limit: int) -> Lengths | None:
    """Bins for the histogram, each a fourth of an octave, so laid that ``limit`` is an edge; None without rows."""
    if not len(tokens):
        return None
    values = np.asarray(tokens)
    shortest, longest = max(1, int(values.min())), max(1, int(values.max()))
    anchor = limit or longest
    first, last = (math.ceil(4 * math.log2(end / anchor) - 1e-9) for end in (shortest, longest))
    edges = sorted({max(1, round(anchor * 2 ** (step / 4))) for step in range(first, last + 1)} | {longest})
    edges = [edge for edge in edges if edge <= longest] if longest != limit else edges
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges))
    median, p95, p995 = (int(value) for value in np.quantile(values, (0.5, 0.95, 0.995), method="higher"))
    return Lengths(tuple(edges), tuple(map(int, counts)), median, p95, p995, longest, limit)


def save(path: Path, page: PreparePage) -> None:
    """Writes ``report.json``."""
    write_json(path, asdict(page))


def load(path: Path) -> PreparePage:
    """The page of a ``report.json``; DataError where it is not one of this version."""
    try:
        return _build(PreparePage, read_json(path))  # type: ignore[no-any-return]
    except (TypeError, ValueError, KeyError) as error:
        raise DataError(
            _("{path} is not a report that this version of afina writes ({error})").format(path=path, error=error),
            fix=_("afina prepare writes it anew"),
        ) from error


def _build(kind: Any, value: Any) -> Any:
    """``value``, read from JSON, as the annotated type ``kind``: dataclasses, tuples, and what JSON has itself."""
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != {field.name for field in fields(kind)}:
            raise TypeError(f"no {getattr(kind, '__name__', kind)}")
        return kind(**{name: _build(hints[name], value[name]) for name in value})  # type: ignore[operator]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list):
            raise TypeError(f"{value!r:.40} is no list")
        if arguments[-1] is Ellipsis:
            return tuple(_build(arguments[0], item) for item in value)
        return tuple(_build(part, item) for part, item in zip(arguments, value, strict=True))
    if origin is types.UnionType:
        return None if value is None else _build(arguments[0], value)
    if origin is Literal:
        if value not in arguments:
            raise ValueError(f"{value!r:.40}")
        return value
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(f"{value!r:.40} is no {kind.__name__}")
    return value
