"""kill -9 and a full disk in each phase of an export: nothing half-written remains, and the same command gives the same files."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from afina.core.errors import ResourceError
from afina.core.events import Events
from afina.core.run import RunFolder
from afina.export import gguf as export_gguf
from afina.recipe.recipe import Recipe
from afina.stages import export as stage
from afina.stages.export import ExportResult, export
from tests.fakes.chain import write_chain_model
from tests.fakes.trained_run import make_trained_run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")

TYPES = ["f16", "q4_k_m"]
# Where each phase begins: a function that it calls, and from which of its calls on.
PHASES: dict[str, tuple[Any, str, int]] = {
    "torch": (stage, "ask_torch", 1),
    "write": (export_gguf, "_append_tensors", 1),
    "quantize": (export_gguf, "_append_tensors", 2),
    "check": (stage, "check_numbers", 2),
    "choices": (stage, "listen", 1),
    "ladder": (stage, "rung_of_file", 1),
    "answers": (stage, "sit", 2),
    "rename": (Path, "replace", 2),  # the first one is that of the stage's beginning
    "manifest": (RunFolder, "finish", 1),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp("trained")
    settings = {"types": TYPES, "check_prompts": 1, "check_tokens": 12, "adapter_file": True}
    recipe, run = make_trained_run(folder, write_chain_model(folder / "base"), export=settings)
    return recipe, run.root


@pytest.fixture(scope="module")
def alone(trained: tuple[Recipe, Path], tmp_path_factory: pytest.TempPathFactory) -> ExportResult:
    """What an export that nobody disturbs gives."""
    return exported(trained[0], copied(trained, tmp_path_factory.mktemp("alone")))


def copied(trained: tuple[Recipe, Path], folder: Path) -> RunFolder:
    shutil.copytree(trained[1], folder / "shop")
    return RunFolder(folder / "shop")


def exported(recipe: Recipe, run: RunFolder) -> ExportResult:
    with Events() as events:
        return export(recipe, run, events)


def before_call(phase: str, act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Does ``act`` where ``phase`` begins; the phase then goes on."""
    owner, name, wanted = PHASES[phase]
    real = getattr(owner, name)
    calls = 0

    def call(*args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == wanted:
            act()
        return real(*args, **named)

    monkeypatch.setattr(owner, name, call)


def names(run: RunFolder) -> list[str]:
    return sorted(path.name for path in run.stage("export").iterdir())


FEW = ("quantize",)  # of all phases; the others take too long for every day


def phases(names: Iterable[str]) -> list[Any]:
    return [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in names]


WHOLE = ["answers.jsonl", "manifest.json", "shop-adapter.gguf", *(f"shop-{kind}.gguf" for kind in TYPES)]


@pytest.mark.parametrize("phase", phases(PHASES))
def test_after_kill_9_the_same_command_gives_the_same_files(
    phase: str, trained: tuple[Recipe, Path], alone: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(trained, tmp_path)
    process = os.fork()
    if process == 0:
        try:
            before_call(phase, lambda: os.kill(os.getpid(), signal.SIGKILL), monkeypatch)
            exported(trained[0], run)
        finally:
            os._exit(1)
    _process, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert run.manifest("export") is None
    again = exported(trained[0], run)
    assert (again.sha256, again.adapter_file) == (alone.sha256, alone.adapter_file)
    assert names(run) == WHOLE


@contextmanager
def files_as_large_as(size: int) -> Iterator[Any]:
    """A function from whose call on no file may become larger, which is how a full disk looks; a real limit of the system."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("phase", phases(["write", "quantize", "ladder", "answers", "manifest"]))
def test_a_disk_that_fills_is_told_and_leaves_nothing_half_written(
    phase: str, trained: tuple[Recipe, Path], alone: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copied(trained, tmp_path)
    with monkeypatch.context() as patched, files_as_large_as(1000) as fill:
        before_call(phase, fill, patched)
        with pytest.raises(ResourceError, match="the disk is full: .* could not be written"):
            exported(trained[0], run)
    assert run.manifest("export") is None
    assert not [name for name in names(run) if name.endswith(".part") or "base" in name]
    again = exported(trained[0], run)
    assert again.sha256 == alone.sha256
    assert names(run) == WHOLE
