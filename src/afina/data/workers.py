"""Processes that work on conversations beside this one, so that all cores are used.

Cleaning and rendering are Python, which runs on one core at a time however many threads there are, and the tokenizer's threads
(Rust) take a third of the time at most: on two cores, threads alone leave one of them idle. So batches go to processes of their
own, each with one thread, and come back as portions of the store:

    this process: read ─▶ batch ─┬▶ worker: clean, render, encode, prove ─┬▶ in the order of reading ─▶ write
                                 └▶ worker: …                            ─┘

A worker is a Python of its own that is told everything through its standard input and answers through its standard output: JSON
and Arrow's records, no pickles. It is the same on every system and needs nothing of the program that started it. It ends with its
standard input, so it never outlives this process.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any, Self

from afina.core.errors import ResourceError
from afina.core.hardware import memory, processor
from afina.core.translation import _
from afina.core.units import GIB, MIB
from afina.data.conversation import Conversation, Finding, Message, Source, ToolCall
from afina.data.render import Limits, Renderer, Shortcuts
from afina.data.store import Portion
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.data.work import Steps, Work, Worked

_MOST = 8  # beyond that this process, which reads and writes, is the slowest
_NEEDS_BYTES = GIB  # of free memory, a worker; it takes about a third of that
_WORTH_BYTES = 16 * MIB  # of files; a worker takes two seconds to start, in which one process gets through half of that
_LENGTH = struct.Struct("<Q")
_NEW_GROUP: int = vars(subprocess).get("CREATE_NEW_PROCESS_GROUP", 0)


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
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": "1",
        }
        self._workers = [_Worker(environment) for _number in range(count)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
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

    def _set_up(self, worker: _Worker, steps: bytes) -> bool:
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
        return _worked(json.loads(_text(head)), parts)


class _Worker:
    """One process, asked one thing at a time."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", "from afina.data.workers import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is for this process, which then ends the others
            creationflags=_NEW_GROUP,  # the same on Windows
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def ask(self, parts: Sequence[bytes]) -> list[bytes]:
        _send(self._requests, parts)
        return _receive(self._answers)

    def exit_code(self) -> int:
        return self._process.wait()

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):  # of what it was being told when it was ended
            self._requests.close()


def result_of(future: Future[Worked]) -> Worked:
    """The future's result; Ctrl-C is heard while it is waited for, on Windows too."""
    while True:
        try:
            return future.result(timeout=0.5)
        except TimeoutError:
            continue


def _ended(code: int) -> ResourceError:
    text = _("a process that helps with the examples was ended ({code}), as the system does when memory runs out")
    return ResourceError(text.format(code=code), fix=_("close other programs to free memory, and run the same command again"))


# ── in the other process ──────────────────────────────────────────────────────────────────────────────────────────────


def serve() -> None:
    """What a worker does from its start to its end."""
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    sys.stdout = sys.stderr  # nothing that a library prints gets between the answers
    try:
        steps = _steps(_receive(requests)[0])
        work = Work(steps)
        _send(answers, [b"ready"])
        while True:
            talks, first, shortcuts = _talks(_receive(requests)[0])
            steps.renderer.forgo(shortcuts)
            worked = work.do(talks, first)
            _send(answers, [_worked_text(worked), *worked.portion.to_bytes()])
    except (EOFError, BrokenPipeError):  # nobody asks any more
        pass


# ── what goes through the pipes ───────────────────────────────────────────────────────────────────────────────────────


def _send(stream: IO[bytes], parts: Sequence[bytes]) -> None:
    stream.write(_LENGTH.pack(len(parts)) + b"".join(_LENGTH.pack(len(part)) for part in parts))
    stream.writelines(parts)
    stream.flush()


def _receive(stream: IO[bytes]) -> list[bytes]:
    """The parts that were sent. Raises EOFError where the other side has ended."""
    count = _LENGTH.unpack(_exactly(stream, _LENGTH.size))[0]
    lengths = [_LENGTH.unpack(_exactly(stream, _LENGTH.size))[0] for _part in range(count)]
    return [_exactly(stream, length) for length in lengths]


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _bytes(value: Any) -> bytes:
    """JSON; half a surrogate pair, of which texts may be full, goes through as it is."""
    return json.dumps(value, ensure_ascii=False, check_circular=False).encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _steps_text(steps: Steps) -> bytes:
    template = steps.renderer.template
    return _bytes(
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
    told = json.loads(_text(data))
    renderer = Renderer.build(ChatTemplate(**told["template"]), Tokenizer.load(Path(told["tokenizer"])))
    return Steps(told["seed"], renderer, Limits(**told["limits"]), told["chosen"], told["fingerprint"])


def _talks_text(talks: Sequence[Conversation], first: int, shortcuts: Shortcuts) -> bytes:
    rows = [
        (
            [(m.role, m.content, [(call.name, call.arguments) for call in m.calls], m.name, m.trained) for m in talk.messages],
            talk.source.file,
            talk.source.line,
            talk.tools,
            talk.group,
        )
        for talk in talks
    ]
    return _bytes((rows, first, shortcuts))


def _talks(data: bytes) -> tuple[list[Conversation], int, Shortcuts]:
    rows, first, shortcuts = json.loads(_text(data))
    talks = [
        Conversation(
            tuple(
                Message(role, content, tuple(ToolCall(*call) for call in calls), name, trained)
                for role, content, calls, name, trained in messages
            ),
            Source(file, line),
            tools,
            group,
        )
        for messages, file, line, tools, group in rows
    ]
    return talks, first, Shortcuts(*shortcuts)


def _worked_text(worked: Worked) -> bytes:
    return _bytes(
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
