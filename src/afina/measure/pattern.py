"""Which answers obey a regular expression, found out in a child process, so that a pattern that backtracks for ever is given up.

Python's ``re`` knows no time limit and cannot be interrupted from another thread. The child is this very file, run by its
path; it reads a list ``[pattern, text, …]`` and answers with a line for each text.
"""

import json
import re
import subprocess
import sys
from collections.abc import Sequence

LIMIT_S = 2.0
PATIENCE = 5


def obeys(pattern: str, texts: Sequence[str], limit_s: float = LIMIT_S, patience: int = PATIENCE) -> list[bool | None]:
    """For each text whether ``pattern`` matches all of it, outer white space apart; a dot matches line ends.

    None where that was not known after ``limit_s`` seconds (and 10 ms for each text that shares them), and for all texts
    behind the ``patience``-th such one.
    """
    verdicts: list[bool | None] = []
    while len(verdicts) < len(texts):
        if verdicts.count(None) >= patience:
            return verdicts + [None] * (len(texts) - len(verdicts))
        rest = texts[len(verdicts) :]
        try:
            child = subprocess.run(
                [sys.executable, "-I", "-S", __file__],
                input=json.dumps([pattern, *rest]).encode(),
                stdout=subprocess.PIPE,
                timeout=limit_s + 0.01 * len(rest),
                check=True,
            )
            verdicts += _read(child.stdout)
        except subprocess.TimeoutExpired as slow:
            verdicts += [*_read(slow.stdout or b""), None][: len(rest)]
    return verdicts


def _read(lines: bytes) -> list[bool | None]:
    """The verdicts of the complete lines."""
    return [line == b"1" for line in lines.split(b"\n")[:-1]]


def _child() -> None:
    pattern, *texts = json.load(sys.stdin)
    expression = re.compile(pattern, re.DOTALL)
    for text in texts:
        sys.stdout.write("1\n" if expression.fullmatch(text.strip()) else "0\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _child()
