"""The folder of a run: ``runs/<name>/`` with the frozen recipe, one folder a stage, and the events.

    runs/soporte/
      recipe.yaml      the recipe as it was run
      events.jsonl     what happened
      run.lock         held while a process works here
      prepare/ train/ compare/ export/ deploy/
        manifest.json  written last: a stage without it is not finished
      history/         stages whose inputs changed since, moved aside, never deleted

A stage is fresh when its manifest's ``inputs`` equal the inputs it would have now and each file in ``outputs`` is there with its
size.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from afina.core.errors import RecipeError, ResourceError
from afina.core.files import read_json, write_json
from afina.core.translation import _

MANIFEST = "manifest.json"
STAGES = ("prepare", "train", "compare", "export", "deploy")


@dataclass(frozen=True)
class Manifest:
    """The record of a finished stage. ``inputs``: name → fingerprint; ``outputs``: relative path → bytes."""

    stage: str
    inputs: dict[str, str]
    outputs: dict[str, int]
    result: dict[str, Any]
    seconds: float
    versions: dict[str, str]
    finished: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))


@dataclass(frozen=True)
class RunFolder:
    root: Path

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def recipe_path(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def events_path(self) -> Path:
        return self.root / "events.jsonl"

    def stage(self, stage: str) -> Path:
        return self.root / stage

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of a finished stage, or None."""
        path = self.stage(stage) / MANIFEST
        return Manifest(**read_json(path)) if path.is_file() else None

    def require(self, stage: str) -> Manifest:
        """The manifest of a stage that must have been run."""
        manifest = self.manifest(stage)
        if manifest is None:
            raise RecipeError(
                _("the run {name} has no finished stage '{stage}' in {folder}").format(
                    name=self.name, stage=stage, folder=self.root
                ),
                fix=_("afina {stage} {name}").format(stage=stage, name=self.name),
            )
        return manifest

    def is_fresh(self, stage: str, inputs: Mapping[str, str]) -> bool:
        manifest = self.manifest(stage)
        if manifest is None or manifest.inputs != dict(inputs):
            return False
        sizes = {path: self.stage(stage) / path for path in manifest.outputs}
        return all(file.is_file() and file.stat().st_size == manifest.outputs[path] for path, file in sizes.items())

    def changed_inputs(self, stage: str, inputs: Mapping[str, str]) -> list[str]:
        """What differs from the finished stage's inputs, in order; see ``differences``."""
        manifest = self.manifest(stage)
        return differences(manifest.inputs if manifest else {}, inputs)

    def set_aside(self, stage: str) -> Path | None:
        """Moves a stage's folder into ``history/`` so that nothing is lost; None where there was none."""
        folder = self.stage(stage)
        if not folder.exists():
            return None
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        target = next(
            path
            for number in range(1000)
            if not (path := self.root / "history" / f"{stage}-{stamp}{f'-{number}' if number else ''}").exists()
        )
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
        return target

    def latest_aside(self, stage: str) -> Path | None:
        """The folder that ``set_aside`` moved away last; None where there is none."""
        folders = sorted((self.root / "history").glob(f"{stage}-*"), key=lambda path: path.stat().st_mtime_ns)
        return folders[-1] if folders else None

    def finish(
        self, stage: str, *, inputs: Mapping[str, str], result: Mapping[str, Any], seconds: float, outputs: list[Path]
    ) -> Manifest:
        """Writes the manifest: from here on the stage counts as done."""
        folder = self.stage(stage)
        manifest = Manifest(
            stage=stage,
            inputs=dict(inputs),
            outputs={path.relative_to(folder).as_posix(): path.stat().st_size for path in outputs},
            result=dict(result),
            seconds=round(seconds, 2),
            versions=versions(),
        )
        write_json(folder / MANIFEST, asdict(manifest))
        return manifest

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the run for this process; another process at the same run is refused. The lock dies with its holder."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.root / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResourceError(
                _("nothing can be written into {folder}: {reason}").format(folder=self.root, reason=error.strerror or error),
                fix=_("free some space there, or choose another place with --runs FOLDER"),
            ) from None
        try:
            if not _try_lock(handle):
                owner = os.pread(handle, 32, 0).decode() if hasattr(os, "pread") else ""
                raise ResourceError(
                    _("the run {name} is already being worked on{owner}").format(
                        name=self.name, owner=_(" (process {number})").format(number=owner) if owner else ""
                    ),
                    fix=_("wait for it, or give this run another name with --set name=…"),
                )
            os.truncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
            yield
        finally:
            os.close(handle)


def differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the inputs that differ, in order; a setting (its name has a dot) with its values: ``train.epochs 3 → 4``."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return [f"{name} {before.get(name, '–')} → {now.get(name, '–')}" if "." in name else name for name in changed]


def versions() -> dict[str, str]:
    """Versions of what a result depends on, from the installed packages' metadata (nothing is imported)."""
    found = {"python": platform.python_version(), "platform": f"{sys.platform}-{platform.machine()}"}
    for package in ("afina", "torch", "transformers", "tokenizers", "gguf", "xllamacpp", "bitsandbytes"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


if sys.platform == "win32":  # pragma: no cover
    import msvcrt

    def _try_lock(handle: int) -> bool:
        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(handle: int) -> bool:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
