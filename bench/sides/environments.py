"""The peers' virtual environments, below .cache/bench: made once, kept, made anew when what they hold changes here.

Packages come from wherever this machine's pip takes them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class NoEnvironmentError(Exception):
    """Why a peer cannot be had here, in a line."""


@dataclass(frozen=True)
class Environment:
    """``unwanted`` are taken out again: their wheels are built for another torch, and what is measured does not use them."""

    name: str
    packages: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


TORCH = "torch==2.13.0"
TRL = Environment(
    "trl", (TORCH, "transformers==5.23.0", "trl==1.16.0", "peft==0.21.2", "bitsandbytes==0.50.2", "datasets==5.2.0")
)
LLAMA_FACTORY = Environment(
    "llamafactory",
    (TORCH, "llamafactory==0.9.5", "transformers==5.6.0", "peft==0.18.1", "bitsandbytes==0.50.2"),
    unwanted=("torchvision", "torchaudio"),
)
LIGER = Environment("liger", (*TRL.packages, "liger-kernel"))
UNSLOTH = Environment("unsloth", ("unsloth",))
TORCHTUNE = Environment("torchtune", ("torch", "torchao", "torchtune"))


def python_of(environment: Environment, folder: Path, tell: Callable[[str], None]) -> Path:
    """The environment's interpreter, made now where it is not there yet. Raises NoEnvironmentError with pip's last words."""
    home = folder / environment.name
    python, stamp = home / "bin" / "python", home / "bench.json"
    wanted = json.dumps([environment.packages, environment.unwanted, sys.version])
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    tell(f"making {home} (once): {', '.join(environment.packages)}")
    _call(environment, [sys.executable, "-m", "venv", "--clear", str(home)])
    _call(environment, [str(python), "-m", "pip", "install", "--quiet", *environment.packages])
    if environment.unwanted:
        _call(environment, [str(python), "-m", "pip", "uninstall", "--quiet", "--yes", *environment.unwanted])
    stamp.write_text(wanted, encoding="utf-8")
    return python


def packages_in(python: Path) -> dict[str, str]:
    """Versions of what matters, as the environment has them."""
    names = ("torch", "transformers", "trl", "peft", "llamafactory", "bitsandbytes", "liger-kernel", "unsloth", "torchtune")
    code = (
        "import importlib.metadata as m, json, sys\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    done = subprocess.run([python, "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _call(environment: Environment, command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise NoEnvironmentError(f"{environment.name} cannot be installed: {' '.join(last)}")
