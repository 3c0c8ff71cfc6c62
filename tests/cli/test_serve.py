"""`afina serve`: its address, its end by Ctrl-C, and its troubles."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from afina.cli.main import main
from afina.stages.serve import example_request
from tests.fakes.chain import SENTENCE
from tests.fakes.processes import children_of, wait_until_gone
from tests.fakes.runs import write_exported_run

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write_exported_run(folder, system="You sell tools; it's a shop.")
    return folder / "runs"


@pytest.fixture
def served(runs: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A running `afina serve` and what it said when it was ready."""
    command = [sys.executable, "-m", "afina.cli.main", "serve", "shop", "--port", "0", "--json", "--runs", str(runs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        yield process, json.loads(process.stdout.readline())
        process.kill()


def test_openai_s_clients_get_answers_and_ctrl_c_ends_it_cleanly(
    served: tuple[subprocess.Popen[str], dict[str, Any]],
) -> None:
    process, said = served
    assert said["api"] == f"{said['address']}/v1"
    body = json.dumps({"model": "shop", "messages": [{"role": "user", "content": "Hello?"}]}).encode()
    request = urllib.request.Request(f"{said['api']}/chat/completions", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as response:
        assert json.load(response)["choices"][0]["message"]["content"] == SENTENCE
    with urllib.request.urlopen(f"{said['api']}/models") as response:
        assert json.load(response)["data"][0]["id"] == "shop"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 0
    assert not answers(said["address"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_example_line_works_as_it_is_printed(served: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    _process, said = served
    done = subprocess.run(["sh", "-c", said["example"]], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == SENTENCE


@posix_only
def test_a_model_that_crashes_ends_serve_with_its_reason(served: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    process, _said = served
    (child,) = children_of(process.pid)
    os.kill(child, signal.SIGKILL)
    _out, err = process.communicate(timeout=20)
    assert process.returncode == 5
    assert "SIGKILL" in err
    assert "serve.log" in err


@posix_only
def test_the_model_ends_with_a_killed_serve(served: tuple[subprocess.Popen[str], dict[str, Any]]) -> None:
    process, said = served
    assert answers(said["address"])
    (child,) = children_of(process.pid)
    process.kill()
    process.wait()
    assert wait_until_gone(child)
    assert not answers(said["address"])


def test_a_port_in_use_is_an_error_before_anything_is_loaded(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "shop", "--port", str(port), "--runs", str(runs)]) == 4
        assert main(["serve", "shop", "--set", f"deploy.port={port}", "--runs", str(runs)]) == 4
    err = capsys.readouterr().err
    assert err.count(f"port {port} of 127.0.0.1 is in use") == 2
    assert f"--port {port + 1}" in err


def test_a_port_that_is_none_is_an_error(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "shop", "--port", "70000", "--runs", str(runs)]) == 2
    assert "70000" in capsys.readouterr().err


def test_the_example_carries_the_system_message_of_training() -> None:
    words = shlex.split(example_request("http://127.0.0.1:1", "It's ñ."))
    assert json.loads(words[-1])["messages"][0] == {"role": "system", "content": "It's ñ."}


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=0.5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
