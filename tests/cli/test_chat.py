"""`afina chat`: in a pipe, and at a real terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from afina.cli.chat import questions
from afina.cli.main import main
from afina.data.conversation import Message
from afina.infer.llama import LlamaServer
from tests.fakes.chain import SENTENCE
from tests.fakes.processes import children_of
from tests.fakes.runs import write_exported_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_exported_run(folder, system="You sell tools.")
    return folder / "runs"


@pytest.fixture(scope="module")
def endless_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endless")
    write_exported_run(folder, ends=False)
    return folder / "runs"


def type_into(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


def lines_of(*lines: str) -> Iterator[str]:
    """The questions in typed lines."""
    rest = iter(lines)

    def read_line(_goes_on: bool) -> str:
        line = next(rest, None)
        if line is None:
            raise EOFError
        return line

    return questions(read_line)


def test_a_line_is_a_question_and_blank_lines_are_none() -> None:
    assert list(lines_of("one", "", "  ", "two ")) == ["one", "two"]


def test_a_backslash_at_the_end_lets_the_question_go_on() -> None:
    assert list(lines_of("one\\", "two\\", "three", "four")) == ["one\ntwo\nthree", "four"]


def test_three_quotes_hold_a_block() -> None:
    assert list(lines_of('"""one', "", 'two"""', '"""three"""', '"""', "four", '"""')) == ["one\n\ntwo", "three", "four"]


def test_the_end_of_the_input_ends_a_question_too() -> None:
    assert list(lines_of("one\\")) == ["one"]
    assert list(lines_of('"""one', "two")) == ["one\ntwo"]


