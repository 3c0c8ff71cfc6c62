"""How threads wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from afina.core.threads import let_threads_sleep


@pytest.mark.parametrize("said", [None, "ACTIVE"])
def test_threads_sleep_unless_the_environment_says_otherwise(said: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if said is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", said)
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == (said or "PASSIVE")


def test_a_command_says_so_before_torch_is_loaded() -> None:
    """Torch, once there, has read the variable."""
    code = (
        "import os, sys; from afina.cli.main import main; os.environ.pop('OMP_WAIT_POLICY', None); main([]);"
        "assert 'torch' not in sys.modules and os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
