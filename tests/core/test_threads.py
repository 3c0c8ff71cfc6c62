"""How threads wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from afina.core.threads import let_threads_sleep


@pytest.mark.parametrize(
    ("policy", "looks", "wanted"),
    [
        (None, None, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "1000"}),
        (None, "5", {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "5"}),
        ("ACTIVE", None, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": None}),
    ],
)
def test_threads_sleep_after_a_few_looks_unless_the_environment_says_otherwise(
    policy: str | None, looks: str | None, wanted: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, said in (("OMP_WAIT_POLICY", policy), ("GOMP_SPINCOUNT", looks)):
        monkeypatch.setenv(name, said or "")  # so that it is put back
        if said is None:
            monkeypatch.delenv(name)
    let_threads_sleep()
    assert {name: os.environ.get(name) for name in wanted} == wanted


def test_a_command_says_so_before_torch_is_loaded() -> None:
    """Torch, once there, has read the variable."""
    code = (
        "import os, sys; from afina.cli.main import main; os.environ.pop('OMP_WAIT_POLICY', None); main([]);"
        "assert 'torch' not in sys.modules and os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
