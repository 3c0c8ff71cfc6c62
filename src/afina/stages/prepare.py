"""Prepare: from files of examples to conversations, their split, token rows with the mask ``trained``, and a page about it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from afina import __version__
from afina.core.errors import RecipeError
from afina.core.events import Events
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.data.clean.checks import problems_in
from afina.data.documents.find import find_documents
from afina.data.read.files import find_files, paths_of
from afina.data.read.unpack import InputFile
from afina.data.render import Renderer
from afina.data.workers import worthwhile
from afina.model.base import Base, describe, resolve_base
from afina.recipe.recipe import Data, Recipe
from afina.stages import fingerprint
from afina.stages.renderer import build_renderer
from afina.stages.stage import Outcome, StageWork, run_stage

NAME = "prepare"
TEMPLATE, REPORT, PAGE = "template.jinja", "report.json", "report.html"
CHUNKS, PREFERENCES = "chunks.jsonl", "preferences.jsonl"


@dataclass(frozen=True)
class Prepared:
    """Counts a side: conversations and tokens; dropped rows a check; rows changed; how many rows were worked on in this run and
    how many were taken over from the one before.
    """

    conversations: dict[str, int]
    tokens: dict[str, int]
    trained_tokens: dict[str, int]
    dropped: dict[str, int]
    changed: int
    longest: int
    max_tokens: int
    template: str
    end_of_turn: str
    chunks: int
    worked: int
    taken_over: int
    page: Path
    folder: Path


def prepare(recipe: Recipe, run: RunFolder, events: Events) -> Prepared:
    """Prepares the recipe's examples. Raises DataError, with file and line, for files and bases that cannot be used."""
    base = resolve_base(recipe.base, recipe.revision)
    files = require_readable(recipe.data)
    documents, examples = find_documents(recipe.data.documents), paths_of(files)

    @cache
    def renderer() -> Renderer:
        return build_renderer(recipe, base)

    def work(folder: Path) -> Outcome:
        from afina.stages.preparation import Preparation  # libraries of readers and checks: not needed where nothing changed

        processes = worthwhile(sum(path.stat().st_size for path in examples))
        return Preparation(recipe, base, renderer(), documents, folder, run, events, processes).work()

    manifest = run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "examples": fingerprint.of_files(examples),
                "documents": fingerprint.of_files(documents),
                "recipe": fingerprint.of_settings(recipe.data, recipe.system, recipe.train.max_tokens, base.context),
                "chat template": fingerprint.of_template(recipe.chat_template),
                "tokenizer": fingerprint.of_tokenizer(base),
                "base": fingerprint.of_base(base),
            },
            plan=lambda: _plan(base, renderer(), len(files), len(documents)),
            work=work,
        ),
    )
    folder = run.stage(NAME)
    return Prepared(**manifest.result, page=folder / PAGE, folder=folder)


def require_readable(data: Data) -> list[InputFile]:
    """The files of examples. Raises, before any work, RecipeError for unknown checks, DataError for files that are not there."""
    if problems := problems_in(data.checks):
        raise RecipeError("\n".join(problems), fix=_("correct data.checks in the recipe; the guide names all checks"))
    return find_files((*data.examples, *data.val, *data.test))


def _plan(base: Base, renderer: Renderer, files: int, documents: int) -> str:
    text = _("base: {base}; files of examples: {files}; chat template: {template}").format(
        files=files, base=describe(base), template=renderer.template.name
    )
    return text + (_("; documents: {count}").format(count=documents) if documents else "")
