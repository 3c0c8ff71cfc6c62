"""Processes that work on conversations beside this one, so that all cores are used.

Cleaning and rendering are Python, which runs on one core at a time however many threads there are, and the tokenizer's threads
(Rust) take a third of the time at most: on two cores, threads alone leave one of them idle. So batches go to processes of their
own, each with one thread, and come back as portions of the store:

    this process: read ─▶ batch ─┬▶ worker: clean, render, encode, prove ─┬▶ in the order of reading ─▶ write
                                 └▶ worker: …                            ─┘

What goes through a worker's pipes (``core/child.py``) is JSON and Arrow's records.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Self

from afina.core.child import Child, as_bytes, from_bytes, serve
from afina.core.collector import seldom_collected
from afina.core.errors import ResourceError
from afina.core.hardware import memory, processor
from afina.core.translation import _
from afina.core.units import GIB, MIB
from afina.data.conversation import Conversation, Finding, Message, Role, Source, ToolCall
from afina.data.render import Limits, Renderer, Shortcuts
from afina.data.store import Portion
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.data.work import Steps, Work, Worked

_MOST = 8  # beyond that this process, which reads and writes, is the slowest
_NEEDS_BYTES = GIB  # of free memory, a worker; it takes about a third of that
_WORTH_BYTES = 16 * MIB  # of files; a worker takes two seconds to start, in which one process gets through half of that


def worthwhile(size_bytes: int) -> int:
    """How many workers files of this size are worth, on this machine's cores and memory; 0 where one process does as well."""
    there = memory()
    fitting = there.available_bytes // _NEEDS_BYTES if there else _MOST
    count = min(processor().cores, _MOST, fitting)
    return count if count > 1 and size_bytes >= _WORTH_BYTES and sys.executable else 0


class Workers:
    """Starts ``count`` processes; ``ready`` once all of them can work. Close them, or use ``with``.

    Where one cannot be started at all, ``ready`` stays False: the work is then done without them.
    """

    def __init__(self, steps: Steps, count: int) -> None:
        alone = {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        self._workers = [Child("from afina.data.workers import work; work()", alone) for _number in range(count)]
        self._idle: SimpleQueue[Child] = SimpleQueue()
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="afina-worker")
        self._said = [self._threads.submit(self._set_up, worker, _steps_text(steps)) for worker in self._workers]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def count(self) -> int:
        return len(self._workers)

    @property
    def ready(self) -> bool:
        return all(future.done() and future.result() for future in self._said)

    def do(self, talks: Sequence[Conversation], first: int, shortcuts: Shortcuts) -> Future[Worked]:
        """Begins ``Work.do`` where ``shortcuts`` hold. The result raises ResourceError where the worker has ended."""
        return self._threads.submit(self._do, talks, first, shortcuts)

    def close(self) -> None:
        """Ends the processes, whatever they are at."""
        for worker in self._workers:
            worker.kill()
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _set_up(self, worker: Child, steps: bytes) -> bool:
        try:
            worker.ask([steps])
        except (OSError, EOFError):
            return False
        self._idle.put(worker)
        return True

    def _do(self, talks: Sequence[Conversation], first: int, shortcuts: Shortcuts) -> Worked:
        worker = self._idle.get()
        try:
            head, *parts = worker.ask([_talks_text(talks, first, shortcuts)])
        except (OSError, EOFError):
            self._idle.put(worker)
            raise _ended(worker.exit_code()) from None
        self._idle.put(worker)
        return _worked(from_bytes(head), parts)


def _ended(code: int) -> ResourceError:
    text = _("a process that helps with the examples was ended ({code}), as the system does when memory runs out")
    return ResourceError(text.format(code=code), fix=_("close other programs to free memory, and run the same command again"))


# ── in the other process ──────────────────────────────────────────────────────────────────────────────────────────────


def work() -> None:
    """What a worker does from its start to its end: told the steps first, then batch after batch."""
    told: list[tuple[Steps, Work]] = []

    def answer(request: list[bytes]) -> Sequence[bytes]:
        if not told:
            steps = _steps(request[0])
            told.append((steps, Work(steps)))
            return [b"ready"]
        ((steps, of_steps),) = told
        talks, first, shortcuts = _talks(request[0])
        steps.renderer.forgo(shortcuts)
        worked = of_steps.do(talks, first)
        return [_worked_text(worked), *worked.portion.to_bytes()]

    with seldom_collected():
        serve(answer)


# ── what goes through the pipes ───────────────────────────────────────────────────────────────────────────────────────


def _steps_text(steps: Steps) -> bytes:
    template = steps.renderer.template
    return as_bytes(
        {
            "seed": steps.seed,
            "template": asdict(template),
            "tokenizer": str(steps.renderer.tokenizer.folder),
            "limits": asdict(steps.limits),
            "chosen": dict(steps.chosen),
            "fingerprint": steps.fingerprint,
        }
    )


def _steps(data: bytes) -> Steps:
    told = from_bytes(data)
    renderer = Renderer.build(ChatTemplate(**told["template"]), Tokenizer.load(Path(told["tokenizer"])))
    return Steps(told["seed"], renderer, Limits(**told["limits"]), told["chosen"], told["fingerprint"])


def _talks_text(talks: Sequence[Conversation], first: int, shortcuts: Shortcuts) -> bytes:
    rows = [
        (
            [_message_row(message) for message in talk.messages],
            talk.source.file,
            talk.source.line,
            talk.tools,
            talk.group,
            talk.kind,
            talk.rating,
        )
        for talk in talks
    ]
    return as_bytes((rows, first, shortcuts))


def _message_row(message: Message) -> tuple[Any, ...]:
    """A message without what it has not: most are a role and a text."""
    if message.trained and not message.calls and not message.name:
        return message.role, message.content
    calls = [(call.name, call.arguments) for call in message.calls]
    return message.role, message.content, calls, message.name, message.trained


def _message(role: Role, content: str, calls: Sequence[Sequence[str]] = (), name: str = "", trained: bool = True) -> Message:
    return Message(role, content, tuple(ToolCall(*call) for call in calls), name, trained)


def _talks(data: bytes) -> tuple[list[Conversation], int, Shortcuts]:
    rows, first, shortcuts = from_bytes(data)
    talks = [
        Conversation(
            tuple(_message(*message) for message in messages),
            Source(file, line),
            tools,
            group,
            kind,
            rating,
        )
        for messages, file, line, tools, group, kind, rating in rows
    ]
    return talks, first, Shortcuts(*shortcuts)


def _worked_text(worked: Worked) -> bytes:
    return as_bytes(
        {
            "counts": worked.counts,
            "left_out": [_finding_row(finding) for finding in worked.left_out],
            "findings": [(place, _finding_row(finding)) for place, finding in worked.findings],
            "before": worked.before,
            "after": worked.after,
        }
    )


def _finding_row(finding: Finding) -> tuple[str, int, str, str, str, str]:
    return finding.source.file, finding.source.line, finding.check, finding.reason, finding.done, finding.excerpt


def _finding(row: Sequence[Any]) -> Finding:
    file, line, *rest = row
    return Finding(Source(file, line), *rest)


def _worked(told: dict[str, Any], parts: Sequence[bytes]) -> Worked:
    return Worked(
        Portion.from_bytes(parts),
        tuple(told["counts"]),
        tuple(_finding(row) for row in told["left_out"]),
        tuple((place, _finding(row)) for place, row in told["findings"]),
        Shortcuts(*told["before"]),
        Shortcuts(*told["after"]),
    )
