"""All findings of a run: each a line of ``findings.jsonl``, counted, and the first ones of each check at hand for the page."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

from afina.data.clean.checks import Scope, checks
from afina.data.clean.personal import mask
from afina.data.conversation import Done, Finding

FILE = "findings.jsonl"
_FIRST = 25  # rows a check that the page shows


class Findings:
    """Takes in findings; only the first ones of a check stay in memory.

    ``counts`` is of findings. A row is left out once, by the first check that says so, and changed once, however many find
    something in it: ``dropped`` and ``changed`` are of rows.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE
        self._file = self.path.open("w", encoding="utf-8")
        self.counts: Counter[tuple[str, Done]] = Counter()
        self.first: dict[str, list[Finding]] = {}
        self._scopes = {check.id: check.scope for check in checks().values()}
        self._dropped: Counter[str] = Counter()
        self._gone: set[int] = set()  # hashes of the places of the rows that are left out,
        self._mended: dict[Scope | None, set[int]] = {None: set()}  # and of those that were changed, by when, and at all

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def add(self, *findings: Finding) -> None:
        for finding in findings:
            told = replace(finding, reason=mask(finding.reason))
            self._file.write(json.dumps({**asdict(told), "source": str(told.source)}, ensure_ascii=False) + "\n")
            self.counts[told.check, told.done] += 1
            first = self.first.setdefault(told.check, [])
            if len(first) < _FIRST:
                first.append(told)
            place = hash(told.source)
            if told.done == "dropped" and place not in self._gone:
                self._gone.add(place)
                self._dropped[told.check] += 1
            elif told.done == "changed":
                self._mended[None].add(place)
                self._mended.setdefault(self._scopes[told.check], set()).add(place)

    def changed(self, scope: Scope | None = None) -> int:
        """How many rows were changed, by checks of this scope or at all."""
        return len(self._mended.get(scope, ()))

    def dropped(self) -> dict[str, int]:
        """Rows left out, by the check that did it."""
        return dict(self._dropped)
