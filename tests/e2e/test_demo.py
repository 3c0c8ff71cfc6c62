"""The demo from start to end, small: what it says, a second run, Ctrl-C, no network, and nothing left outside its folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import afina
from afina.cli import main as cli
from afina.core.run import STAGES, RunFolder

SMALL = (
    "train.max_steps=6",
    "train.evaluate_every=3",
    "compare.examples=9",
    "compare.max_new_tokens=24",
    "export.check_prompts=2",
)
CHANGES = [word for key in SMALL for word in ("--set", key)]


def package_files() -> dict[Path, tuple[int, int]]:
    """Size and time of the last change of everything in the package but Python's own cache."""
    root = Path(afina.__file__).parent
    facts = {path: path.stat() for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    return {path: (fact.st_size, fact.st_mtime_ns) for path, fact in facts.items()}


def only_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a connection to anything but this machine fails, as on a laptop without a network."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not (isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1", "localhost")):
            raise OSError(101, "Network is unreachable")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("lang", ["es", "en"])
def test_the_demo_says_what_its_numbers_show_and_leaves_nothing_outside(
    lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "dónde sea"
    folder.mkdir()
    monkeypatch.chdir(folder)
    only_this_machine(monkeypatch)
    before = package_files()
    assert cli.main(["demo", "--lang", lang, "--keep", "shop", *CHANGES]) == 0
    first = capsys.readouterr()
    assert "right answers" in first.out
    assert first.out.count("shown") == 4
    assert "found in the data: examples.jsonl" in first.err
    assert "mistral-7b" in first.err
    assert {path.name for path in folder.iterdir()} == {"runs", "shop"}
    assert {path.name for path in tmp_path.iterdir()} == {folder.name}
    assert package_files() == before, "a package that only root may write must do"

    assert cli.main(["demo", "--lang", lang, *CHANGES]) == 0
    assert capsys.readouterr().err.count("as before") >= 4


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_demo_stopped_in_the_middle_of_its_training_goes_on_with_the_same_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "afina.cli.main", "demo", "--lang", "es", *CHANGES]
    environment = {**os.environ, "PYTHONPATH": str(Path(afina.__file__).parents[1])}
    events = tmp_path / "runs" / "demo" / "events.jsonl"
    child = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 300
    while not (events.is_file() and '"stage": "train", "step": 2' in events.read_text(encoding="utf-8")):
        assert child.poll() is None, child.communicate()[1].decode()
        assert time.monotonic() < deadline, "the training did not begin"
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    _out, told = child.communicate(timeout=120)
    assert child.returncode == 130, told.decode()
    assert "the same command goes on" in told.decode()

    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True, timeout=600)
    assert "prepare  as before" in done.stderr
    assert "going on after step" in done.stderr
    assert "right answers" in done.stdout
    assert all(RunFolder(tmp_path / "runs" / "demo").manifest(stage) for stage in STAGES)
