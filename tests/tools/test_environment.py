from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools import environment
from tools.environment import SetupError


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("  Downloading numpy-2.4.6-cp311-manylinux_x86_64.whl (16.9 MB)\n", 16_900_000),
        ("  Using cached idna-3.20-py3-none-any.whl (68 kB)\n", 68_000),
        ("  Downloading x-1-py3-none-any.whl (512 bytes)\n", 512),
        ("Collecting numpy==2.4.6\n", 0),
        ("Processing /no/such/wheel.whl\n", 0),
    ],
)
def test_the_size_of_what_pip_fetches_is_read_from_its_words(line: str, size: int) -> None:
    assert environment.fetched(line) == size


def test_a_wheel_from_a_folder_counts_with_its_size(tmp_path: Path) -> None:
    wheel = tmp_path / "torch-2.13.0-py3-none-any.whl"
    wheel.write_bytes(b"x" * 1000)
    assert environment.fetched(f"Processing {wheel}\n") == 1000


def test_a_finished_setting_up_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    python = environment.python_of(tmp_path)
    python.parent.mkdir(parents=True)
    python.touch()
    environment.stamp_of("base", tmp_path).write_text(json.dumps({"pins": environment.fingerprint("base")}))
    environment.set_up("base", tmp_path)
    assert capsys.readouterr().out == ""
    assert not environment.is_ready("base", tmp_path, "other pins")
    assert not environment.is_ready("dev", tmp_path, environment.fingerprint("dev"))


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "NEEDED_BYTES", 10**18)
    with pytest.raises(SetupError, match="free and the packages need"):
        environment.set_up("base", tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_a_python_without_venv_is_told_in_one_line(tmp_path: Path) -> None:
    """As on Debian, where venv is a package of its own: here by a Python that finds no ensurepip."""
    code = (
        "import importlib.util, sys; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'ensurepip' else find(name, *rest)\n"
        f"sys.argv[1:] = ['base', '--venv', {str(tmp_path / 'v')!r}]\n"
        "from tools import environment; sys.exit(environment.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=environment.ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1
    assert "sudo apt install python3-venv" in done.stderr


def test_a_python_that_is_too_old_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(environment, "OLDEST_PYTHON", (99, 0))
    with pytest.raises(SetupError, match="needs Python 3.11 or newer"):
        environment.set_up("base", tmp_path / "venv")


def test_make_says_it_where_no_python_is_new_enough(tmp_path: Path) -> None:
    for name in ("python3", "python"):
        (tmp_path / name).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    for name in ("make", "sh", "sed", "test"):
        found = next(Path(folder) / name for folder in ("/usr/bin", "/bin") if (Path(folder) / name).exists())
        (tmp_path / name).symlink_to(found)
    done = subprocess.run(
        ["make", "setup"],
        cwd=environment.ROOT,
        env={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "afina needs Python 3.11 or newer" in done.stderr


def test_an_environment_that_an_interruption_left_broken_is_made_anew(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    environment.python_of(venv).symlink_to(sys.executable)
    (venv / "left-over").touch()
    environment.python_of(venv).unlink()
    environment.python_of(venv).write_text("#!/bin/sh\nexit 1\n")
    environment.python_of(venv).chmod(0o755)
    environment.create(venv)
    assert environment.output_of(environment.python_of(venv), "-c", "import pip")[0] == 0
    assert not (venv / "left-over").exists()
