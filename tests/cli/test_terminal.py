"""Plain lines of progress: seldom, and with the time that is left where it can be told."""

from __future__ import annotations

import time

import pytest

from afina.cli import terminal
from afina.core.events import Progress


def test_time_left_follows_from_what_is_done_since_the_task_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    plain = terminal._Plain()
    for seconds, done in ((0, 10), (1, 11), (60, 40), (120, 100)):
        clock[0] = 100.0 + seconds
        plain.show(Progress("export", "shop-q4_k_m.gguf", done, 100, "MiB"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "export   shop-q4_k_m.gguf: 40/100 MiB, about 2 min 00 s left",
        "export   shop-q4_k_m.gguf: 100/100 MiB",
    ]
