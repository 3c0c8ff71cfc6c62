"""kill -9 at any moment, started again: the same adapter, bit for bit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.models import write_model
from tests.fakes.training import needs_compiler


@pytest.mark.parametrize(
    ("kills", "method"),
    [
        (3, "lora"),
        (3, "lanes"),
        pytest.param(40, "lora", marks=pytest.mark.slow),
        pytest.param(40, "lanes", marks=pytest.mark.slow),
        pytest.param(12, "full", marks=pytest.mark.slow),
        pytest.param(3, "compiled", marks=[pytest.mark.slow, pytest.mark.timeout(1800), needs_compiler]),
    ],
)
def test_a_training_killed_at_random_moments_ends_with_the_same_weights(kills: int, method: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    command = [sys.executable, "-m", "tests.fakes.killed_trainings", str(base), str(tmp_path / "runs"), str(kills), "1", method]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == kills
    assert found["resumed"] > 0
    assert found["equal"] == found["finished"] > 0
    print(found)
