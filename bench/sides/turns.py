"""How a contender of bench/train.py takes its turn. Standard library only: every contender's environment reads this file.

    contender                        bench/train.py
    loads, then  {"ready": …}   →
                                ←    step
    one step, then  {"seconds": …, "loss": …}   →
                                ←    end of the stream: the contender ends

Answers go out on what was standard output; whatever libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


class Turns:
    """The contender's end of the two pipes, and the clocks of the step that is being made."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self._seconds = self._cpu_seconds = 0.0

    def ready(self, **facts: Any) -> None:
        self._say({"ready": True, **facts})

    def begin(self) -> None:
        """Waits for the word, then starts the clocks. Ends the process where the driver has heard enough."""
        if not sys.stdin.readline():
            raise SystemExit(0)
        self._cpu_seconds, self._seconds = time.process_time(), time.perf_counter()

    def end(self) -> None:
        """Stops the clocks."""
        self._seconds = time.perf_counter() - self._seconds
        self._cpu_seconds = time.process_time() - self._cpu_seconds

    def answer(self, **values: Any) -> None:
        """Tells what the step came to; ``values`` may replace the peak of memory."""
        self._say({"seconds": self._seconds, "cpu_seconds": self._cpu_seconds, "peak_bytes": peak_bytes(), **values})

    def _say(self, value: dict[str, Any]) -> None:
        self._answers.write(json.dumps(value) + "\n")
        self._answers.flush()


def peak_bytes() -> int:
    """Largest resident set so far. From /proc where there is one: ``ru_maxrss`` still knows the process that started this one."""
    if STATUS.is_file():
        line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def settings() -> dict[str, Any]:
    """What the driver asks for: the JSON that is the program's only argument."""
    found: dict[str, Any] = json.loads(sys.argv[1])
    return found
