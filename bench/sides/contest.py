"""Processes that take turns step by step, and how much of the machine others used meanwhile.

The clock of a step is the contender's own. What others used is the machine's busy time (/proc/stat) less the contender's own time
of computing, from the word to its answer, as a share of all cores.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import statistics
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_STEP_S = 3600
FEWEST_QUIET = 2
_TICKS = os.sysconf("SC_CLK_TCK")


class FailedError(Exception):
    """A contender ended or hung: its last words."""


@dataclass(frozen=True)
class Step:
    """``number`` counts from 1; ``foreign``: the share of the machine that others used, 0 to 1."""

    number: int
    foreign: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    loss: float = 0.0
    gradient_norm: float = 0.0
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, number: int, foreign: float, answer: Mapping[str, Any]) -> Step:
        own = ("seconds", "cpu_seconds", "peak_bytes", "loss", "gradient_norm")
        return cls(
            number=number,
            foreign=round(foreign, 4),
            more={key: value for key, value in answer.items() if key not in own},
            **{key: answer[key] for key in own if key in answer},
        )


class Contender:
    """A process that makes a step whenever it is its turn."""

    def __init__(
        self, command: Sequence[str | Path], environment: Mapping[str, str], log: Path, patience: float = LONGEST_STEP_S
    ) -> None:
        """Starts it and waits until it is ready; ``patience``: seconds that it may take, then and for each step."""
        self.log = log
        self._patience = patience
        self.steps: list[Step] = []
        started = time.perf_counter()
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=dict(environment),
                cwd=log.parent,
            )
        try:
            self.facts = self._answer()
        except FailedError:
            self.end()
            raise
        self.ready_s = round(time.perf_counter() - started, 1)

    def take_turn(self) -> Step:
        """One step. Raises FailedError where none came back."""
        busy, own, started = busy_seconds(), self._own_seconds(), time.perf_counter()
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"step\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise FailedError(self._last_words()) from None
        answer = self._answer()
        wall = time.perf_counter() - started
        others = busy_seconds() - busy - (self._own_seconds() - own)
        step = Step.of(len(self.steps) + 1, min(1.0, max(0.0, others / (wall * (os.cpu_count() or 1)))), answer)
        self.steps.append(step)
        return step

    def end(self) -> None:
        """Lets the process end; one that does not within 20 seconds is stopped."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _writing, _broken = select.select([self._process.stdout], [], [], self._patience)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            raise FailedError(self._last_words() if ready else f"no answer within {self._patience:.0f} s")
        found: dict[str, Any] = json.loads(line)
        return found

    def _own_seconds(self) -> float:
        """User and system time of the process and of its children that have ended."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()  # from the third on: the second, in brackets, may hold blanks
        return sum(map(int, fields[11:15])) / _TICKS

    def _last_words(self) -> str:
        lines = [line for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return f"{lines[-1][:300] if lines else 'it ended without a word'} (all of it: {self.log})"


def busy_seconds() -> float:
    """Time that all cores together have worked, for whomever, since the machine started."""
    with Path("/proc/stat").open(encoding="ascii") as file:
        user, nice, system, _idle, _waiting, *more = map(int, file.readline().split()[1:9])
    return (user + nice + system + sum(more)) / _TICKS


def counted(steps: Sequence[Step], limit: float) -> tuple[list[Step], bool]:
    """The steps whose seconds count, and whether they were quiet.

    A first step makes what later ones use (compiled code, memory) and does not count where there is a later one. Of the later
    ones those count during which others used at most ``limit``; where fewer than FEWEST_QUIET are left, all of them do.
    """
    later = list(steps[1:] or steps)
    quiet = [step for step in later if step.foreign <= limit]
    return (quiet, True) if len(quiet) >= min(FEWEST_QUIET, len(later)) and quiet else (later, False)


def step_seconds(steps: Sequence[Step], tokens: Sequence[int], mean_tokens: float) -> float:
    """Seconds of a step of average size: the median over ``steps`` of seconds a token, times ``mean_tokens``.

    ``tokens``: those of each step of the workload, from its first. Steps differ in size, and not every contender's quiet ones are
    the same.
    """
    return statistics.median(step.seconds / tokens[step.number - 1] for step in steps) * mean_tokens


def largest_differences(losses: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """For each contender the largest distance of one of its losses from the median of all contenders' at that step."""
    longest = max(map(len, losses.values()), default=0)
    middle = [statistics.median(of[number] for of in losses.values() if len(of) > number) for number in range(longest)]
    return {name: max((abs(loss - at) for loss, at in zip(of, middle)), default=0.0) for name, of in losses.items()}
