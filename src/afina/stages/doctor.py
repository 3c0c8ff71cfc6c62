"""Doctor: what afina needs on this machine, whether it is there, and the command that mends it.

It takes about a second and imports none of what it looks for: packages are known by their metadata, and llama.cpp is tried in a
process of its own. ``stages/rehearse.py`` goes deeper.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from afina import __version__
from afina.core import hardware
from afina.core.errors import ServiceError
from afina.core.translation import _
from afina.core.units import GIB, format_bytes
from afina.infer.ollama import Ollama

State = Literal["ok", "warning", "missing"]

LITTLE_MEMORY = 2 * GIB  # the demo needs about half of it
LITTLE_DISK = 2 * GIB
TRY_TIMEOUT_S = 30.0
INSTALL = f"{sys.executable} -m pip install"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for. ``fix``: the command that mends it. ``essential``: nothing works without it."""

    topic: str
    state: State
    text: str
    fix: str = ""
    essential: bool = False


@dataclass(frozen=True)
class Diagnosis:
    findings: tuple[Finding, ...]

    @property
    def lacking(self) -> tuple[Finding, ...]:
        """The essential things that are missing."""
        return tuple(finding for finding in self.findings if finding.essential and finding.state == "missing")


def examine(folder: Path) -> Diagnosis:
    """What is here and what is not, for runs kept in ``folder``."""
    found = [_python(), *_packages(), _llama(), _memory(), _disk(folder), *_gpus(), _ollama(), *_extras()]
    return Diagnosis(tuple(found))


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()}, {sys.executable}", essential=True)


def _packages() -> Iterator[Finding]:
    """afina and each package that its metadata asks for; those that are well share a line, but for torch."""
    try:
        wanted = [Requirement(line) for line in requires("afina") or []]
    except PackageNotFoundError:
        yield Finding(
            "afina", "warning", _("{version}, run without being installed").format(version=__version__), f"{INSTALL} -e ."
        )
        return
    yield Finding("afina", "ok", __version__)
    base = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate({"extra": ""})]
    problems = {requirement.name: problem for requirement in base if (problem := _problem_with(requirement))}
    for requirement in base:
        if requirement.name in problems:
            fix = f'{INSTALL} "{requirement}"'
            yield Finding(requirement.name, "missing", problems[requirement.name], fix, essential=True)
        elif requirement.name == "torch":
            yield Finding("torch", "ok", version("torch"), essential=True)
    others = [requirement.name for requirement in base if requirement.name not in {"torch", *problems}]
    yield Finding(_("packages"), "ok", ", ".join(f"{name} {version(name)}" for name in others))


def _problem_with(requirement: Requirement) -> str:
    """Why an installed package does not serve; empty where it does."""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return _("not installed")
    if requirement.specifier.contains(found, prereleases=True):
        return ""
    return _("{found} is installed, {wanted} is needed").format(found=found, wanted=requirement.specifier)


def _llama() -> Finding:
    """Whether the llama.cpp wheel can be loaded; tried in a child, because a processor too old for it would end this process."""
    try:
        tried = subprocess.run(
            [sys.executable, "-c", "import xllamacpp"], check=False, capture_output=True, text=True, timeout=TRY_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        reason = _("no answer for {seconds:.0f} s").format(seconds=TRY_TIMEOUT_S)
    else:
        if tried.returncode == 0:
            return Finding(
                "llama.cpp", "ok", _("can be loaded (xllamacpp {version})").format(version=version("xllamacpp")), essential=True
            )
        reason = _("exit code {code}").format(code=tried.returncode)
        if lines := tried.stderr.strip().splitlines():
            reason = lines[-1]
        elif tried.returncode < 0:
            reason = _("this processor lacks instructions that the wheel uses (signal {number})").format(number=-tried.returncode)
    fix = f"{INSTALL} --force-reinstall --no-deps xllamacpp"
    return Finding("llama.cpp", "missing", _("cannot be loaded: {reason}").format(reason=reason), fix, essential=True)


def _memory() -> Finding:
    chip = hardware.processor()
    cores = _("{count} cores, {name}").format(count=chip.cores, name=chip.name)
    found = hardware.memory()
    if found is None:
        return Finding(_("memory"), "warning", _("this system does not tell; {cores}").format(cores=cores))
    text = _("{free} of {total} available; {cores}").format(
        free=format_bytes(found.available_bytes), total=format_bytes(found.total_bytes), cores=cores
    )
    if found.available_bytes < LITTLE_MEMORY:
        return Finding(_("memory"), "warning", text, _("close other programs; afina demo needs about 1 GiB"))
    return Finding(_("memory"), "ok", text)


def _disk(folder: Path) -> Finding:
    free = hardware.free_disk(folder)
    text = _("{free} free for {folder}").format(free=format_bytes(free), folder=folder.absolute())
    if free < LITTLE_DISK:
        return Finding(_("disk"), "warning", text, _("free some space there, or choose another place with --runs FOLDER"))
    return Finding(_("disk"), "ok", text)


def _gpus() -> Iterator[Finding]:
    found = hardware.gpus()
    if not found:
        yield Finding("GPU", "ok", _("no NVIDIA GPU; the CPU does the work"))
        return
    try:
        torch_is_for_cpu = version("torch").endswith("+cpu")
    except PackageNotFoundError:
        torch_is_for_cpu = False
    for gpu in found:
        text = _("{name}, {free} of {total} free, driver {driver}").format(
            name=gpu.name, free=format_bytes(gpu.free_bytes), total=format_bytes(gpu.total_bytes), driver=gpu.driver
        )
        if torch_is_for_cpu:
            what = text + _("; torch {version} cannot use it").format(version=version("torch"))
            yield Finding("GPU", "warning", what, f'{INSTALL} --force-reinstall "torch=={version("torch").partition("+")[0]}"')
        else:
            yield Finding("GPU", "ok", text)


def _ollama() -> Finding:
    try:
        ollama = Ollama.from_environment()
        found = ollama.require_recent()
    except ServiceError as error:
        return Finding("Ollama", "missing", error.what + _("; it can be done without: afina has its own llama.cpp"), error.fix)
    return Finding("Ollama", "ok", _("{version} at {address}").format(version=found, address=ollama.address))


_OURS = ("bench", "fuzz", "dev")  # extras for working on afina itself


def _extras() -> Iterator[Finding]:
    """Each extra of afina's metadata that serves a user: complete, or what it lacks."""
    try:
        names = metadata("afina").get_all("Provides-Extra") or []
        wanted = [Requirement(line) for line in requires("afina") or []]
    except PackageNotFoundError:
        return
    for name in (name for name in names if name not in _OURS):
        parts = [
            part
            for part in wanted
            if part.marker and part.marker.evaluate({"extra": name}) and not part.marker.evaluate({"extra": ""})
        ]
        lacking = [f"{part.name} ({problem})" for part in parts if (problem := _problem_with(part))]
        topic = _("extra {name}").format(name=name)
        if lacking:
            yield Finding(topic, "missing", ", ".join(lacking), f'{INSTALL} "afina[{name}]"')
        else:
            yield Finding(topic, "ok", ", ".join(f"{part.name} {version(part.name)}" for part in parts))
