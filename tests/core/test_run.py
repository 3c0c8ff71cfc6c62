from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from afina.core.errors import RecipeError, ResourceError
from afina.core.run import MANIFEST, Manifest, RunFolder, versions

INPUTS = {"examples": "abc", "recipe": "def"}


def finished(run: RunFolder, stage: str = "prepare", content: str = "rows") -> Manifest:
    """A stage with one output of ``content``."""
    folder = run.stage(stage)
    folder.mkdir(parents=True)
    (folder / "out.txt").write_text(content)
    return run.finish(stage, inputs=INPUTS, result={"rows": 3}, seconds=1.234, outputs=[folder / "out.txt"])


def test_a_finished_stage_is_fresh_until_an_input_changes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "shop")
    assert not run.is_fresh("prepare", INPUTS)
    manifest = finished(run)
    assert run.manifest("prepare") == manifest
    assert (manifest.result, manifest.seconds, manifest.outputs) == ({"rows": 3}, 1.23, {"out.txt": 4})
    assert run.is_fresh("prepare", INPUTS)
    other = {**INPUTS, "recipe": "xyz"}
    assert not run.is_fresh("prepare", other)
    assert run.changed_inputs("prepare", other) == ["recipe"]
    assert run.changed_inputs("prepare", {**INPUTS, "new": "1"}) == ["new"]


@pytest.mark.parametrize("damage", ["deleted", "cut"])
def test_a_stage_whose_file_was_deleted_or_cut_is_not_fresh(tmp_path: Path, damage: str) -> None:
    run = RunFolder(tmp_path / "shop")
    finished(run)
    output = run.stage("prepare") / "out.txt"
    if damage == "deleted":
        output.unlink()
    else:
        output.write_text("ro")
    assert not run.is_fresh("prepare", INPUTS)


def test_a_stage_without_manifest_is_not_finished_and_the_error_names_the_command(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "shop")
    run.stage("train").mkdir(parents=True)
    assert run.manifest("train") is None
    with pytest.raises(RecipeError, match="no finished stage 'train'") as caught:
        run.require("train")
    assert caught.value.fix == "afina train shop"


def test_what_is_set_aside_is_kept_each_time(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "shop")
    assert run.set_aside("prepare") is None
    places = []
    for content in ("one", "two", "three"):
        finished(run, content=content)
        places.append(run.set_aside("prepare"))
    assert not run.stage("prepare").exists()
    assert [(place / "out.txt").read_text() for place in places if place] == ["one", "two", "three"]
    assert all((place / MANIFEST).is_file() for place in places if place)


def test_a_run_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "shop")
    with run.locked(), pytest.raises(ResourceError, match=f"already being worked on.*process {os.getpid()}"), run.locked():
        pass
    with run.locked():
        pass


def test_the_lock_dies_with_a_killed_process(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "shop")
    code = (
        "import sys, time; from pathlib import Path; from afina.core.run import RunFolder\n"
        f"with RunFolder(Path({str(run.root)!r})).locked():\n print('held', flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ResourceError, match=str(holder.pid)), run.locked():
            pass
        holder.kill()
    with run.locked():
        pass


def test_versions_are_read_without_importing_anything() -> None:
    found = versions()
    assert found["python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}")
    assert "torch" in found
