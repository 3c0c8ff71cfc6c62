"""`afina doctor`, run for real: in this process, and where a package must break, in one of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from afina.cli import doctor
from afina.core import hardware
from afina.core.hardware import Gpu, Memory
from afina.core.units import GIB, MIB
from afina.stages import doctor as stage
from afina.stages.doctor import Finding, examine
from tests.fakes.http import Response, answering

HEAVY = ("torch", "transformers", "numpy", "xllamacpp", "gguf", "bitsandbytes", "tokenizers", "safetensors")


@pytest.fixture
def ollama(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Something that answers as Ollama does; the parameter is its version."""
    with answering(lambda _request: Response({"version": request.param})) as address:
        monkeypatch.setenv("OLLAMA_HOST", address.removeprefix("http://"))
        yield address.removeprefix("http://")


@pytest.fixture(autouse=True)
def _no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    monkeypatch.setenv("AFINA_LANG", "en")


def one(findings: tuple[Finding, ...], topic: str) -> Finding:
    return next(finding for finding in findings if finding.topic == topic)


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.run(parser.parse_args(arguments))


def test_on_this_machine_nothing_essential_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--runs", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert out.endswith("everything essential is here\n")
    assert {line.split()[0] for line in out.splitlines()} <= {"ok", "warning", "missing", "→", "everything"}


def test_extras_for_work_on_afina_itself_are_not_listed(tmp_path: Path) -> None:
    extras = {found.topic for found in examine(tmp_path).findings if found.topic.startswith("extra ")}
    assert not extras & {"extra dev", "extra bench", "extra fuzz"}


def test_json_holds_the_same_findings(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("--json", "--runs", str(tmp_path)) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["healthy"] is True
    assert {"Python", "llama.cpp", "memory", "disk", "Ollama"} <= {finding["topic"] for finding in record["findings"]}
    assert {finding["state"] for finding in record["findings"]} <= {"ok", "warning", "missing"}


def test_the_quick_part_imports_nothing_heavy() -> None:
    code = "import sys; from afina.cli.main import main; main(['doctor', '--json'])"
    code += f"; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGILL)", "lacks instructions that the wheel uses (signal 4)"),
        ("raise ImportError('libgomp.so.1: cannot open shared object file')", "libgomp.so.1"),
    ],
)
def test_a_llama_cpp_that_cannot_be_loaded_is_reported_and_not_suffered(
    module: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "xllamacpp.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = one(examine(tmp_path).findings, "llama.cpp")
    assert (found.state, found.essential) == ("missing", True)
    assert reason in found.text
    assert "pip install" in found.fix
    assert run("--runs", str(tmp_path)) == 4
    assert capsys.readouterr().out.endswith("missing, and nothing works without it: llama.cpp\n")


def test_ollama_is_not_essential_and_the_mend_is_named(tmp_path: Path) -> None:
    found = one(examine(tmp_path).findings, "Ollama")
    assert (found.state, found.essential) == ("missing", False)
    assert "127.0.0.1:1" in found.text
    assert "ollama serve" in found.fix


@pytest.mark.parametrize("ollama", ["0.32.15"], indirect=True)
def test_an_ollama_that_answers_is_named_with_its_version(ollama: str, tmp_path: Path) -> None:
    found = one(examine(tmp_path).findings, "Ollama")
    assert (found.state, found.text) == ("ok", f"0.32.15 at http://{ollama}")


@pytest.mark.parametrize("ollama", ["0.5.7"], indirect=True)
@pytest.mark.usefixtures("ollama")
def test_an_ollama_that_is_too_old_is_not_ok(tmp_path: Path) -> None:
    found = one(examine(tmp_path).findings, "Ollama")
    assert found.state == "missing"
    assert "0.5.7" in found.text


@pytest.mark.parametrize(
    ("wanted", "problem"), [("pytest>=1", ""), ("pytest>=999", "is installed, >=999 is needed"), ("no-such-x", "not")]
)
def test_a_package_is_there_missing_or_too_old(wanted: str, problem: str) -> None:
    found = stage._problem_with(Requirement(wanted))
    assert problem in found
    assert bool(found) == bool(problem)


def test_little_memory_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory", lambda: Memory(4 * GIB, 300 * MIB))
    found = one(examine(tmp_path).findings, "memory")
    assert found.state == "warning"
    assert found.text.startswith("300 MiB of 4.0 GiB available")


def test_a_full_disk_is_a_warning_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "free_disk", lambda _folder: 5 * MIB)
    found = one(examine(tmp_path).findings, "disk")
    assert found.state == "warning"
    assert "--runs" in found.fix


@pytest.mark.parametrize(("torch", "state"), [("2.13.0+cpu", "warning"), ("2.13.0", "ok")])
def test_a_gpu_that_torch_cannot_use_is_a_warning(torch: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: [Gpu("NVIDIA H200", 140 * GIB, 139 * GIB, "570.1")])
    monkeypatch.setattr(stage, "version", lambda _package: torch)
    (found,) = stage._gpus()
    assert found.state == state
    assert ("torch==2.13.0" in found.fix) == (state == "warning")


def test_the_deep_part_trains_exports_and_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--deep", "--json", "--runs", str(tmp_path)) == 0
    findings = {finding["topic"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["training"]["text"].startswith("1 step on ")
    assert findings["export"]["state"] == findings["answer"]["state"] == "ok"
    assert list(tmp_path.iterdir()) == []
