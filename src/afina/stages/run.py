"""Run: all stages in their order, each skipped where nothing changed. What can be known before the work is checked before it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from afina.core.events import Events, Listener
from afina.core.files import require_disk
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.data.documents.find import find_documents
from afina.model.base import resolve_base
from afina.model.load import choose_device
from afina.model.nf4 import require_nf4
from afina.recipe.recipe import Recipe
from afina.stages.compare import compare
from afina.stages.deploy import deploy, require_destination
from afina.stages.export import bytes_needed, export
from afina.stages.forget import forget
from afina.stages.prepare import prepare, require_readable
from afina.stages.renderer import build_renderer
from afina.stages.report import report
from afina.stages.train import train
from afina.stages.workspace import DEFAULT_RUNS, working_in


@dataclass(frozen=True)
class RunResult:
    run: RunFolder
    report: Path


def run(recipe: Recipe, runs: Path = DEFAULT_RUNS, listeners: tuple[Listener, ...] = ()) -> RunResult:
    """Runs every stage of ``recipe`` in ``runs``/<name>; goes on where an earlier run stopped."""
    with working_in(recipe, runs, listeners) as (folder, events):
        return run_stages(recipe, folder, events)


def run_stages(recipe: Recipe, folder: RunFolder, events: Events) -> RunResult:
    require_possible(recipe, folder)
    prepare(recipe, folder, events)
    train(recipe, folder, events)
    compare(recipe, folder, events)
    export(recipe, folder, events)
    forget(recipe, folder, events)
    deploy(recipe, folder, events)
    return RunResult(folder, report(recipe, folder, events).path)


def require_possible(recipe: Recipe, folder: RunFolder) -> None:
    """Raises, before anything is computed, what would stop a later stage: base, template, device, extras, disk, Ollama."""
    require_readable(recipe.data)
    find_documents(recipe.data.documents)
    base = resolve_base(recipe.base, recipe.revision)
    build_renderer(recipe, base)
    device = choose_device(recipe.train.device)
    if recipe.adapter.quantize == "nf4":
        require_nf4(device)
    require_disk(folder.root, bytes_needed(recipe, base), _("the GGUF files of {name}").format(name=recipe.name))
    require_destination(recipe)
