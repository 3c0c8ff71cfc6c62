"""How every stage runs: skipped when its inputs did not change, set aside and done anew when they did, its manifest written
last.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.core.events import Events, StageFinished, StageSkipped, StageStarted
from afina.core.files import read_json, write_json
from afina.core.run import Manifest, RunFolder, differences
from afina.core.translation import _

STARTED = "started.json"  # the inputs of a stage that is not finished


@dataclass(frozen=True)
class Outcome:
    """What a stage's work returns: a result for the manifest, its files, and one line for the user."""

    result: Mapping[str, Any]
    outputs: list[Path]
    summary: str


@dataclass(frozen=True)
class StageWork:
    """One stage, ready to run. ``resumable`` says that a half-done folder is gone on with (training's checkpoints).

    ``plan`` says in words what will be done; it is asked for only where there is something to do, before anything is moved, and
    may fail. ``is_whole``: whether a finished stage need not be done again, with the same inputs.
    """

    name: str
    inputs: Mapping[str, str]
    plan: Callable[[], str]
    work: Callable[[Path], Outcome]
    resumable: bool = False
    is_whole: Callable[[Manifest], bool] = lambda _finished: True


def run_stage(run: RunFolder, events: Events, stage: StageWork) -> Manifest:
    """The stage's manifest: of the finished work where it is fresh, else of the work done now."""
    finished = run.manifest(stage.name)
    if finished and run.is_fresh(stage.name, stage.inputs) and stage.is_whole(finished):
        events.emit(StageSkipped(stage.name, _("nothing changed since {when}").format(when=finished.finished)))
        return finished
    plan = stage.plan()
    aside = None
    if finished:
        changed = ", ".join(run.changed_inputs(stage.name, stage.inputs)) or (
            _("its files") if stage.is_whole(finished) else _("what was left out")
        )
        aside = run.set_aside(stage.name)
        events.info(stage.name, _("changed: {what}; the earlier result is kept in {folder}").format(what=changed, folder=aside))
    folder = run.stage(stage.name)
    started_with = folder / STARTED
    if folder.exists():
        _go_on_or_begin_anew(run, events, stage, started_with)
    write_json(started_with, dict(stage.inputs))
    events.emit(StageStarted(stage.name, plan))
    start = time.monotonic()
    try:
        outcome = stage.work(folder)
    except BaseException:
        if aside is not None and not stage.resumable:  # what was there before is better than a half
            shutil.rmtree(folder)
            aside.rename(folder)
        raise
    seconds = time.monotonic() - start
    manifest = run.finish(stage.name, inputs=stage.inputs, result=outcome.result, seconds=seconds, outputs=outcome.outputs)
    started_with.unlink()
    events.emit(StageFinished(stage.name, seconds, outcome.summary))
    return manifest


def _go_on_or_begin_anew(run: RunFolder, events: Events, stage: StageWork, started_with: Path) -> None:
    """What a killed or stopped run left: gone on with where that is possible, else out of the way.

    A half-done training with other inputs is hours of work: it is set aside with the difference, and not deleted.
    """
    before = read_json(started_with) if started_with.is_file() else None
    if stage.resumable and before == dict(stage.inputs):
        return
    if stage.resumable and before is not None and len(list(run.stage(stage.name).iterdir())) > 1:
        folder = run.set_aside(stage.name)
        events.warn(
            stage.name,
            _("not gone on with, for something changed: {what}; what was done is kept in {folder}").format(
                what=", ".join(differences(before, stage.inputs)), folder=folder
            ),
        )
    else:
        shutil.rmtree(run.stage(stage.name))
