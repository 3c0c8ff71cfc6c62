"""`afina train` under torchrun: one voice, one result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from afina.core.run import RunFolder
from tests.fakes.models import write_model

RECIPE = """
name: shop
base: base
data: {examples: [examples.jsonl]}
adapter: {rank: 4, quantize: nf4}
train: {epochs: 2, batch_tokens: 256, learning_rate: 1e-2, dtype: float32}
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write_model(tmp_path / "base")
    rows = [{"prompt": f"Question {n}?", "completion": f"The answer is {n}."} for n in range(60)]
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def afina(shop: Path, *words: str, ranks: int = 1) -> tuple[int, list[str]]:
    """Exit code and what was written on standard error."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks > 1 else []
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launcher, "-m", "afina", *words]
    done = subprocess.run(command, cwd=shop, capture_output=True, text=True, env=environment, check=False)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.slow
def test_the_ranks_speak_with_one_voice_and_leave_one_result(shop: Path) -> None:
    code, lines = afina(shop, "train", "recipe.yaml", ranks=2)
    assert code != 0
    assert [line for line in lines if line.startswith("error:")] == [
        "error: the run shop has no finished stage 'prepare' in runs/shop"
    ]
    assert afina(shop, "prepare", "recipe.yaml")[0] == 0

    full = ("--set", "adapter.method=full", "--set", "adapter.quantize=none")
    code, lines = afina(shop, "train", "recipe.yaml", "--set", "train.shard=on", *full, ranks=2)
    assert code != 0
    assert [line for line in lines if line.startswith("error:")] == [
        "error: train.shard is on and adapter.method is full: only frozen layers and their adapters are shared out"
    ]

    code, lines = afina(shop, "train", "recipe.yaml", "--set", "train.shard=on", ranks=2)
    assert code == 0, "\n".join(lines)
    assert sum("2 ranks, the layers shared out" in line for line in lines) == 1
    assert [line for line in lines if line.startswith("next:")] == ["next: afina compare shop"]
    manifest = RunFolder(shop / "runs" / "shop").manifest("train")
    assert manifest is not None
    assert manifest.result["best_loss"] < manifest.result["first_loss"]
    assert any("as before" in line for line in afina(shop, "train", "recipe.yaml")[1])  # one process finds it done
