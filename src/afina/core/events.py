"""What a run tells while it works. Stages emit; the terminal, the report and the web page only read.

Each event is one line of ``events.jsonl`` and one call of each listener. Events carry data, and the few texts in them are already
in the user's language.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self, TextIO

from afina.core.files import told_when_full


@dataclass(frozen=True)
class StageStarted:
    stage: str
    plan: str  # what will be done, how long, how much memory, why


@dataclass(frozen=True)
class StageSkipped:
    stage: str
    reason: str


@dataclass(frozen=True)
class StageFinished:
    stage: str
    seconds: float
    summary: str  # the same numbers as the plan, measured


@dataclass(frozen=True)
class Progress:
    """``done`` of ``total`` ``unit`` of a task (total 0: not known); ``note`` is what changes beside the bar (``loss 1.23``)."""

    stage: str
    task: str
    done: int
    total: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Metric:
    """Numbers at one step of training or at one point of a comparison."""

    stage: str
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class Notice:
    """Something that the user should know; ``level`` is ``info`` or ``warning``."""

    stage: str
    level: str
    text: str


@dataclass(frozen=True)
class Sample:
    """What the model answers to a held-out prompt at one step of training, beside what was expected."""

    stage: str
    step: int
    prompt: str
    expected: str
    answer: str


Event = StageStarted | StageSkipped | StageFinished | Progress | Metric | Notice | Sample
Listener = Callable[[Event], None]
KINDS: dict[str, type[Event]] = {
    kind.__name__: kind for kind in (StageStarted, StageSkipped, StageFinished, Progress, Metric, Notice, Sample)
}


class Events:
    """The open ``events.jsonl`` of a run, and who listens. A context manager."""

    def __init__(self, path: Path | None = None, listeners: tuple[Listener, ...] = ()) -> None:
        self._listeners = listeners
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _mend_last_line(path)
            self._file = path.open("a", encoding="utf-8", buffering=1)

    def emit(self, event: Event) -> None:
        if self._file is not None:
            record = {"time": round(time.time(), 3), "kind": type(event).__name__, **asdict(event)}
            with told_when_full(Path(self._file.name)):
                self._file.write(json.dumps(record, ensure_ascii=False) + "\n")
        for listener in self._listeners:
            listener(event)

    @contextmanager
    def heard_by(self, *listeners: Listener) -> Iterator[None]:
        """More listeners while the block runs."""
        before = self._listeners
        self._listeners = (*before, *listeners)
        try:
            yield
        finally:
            self._listeners = before

    def info(self, stage: str, text: str) -> None:
        self.emit(Notice(stage, "info", text))

    def warn(self, stage: str, text: str) -> None:
        self.emit(Notice(stage, "warning", text))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file is not None:
            self._file.close()


def read_events(path: Path) -> Iterator[tuple[float, Event]]:
    """Time and event of each complete line; a line cut by a crash is passed over."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            record = json.loads(line)
            moment, kind = record.pop("time"), record.pop("kind")
            yield moment, KINDS[kind](**record)


def _mend_last_line(path: Path) -> None:
    """Drops the unfinished last line that a killed process left."""
    if not path.exists():
        return
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
