"""The memory of a process and of all that descend from it, while it runs (Linux)."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Self


class MemoryWatch:
    """Looks at the memory of a process and all that descend from it, until the block ends."""

    def __init__(self, process: int) -> None:
        self.peak_bytes = 0
        self._process = process
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.25):
            self.peak_bytes = max(self.peak_bytes, sum(map(shared_bytes, family(self._process))))


def family(process: int) -> list[int]:
    """The process and all that descend from it, as far as they still run."""
    found = [process]
    for one in found:
        for children in Path(f"/proc/{one}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def shared_bytes(process: int) -> int:
    """Its memory, of what several share its part; 0 where it has ended."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
