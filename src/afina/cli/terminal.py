"""A run's events on the terminal: bars that live while it works, and plain lines in a pipe. All of it on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from afina.core import events
from afina.core.events import Event, Listener
from afina.core.translation import _
from afina.core.units import Displayed, format_duration

_SAMPLE_CHARACTERS = 60  # of a question and of an answer
_PLAIN_SECONDS = 5.0  # between two lines of one task in a pipe


@contextmanager
def shown_events() -> Iterator[Listener]:
    """A listener that shows events while the block runs."""
    console = Console(stderr=True, highlight=False)
    terminal = _Live(console) if console.is_terminal else _Plain()
    try:
        yield terminal.show
    finally:
        terminal.close()


class _Plain:
    """One line an event; progress every few seconds, so that what is done at once says nothing."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}  # task → when it began, or when its last line was shown
        self._began: dict[str, tuple[float, int]] = {}  # task → when it began, and how much was done then

    def show(self, event: Event) -> None:
        left = ""
        if isinstance(event, events.Progress):
            now = time.monotonic()
            start, first = self._began.setdefault(event.task, (now, event.done))
            if event.done == event.total:
                del self._began[event.task]
            if now - self._last.setdefault(event.task, now) < _PLAIN_SECONDS:
                return
            self._last[event.task] = now
            if not event.note:  # a note tells what is left by a better measure
                left = _time_left(now - start, event.done - first, event.total - event.done)
        if text := line(event):
            print(text + left, file=sys.stderr, flush=True)

    def close(self) -> None:
        sys.stderr.flush()


def _time_left(seconds: float, done: int, left: int) -> str:
    """``, about 3 min 05 s left``; nothing where it cannot be told."""
    if done <= 0 or left <= 0:
        return ""
    return _(", about {time} left").format(time=format_duration(seconds * left / done))


class _Live:
    """Lines as in a pipe, with bars below them that go when their task is done."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
        )
        self._tasks: dict[str, tuple[TaskID, float, int]] = {}
        self._bars.start()

    def show(self, event: Event) -> None:
        if isinstance(event, events.Progress):
            self._progress(event)
            return
        if isinstance(event, events.StageFinished):
            self._clear()
        if text := line(event):
            style = {"StageStarted": "bold", "StageFinished": "green", "Notice": ""}.get(type(event).__name__, "dim")
            if isinstance(event, events.Notice) and event.level == "warning":
                style = "yellow"
            self._console.print(Text(text, style=style))

    def _progress(self, event: events.Progress) -> None:
        if event.task not in self._tasks:
            number = self._bars.add_task(event.task, total=event.total or None, unit=event.unit, rate="", note="")
            self._tasks[event.task] = (number, time.monotonic(), event.done)
        number, start, first = self._tasks[event.task]
        seconds = time.monotonic() - start
        rate = f"{Displayed((event.done - first) / seconds):.1f}/s" if seconds > 0.5 and event.done > first else ""
        self._bars.update(number, completed=event.done, total=event.total, unit=event.unit, rate=rate, note=event.note)
        if event.done == event.total:
            self._bars.remove_task(number)
            del self._tasks[event.task]

    def _clear(self) -> None:
        for number, _start, _first in self._tasks.values():
            self._bars.remove_task(number)
        self._tasks.clear()

    def close(self) -> None:
        self._bars.stop()


def line(event: Event) -> str:
    """An event as one line of text; ``""`` for those that are only data."""
    match event:
        case events.StageStarted(stage, plan):
            return f"{_name(stage):<8} {plan}"
        case events.StageSkipped(stage, reason):
            return f"{_name(stage):<8} {_('as before')}: {reason}"
        case events.StageFinished(stage, seconds, summary):
            return f"{_name(stage):<8} {_('done in')} {format_duration(seconds)}: {summary}"
        case events.Progress(stage, task, done, total, unit, note):
            return f"{_name(stage):<8} {task}: {f'{done}/{total}' if total else done} {unit} {note}".rstrip()
        case events.Notice(stage, level, text):
            return f"{_name(stage):<8} {_('warning') + ': ' if level == 'warning' else ''}{text}"
        case events.Sample(stage, step, prompt, _expected, answer):
            return f"{_name(stage):<8} {_('sample at step {step}').format(step=step)}: {_short(prompt)} → {_short(answer)}"
        case _:
            return ""


def _name(stage: str) -> str:
    """A stage's command; what is no command has a name in the user's language."""
    return _("forgetting") if stage == "forgetting" else stage


def _short(text: str) -> str:
    """The beginning of ``text`` on one line."""
    words = " ".join(text.split())
    return words if len(words) <= _SAMPLE_CHARACTERS else words[: _SAMPLE_CHARACTERS - 1] + "…"
