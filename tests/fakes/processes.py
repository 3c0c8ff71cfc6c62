"""What the system knows about processes that are not our own children."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path


def children_of(process: int) -> list[int]:
    """The numbers of a process's children: from /proc where there is one, else from pgrep."""
    if not Path("/proc/self/stat").is_file():
        listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True, check=True)
        return [int(word) for word in listed.stdout.split()]
    return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if _facts(folder)[1:2] == [str(process)]]


def wait_until_gone(process: int, seconds: float = 10) -> bool:
    """Whether a process ends in time; one that is dead and that nobody has asked for its end counts as gone."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        if _facts(Path(f"/proc/{process}"))[:1] == ["Z"]:
            return True
        time.sleep(0.05)
    return False


def _facts(folder: Path) -> list[str]:
    """State, parent and so on of a process's ``stat``, behind its name, which may hold blanks."""
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