def test_a_pipe_gets_an_answer_a_question(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_into(monkeypatch, "Hello?\n\n¿Qué cuesta\\\nel martillo?\n".encode())
    assert main(["chat", "shop", "--runs", str(runs)]) == 0
    assert capsys.readouterr().out == f"{SENTENCE}\n{SENTENCE}\n"


def test_json_is_a_line_an_answer(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    type_into(monkeypatch, b"Hello?\nAnd now?\n")
    assert main(["chat", "shop", "--json", "--runs", str(runs)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(record["question"], record["answer"], record["finish"]) for record in records] == [
        ("Hello?", SENTENCE, "stop"),
        ("And now?", SENTENCE, "stop"),
    ]


def test_the_model_reads_the_system_message_and_what_was_said_so_far(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read: list[list[tuple[str, str]]] = []
    render = LlamaServer.render

    def heard(server: LlamaServer, messages: Sequence[Message], tools: str = "") -> str:
        read.append([(message.role, message.content) for message in messages])
        return render(server, messages, tools)

    monkeypatch.setattr(LlamaServer, "render", heard)
    type_into(monkeypatch, b"one\ntwo\n/reset\nthree\n/system Be rude.\nfour\n/system -\nfive\n/bye\nsix\n")
    assert main(["chat", "shop", "--runs", str(runs)]) == 0
    system = ("system", "You sell tools.")
    assert read == [
        [system, ("user", "one")],
        [system, ("user", "one"), ("assistant", SENTENCE), ("user", "two")],
        [system, ("user", "three")],
        [("system", "Be rude."), ("user", "four")],
        [("user", "five")],
    ]
    assert capsys.readouterr().out.splitlines() == [SENTENCE] * 5


def test_unknown_commands_are_told_and_not_sent_while_paths_are_questions(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_into(monkeypatch, b"/rest\n/etc/passwd\n/help\n/system\n")
    assert main(["chat", "shop", "--runs", str(runs)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{SENTENCE}\n"
    assert "there is no command /rest" in told.err
    assert "/system TEXT" in told.err
    assert "You sell tools." in told.err


def test_an_answer_that_fills_the_context_says_so(
    endless_runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_into(monkeypatch, b"Hello?\n")
    assert main(["chat", "shop", "--json", "--set", "deploy.context=256", "--runs", str(endless_runs)]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["finish"] == "length"
    assert "the context of 256 tokens is full" in told.err


def test_a_question_that_does_not_fit_ends_a_pipe_with_an_error(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_into(monkeypatch, b"Hello?\n" + b"x y " * 600 + b"\n")
    assert main(["chat", "shop", "--set", "deploy.context=256", "--runs", str(runs)]) == 3
    told = capsys.readouterr()
    assert told.out == f"{SENTENCE}\n"
    assert "the context holds 256" in told.err


def test_bytes_that_are_not_utf_8_are_an_error(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_into(monkeypatch, b"Hello?\ncaf\xe9\n")
    assert main(["chat", "shop", "--runs", str(runs)]) == 3
    assert "is not UTF-8 (character 4)" in capsys.readouterr().err


def test_a_run_that_is_not_there_or_not_exported_says_what_to_type(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["chat", "shap", "--runs", str(runs)]) == 2
    assert "did you mean 'shop'?" in capsys.readouterr().err
    _recipe, run = write_exported_run(tmp_path)
    run.set_aside("export")
    assert main(["chat", "shop", "--runs", str(tmp_path / "runs")]) == 2
    assert "afina export shop" in capsys.readouterr().err


pty_only = pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")


class Terminal:
    """A chat at a real pseudo terminal; ``wait_for`` reads until a text is seen."""

    def __init__(self, runs: Path, *options: str) -> None:
        import pty

        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "afina.cli.main", "chat", "shop", "--runs", str(runs), *options],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=take_terminal,  # noqa: PLW1509 - a terminal belongs to a session
            env={**os.environ, "TERM": "dumb", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        os.close(slave)
        self.seen = ""
        self._place = 0

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while text not in self.seen[self._place :]:
            readable, _w, _x = select.select([self._master], [], [], max(0.0, end - time.monotonic()))
            assert readable, f"{text!r} is not in {self.seen[self._place :][-500:]!r}"
            try:
                self.seen += os.read(self._master, 4096).decode(errors="replace")
            except OSError:  # the other side is closed
                break
        assert text in self.seen[self._place :], self.seen
        self._place = self.seen.index(text, self._place) + len(text)

    def press_ctrl_c(self, text: str) -> None:
        """Presses it, again each 5 s, until ``text`` is seen.

        Python's ``input`` looks for signals only where one broke off its wait for a key: one that comes just before that wait is
        taken up at the next key.
        """
        for _ in range(6):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                return self.wait_for(text, seconds=5)
        raise AssertionError(f"{text!r} is not in {self.seen[-500:]!r}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


def take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(runs: Path) -> Iterator[Terminal]:
    opened = Terminal(runs)
    yield opened
    opened.close()


@pty_only
def test_at_a_terminal_one_talks_and_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.wait_for("tokens of context")
    terminal.wait_for(">>> ")
    terminal.type("Hello?\n")
    terminal.wait_for(SENTENCE)
    terminal.wait_for(">>> ")
    terminal.type("one\\\n")
    terminal.wait_for("... ")
    terminal.type("two\n")
    terminal.wait_for(SENTENCE)
    terminal.wait_for(">>> ")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=20) == 0


@pty_only
def test_bye_leaves(terminal: Terminal) -> None:
    terminal.wait_for(">>> ")
    terminal.type("/bye\n")
    assert terminal.process.wait(timeout=20) == 0


@pty_only
def test_ctrl_c_empties_the_line_and_the_program_stays(terminal: Terminal) -> None:
    terminal.wait_for(">>> ")
    terminal.type("half a quest")
    terminal.wait_for("half a quest")  # the line editor has it
    terminal.press_ctrl_c("/bye leaves")
    terminal.wait_for(">>> ")
    terminal.type("Hello?\n")
    terminal.wait_for(SENTENCE)


@pty_only
def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    """The context is long enough for many seconds of talk, and the answer never ends by itself."""
    _recipe, run = write_exported_run(tmp_path, ends=False, system="You sell tools.")
    config = tmp_path / "base" / "config.json"
    config.write_text(re.sub(r'"max_position_embeddings": \d+', '"max_position_embeddings": 200000', config.read_text()))
    terminal = Terminal(run.root.parent, "--set", "deploy.context=200000")
    try:
        terminal.wait_for(">>> ")
        terminal.type("Hello?\n")
        terminal.wait_for(SENTENCE + SENTENCE)
        terminal.type("\x03")
        terminal.wait_for("(stopped")
        terminal.wait_for(">>> ")
        terminal.type("/system\n")
        terminal.wait_for("You sell tools.")
        terminal.wait_for(">>> ")
        terminal.type("Again?\n")
        terminal.wait_for(SENTENCE)
        terminal.type("\x03")
        terminal.wait_for(">>> ")
        terminal.type("\x04")
        assert terminal.process.wait(timeout=20) == 0
    finally:
        terminal.close()


@pty_only
def test_a_model_that_crashes_ends_the_chat_with_its_reason(terminal: Terminal) -> None:
    terminal.wait_for(">>> ")
    (child,) = children_of(terminal.process.pid)
    os.kill(child, signal.SIGSEGV)
    terminal.type("Hello?\n")
    terminal.wait_for("SIGSEGV")
    terminal.wait_for("what to do")
    assert terminal.process.wait(timeout=20) == 5


@pty_only
def test_what_was_typed_is_there_the_next_time(runs: Path) -> None:
    first = Terminal(runs)
    first.wait_for(">>> ")
    first.type("a memorable question\n")
    first.wait_for(SENTENCE)
    first.wait_for(">>> ")
    first.type("/bye\n")
    first.process.wait(timeout=20)
    first.close()
    assert "a memorable question" in (runs / "shop" / "logs" / "chat.history").read_text().replace("\\040", " ")
