"""Ctrl-C and kill -9 in each stage of a real run; the same command then finishes, and the adapter is that of a run left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from afina.core.files import sha256_of
from afina.core.run import STAGES, RunFolder
from tests.fakes.models import write_model

ADAPTER = "train/adapter/adapter_model.safetensors"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small base, examples that are quickly learned, and a recipe whose training takes some steps."""
    folder = tmp_path_factory.mktemp("shop")
    write_model(folder / "base")
    rows = [{"prompt": f"Question {n}?", "completion": "Yes."} for n in range(60)]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "recipe.yaml").write_text(
        "name: shop\nbase: base\ndata: {examples: [examples.jsonl]}\nadapter: {rank: 8}\n"
        "train: {epochs: 6, batch_tokens: 128, micro_tokens: 512, checkpointing: none, learning_rate: 1e-2, save_every: 2}\n"
        "compare: {examples: 6, max_new_tokens: 40}\nexport: {types: [f16], check_prompts: 2, check_tokens: 8}\n"
        "deploy: {to: embedded}\n"
    )
    return folder


def start(shop: Path, runs: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "afina.cli.main", "run", str(shop / "recipe.yaml"), "--runs", str(runs)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OLLAMA_HOST": "127.0.0.1:9"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, start_new_session=True)


def wait_for_stage(runs: Path, stage: str, child: subprocess.Popen[bytes], starts: int) -> None:
    """Until the stage has begun (in training: until it has made three steps) for the ``starts``-th time in all."""
    wanted = '"kind": "Metric"' if stage == "train" else '"kind": "StageStarted"'
    events = runs / "shop" / "events.jsonl"
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        lines = events.read_text().splitlines() if events.is_file() else []
        found = [line for line in lines if wanted in line and f'"stage": "{stage}"' in line]
        if len(found) >= (4 if stage == "train" else starts):
            return
        assert child.poll() is None, child.communicate()[1].decode()
        time.sleep(0.005)
    pytest.fail(f"the stage {stage} did not begin")


@pytest.fixture(scope="module")
def alone(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The adapter of a run that nobody stopped."""
    runs = tmp_path_factory.mktemp("alone")
    child = start(shop, runs)
    _out, told = child.communicate(timeout=120)
    assert child.returncode == 0, told.decode()
    return runs / "shop" / ADAPTER


@pytest.mark.timeout(600)  # eight runs, each a process of its own
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_stopped_in_each_stage_goes_on_with_the_same_command(
    number: signal.Signals, shop: Path, alone: Path, tmp_path: Path
) -> None:
    for stage in STAGES:
        child = start(shop, tmp_path)
        wait_for_stage(tmp_path, stage, child, 1)
        os.kill(child.pid, number)
        _out, told = child.communicate(timeout=60)
        if child.returncode == 0:
            continue  # the stage was over before the signal came
        assert child.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), told.decode()
        if number == signal.SIGINT:
            assert "the same command goes on" in told.decode()
    last = start(shop, tmp_path)
    _out, told = last.communicate(timeout=120)
    assert last.returncode == 0, told.decode()
    run = RunFolder(tmp_path / "shop")
    assert all(run.manifest(stage) for stage in STAGES)
    assert sha256_of(run.root / ADAPTER) == sha256_of(alone)

    again = start(shop, tmp_path)
    _out, told = again.communicate(timeout=60)
    assert again.returncode == 0
    lines = told.decode().splitlines()
    as_before = {line.split()[0] for line in lines if "as before: nothing changed" in line}
    assert as_before == {*STAGES, "forgetting"}, "what the training made the model forget is a part of the comparison"
    assert {line.split()[0] for line in lines if " done in " in line} <= {"report"}
