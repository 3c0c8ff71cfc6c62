"""Answers and losses kept by content: who was asked the very same before does not work again.

A file of JSON lines that grows: ``{"key": …, "value": …}``. The key is a hash of all that a result depends on. A line that was
torn when the power went is not there. Threads that ask a server at once may share it.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Lock
from typing import Any

from afina.core.files import sha256_of_text, told_when_full
from afina.infer.answer import Answer


class Kept:
    """What is kept in the file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        self._is_torn = False
        self._writing = Lock()
        if not path.is_file():
            return
        content = path.read_bytes()
        self._is_torn = bool(content) and not content.endswith(b"\n")
        for line in content.split(b"\n"):
            try:
                record = json.loads(line)
                self._known[record["key"]] = record["value"]
            except (ValueError, TypeError, KeyError):
                continue

    def get(self, key: str) -> Any:
        """The value of a key, or None."""
        return self._known.get(key)

    def answer(self, key: str) -> Answer | None:
        """The answer that ``put_answer`` kept."""
        if (known := self.get(key)) is None:
            return None
        text, ids, finish, seconds = known
        return Answer(text, tuple(ids), finish, seconds)

    def put_answer(self, key: str, answer: Answer) -> None:
        self.put(key, [answer.text, list(answer.ids), answer.finish, round(answer.seconds, 4)])

    def put(self, key: str, value: Any) -> None:
        """Keeps a value, on the disk before this returns."""
        line = json.dumps({"key": key, "value": value}, ensure_ascii=True) + "\n"
        with self._writing, told_when_full(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="ascii") as file:
                file.write("\n" + line if self._is_torn else line)
            self._is_torn = False
            self._known[key] = value


def key_of(*parts: Any) -> str:
    """The hash of values that JSON can write."""
    return sha256_of_text(json.dumps(parts, ensure_ascii=True, sort_keys=True))
