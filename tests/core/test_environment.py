"""What the environment says to torch before it is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from afina.core import environment
from afina.core.environment import settle_environment

POLICY, LOOKS, ALIGNED = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "THP_MEM_ALLOC_ENABLE"
KERNELS, LISTED = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment says nothing about these, and is put back afterwards."""
    for name in (POLICY, LOOKS, ALIGNED, KERNELS, LISTED):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def huge_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where Linux would say whether it has huge pages."""
    path = tmp_path / "enabled"
    monkeypatch.setattr(environment, "_HUGE_PAGES", path)
    return path


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, {POLICY: "PASSIVE", LOOKS: "1000", ALIGNED: "1", KERNELS: "96", LISTED: "1"}),
        (
            {LOOKS: "5", ALIGNED: "0", KERNELS: "7", LISTED: "8"},
            {POLICY: "PASSIVE", LOOKS: "5", ALIGNED: "0", KERNELS: "7", LISTED: "8"},
        ),
        ({POLICY: "ACTIVE"}, {POLICY: "ACTIVE", LOOKS: None, ALIGNED: "1", KERNELS: "96"}),
    ],
)
def test_what_the_user_has_set_stays_as_it_is(
    said: dict[str, str], wanted: dict[str, str | None], huge_pages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge_pages.write_text("always [madvise] never", encoding="ascii")
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    settle_environment()
    assert {name: os.environ.get(name) for name in wanted} == wanted


def test_tensors_are_not_aligned_where_the_system_has_no_huge_pages(huge_pages: Path) -> None:
    assert not huge_pages.exists()
    settle_environment()
    assert ALIGNED not in os.environ


def test_a_command_settles_it_before_torch_is_loaded() -> None:
    """Torch, once there, has read it."""
    run_command("import os, sys; assert 'torch' not in sys.modules and os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'")


@pytest.mark.skipif(not environment._HUGE_PAGES.is_file(), reason="this system has no huge pages")
def test_a_command_makes_torch_begin_large_tensors_at_a_page() -> None:
    """This fails where torch is loaded before, or no longer knows the variable."""
    run_command(
        "import torch; from mmap import PAGESIZE;"
        "assert all(torch.empty(1 << 20).data_ptr() % PAGESIZE == 0 for _each in range(3))"
    )


def test_a_command_makes_torch_keep_few_kernels() -> None:
    """400 lengths of rows in bfloat16: with either list of kernels long, more than 200 MiB are held afterwards, where the CPU
    multiplies that type by itself. This fails where torch is loaded before, or no longer knows a variable.
    """
    run_command(
        "import torch; from afina.core.hardware import resident_bytes; torch.set_num_threads(1);"
        "x, w = torch.ones(420, 512, dtype=torch.bfloat16), torch.ones(512, 512, dtype=torch.bfloat16);"
        "products = [(x[:n] @ w).shape for n in range(1, 20)]; before = resident_bytes();"
        "products = [(x[:n] @ w).shape for n in range(20, 420)]; more = (resident_bytes() - before) / 2**20;"
        "assert more < 120, more"
    )


def run_command(then: str) -> None:
    """A command in a new Python, and ``then`` what looks at it."""
    inherited = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    code = f"from afina.cli.main import main; main([]); {then}"
    done = subprocess.run([sys.executable, "-c", code], env=inherited, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
