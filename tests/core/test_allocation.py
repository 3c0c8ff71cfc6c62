"""Where torch places its tensors in RAM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from afina.core import allocation

NAME = "THP_MEM_ALLOC_ENABLE"


@pytest.mark.parametrize("said", [None, "0"])
def test_large_tensors_are_aligned_unless_the_environment_says_otherwise(
    said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(allocation, "_HUGE_PAGES", tmp_path / "enabled")
    (tmp_path / "enabled").write_text("always [madvise] never", encoding="ascii")
    monkeypatch.delenv(NAME, raising=False)
    if said is not None:
        monkeypatch.setenv(NAME, said)
    allocation.align_large_tensors()
    assert os.environ[NAME] == (said or "1")


def test_nothing_is_set_where_the_system_has_no_huge_pages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(allocation, "_HUGE_PAGES", tmp_path / "enabled")
    monkeypatch.setenv(NAME, "")  # so that it is put back
    monkeypatch.delenv(NAME)
    allocation.align_large_tensors()
    assert NAME not in os.environ


@pytest.mark.skipif(not allocation._HUGE_PAGES.is_file(), reason="this system has no huge pages")
def test_a_command_makes_torch_begin_large_tensors_at_a_page() -> None:
    """Torch reads the variable at its first tensor; this fails where it is loaded before, or no longer knows the variable."""
    code = (
        "from afina.cli.main import main; main([]); import torch; from mmap import PAGESIZE;"
        "assert all(torch.empty(1 << 20).data_ptr() % PAGESIZE == 0 for _each in range(3))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
    environment.pop(NAME, None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
