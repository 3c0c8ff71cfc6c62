"""The last rung of the ladder: the model as Ollama serves it, at places of held-out answers and by answers of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from afina.compare.endpoint import Endpoint
from afina.core.events import Events
from afina.core.run import RunFolder
from afina.data.render import Renderer
from afina.data.store import load_rows
from afina.export.inside import Place, compare_inside, places_here
from afina.export.ladder import choose_passages
from afina.export.served import Served
from afina.infer.llama import LlamaServer
from afina.infer.ollama import Ollama
from afina.model.base import Base
from afina.recipe.recipe import Recipe
from afina.stages.exam import mark_of, set_exam, shortened, sit_elsewhere
from afina.stages.prepare import NAME as PREPARE

DEPLOY = "deploy"


def tell_here(run: RunFolder, renderer: Renderer, server: LlamaServer) -> list[Place]:
    """What the file on ``server`` says at places of the held-out rows."""
    return places_here(server, choose_passages(load_rows(run.stage(PREPARE), "test")), renderer.tokenizer)


def look_inside(
    recipe: Recipe,
    run: RunFolder,
    renderer: Renderer,
    base: Base,
    ollama: Ollama,
    version: str,
    places: Sequence[Place],
    folder: Path,
    events: Events,
) -> Served:
    """Asks the model ``version`` of ``ollama`` at ``places`` and some of the comparison's questions. Answers go to ``folder``.

    Raises QualityError where it says other things than its file does here.
    """
    near = compare_inside(partial(ollama.next_words, version), places)
    exam = set_exam(recipe, run, renderer, base, DEPLOY)
    if not exam.why_not:
        start = time.monotonic()
        answer = ollama.chat(version, exam.asked[0].conversation.prompt, exam.task.max_new_tokens)
        exam = shortened(exam, max(1, answer.answer_tokens) / (time.monotonic() - start), models=1)
    performances = sit_elsewhere(exam, Endpoint("Ollama", version, ollama), events)
    if not performances:
        return Served(near)
    metric, mark = mark_of(exam, performances[0], folder, resamples=recipe.compare.resamples, seed=recipe.data.split.seed)
    return Served(near, metric, len(exam.asked), mark)
