"""Sets up ``.venv`` with the pinned packages: ``python3 tools/environment.py base`` (to run) or ``dev`` (to test and check too).

Standard library only, because it runs before anything is installed. Safe to repeat and to interrupt: what is done is written down
last, in ``.venv/afina-<what>.json``, and with the same pins a second call returns at once.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
NEEDED_BYTES = 4 * 10**9  # torch for CPU and its neighbours take 2 GB, half as much again while they are unpacked
_SIZED = re.compile(r"^\s*(Downloading|Using cached) (\S+) \(([\d.]+) (bytes|kB|MB|GB)\)")
_LOCAL = re.compile(r"^\s*Processing (/\S+\.whl)")
_UNITS = {"bytes": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


class SetupError(Exception):
    """What stands in the way, in one line, and what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("base", "dev"))
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv")
    arguments = parser.parse_args()
    try:
        set_up(arguments.what, arguments.venv)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def set_up(what: str, venv: Path) -> None:
    """Leaves ``venv`` with the packages of ``what``; prints what it does, how long it took and how much came over the network."""
    pins = fingerprint(what)
    if is_ready(what, venv, pins):
        return
    require_python()
    require_disk(venv)
    start = time.monotonic()
    lock = ROOT / "requirements" / f"{what}.txt"
    count = len(set(re.findall(r"^([a-z0-9-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)))
    print(f"Setting up {venv} (once): {count} pinned packages and torch; about 2 GB on disk.")
    create(venv)
    log = venv / "setup.log"
    log.write_text("", encoding="utf-8")
    downloaded = sum(
        (
            install(venv, log, f"1/3 {count} packages, hashes checked", "--no-deps", "--require-hashes", "-r", str(lock)),
            install(venv, log, "2/3 torch", "-r", str(ROOT / "requirements" / "torch.txt")),
            install(venv, log, "3/3 afina itself", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)),
        )
    )
    check(venv)
    record = {"pins": pins, "seconds": round(time.monotonic() - start, 1), "downloaded_bytes": downloaded}
    stamp = stamp_of(what, venv)
    stamp.with_suffix(".part").write_text(json.dumps(record), encoding="utf-8")
    stamp.with_suffix(".part").replace(stamp)
    print(
        f"Set up in {record['seconds']:.0f} s: {megabytes(downloaded)} of packages downloaded or taken from pip's cache, "
        f"{megabytes(bytes_below(venv))} in {venv}."
    )


def fingerprint(what: str) -> str:
    """Changes whenever another set of packages would be installed."""
    digest = hashlib.sha256(str(ROOT).encode())
    for file in (f"requirements/{what}.txt", "requirements/torch.txt", "pyproject.toml"):
        digest.update((ROOT / file).read_bytes())
    return digest.hexdigest()


def stamp_of(what: str, venv: Path) -> Path:
    return venv / f"afina-{what}.json"


def is_ready(what: str, venv: Path, pins: str) -> bool:
    stamp = stamp_of(what, venv)
    return stamp.is_file() and json.loads(stamp.read_text(encoding="utf-8"))["pins"] == pins and python_of(venv).exists()


def python_of(venv: Path) -> Path:
    return venv / "Scripts" / "python.exe" if sys.platform == "win32" else venv / "bin" / "python"


def require_python() -> None:
    found = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"afina needs Python 3.11 or newer, {sys.executable} is {found}; name another one: make demo PYTHON=python3.12"
        )
    if any(importlib.util.find_spec(module) is None for module in ("venv", "ensurepip")):
        raise SetupError(
            f"Python {found} at {sys.executable} comes without venv; "
            "on Debian and Ubuntu: sudo apt install python3-venv; then give the same command again"
        )


def require_disk(venv: Path) -> None:
    existing = next(folder for folder in (venv, *venv.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < NEEDED_BYTES:
        raise SetupError(
            f"{existing} has {megabytes(free)} free and the packages need {megabytes(NEEDED_BYTES)}; free some space there"
        )


def create(venv: Path) -> None:
    """Makes ``venv``, or makes it anew where an earlier try left it without a working pip."""
    if (
        python_of(venv).exists()
        and output_of(python_of(venv), "-c", "import pip, sys; sys.exit(sys.version_info < (3, 11))")[0] == 0
    ):
        return
    code, said = output_of(sys.executable, "-m", "venv", "--clear", venv)
    if code != 0:
        raise SetupError(f"could not make {venv}: {said.splitlines()[-1] if said else 'no reason given'}")


def install(venv: Path, log: Path, step: str, *arguments: str) -> int:
    """Runs pip; returns the bytes of the packages it fetched, from the network, its cache or a local folder."""
    print(f"  {step}", flush=True)
    options = ("--no-input", "--disable-pip-version-check", "--progress-bar", "off")
    command = [str(python_of(venv)), "-m", "pip", "install", *options, *arguments]
    size = 0
    with log.open("a", encoding="utf-8") as record:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace"
        )
        assert process.stdout is not None
        for line in process.stdout:
            record.write(line)
            size += fetched(line)
        process.wait()
    if process.returncode != 0:
        tail = "\n".join("    " + line for line in log.read_text(encoding="utf-8").splitlines()[-12:])
        raise SetupError(
            f"pip could not install {step}:\n{tail}\nThe whole of it is in {log}. After mending it, give the same command again."
        )
    return size


def fetched(line: str) -> int:
    """The bytes of the package that a line of pip's output speaks of; says large ones on the terminal."""
    if match := _SIZED.match(line):
        name, size = match[2], int(float(match[3]) * _UNITS[match[4]])
    elif (match := _LOCAL.match(line)) and Path(match[1]).is_file():
        name, size = Path(match[1]).name, Path(match[1]).stat().st_size
    else:
        return 0
    if size >= 20 * 10**6:
        print(f"      {name.rpartition('/')[2]} ({megabytes(size)})", flush=True)
    return size


def check(venv: Path) -> None:
    code, said = output_of(python_of(venv), "-m", "pip", "--disable-pip-version-check", "check")
    if code != 0:
        raise SetupError(f"the pinned packages do not fit together; mend requirements/ with make lock:\n{said}")


def output_of(*command: str | Path) -> tuple[int, str]:
    """Exit code, and what was printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.returncode, (done.stdout + done.stderr).strip()


def bytes_below(folder: Path) -> int:
    return sum((Path(place) / name).lstat().st_size for place, _folders, names in os.walk(folder) for name in names)


def megabytes(count: int) -> str:
    return f"{count / 10**9:.1f} GB" if count >= 10**9 else f"{count / 10**6:.0f} MB"


if __name__ == "__main__":
    sys.exit(main())
