"""Forget: whether the training took away what it should have left alone; see ``compare/forgetting.py``.

Where the run is exported, the deployed file is asked, and the base rounded in the same way, so that what rounding costs is not
taken for forgetting. Else both are asked in torch, in the number type of the comparison, and that is said.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from afina import __version__
from afina.compare.forgetting import (
    MAX_NEW_TOKENS,
    Forgetting,
    Told,
    compare_before_and_after,
    general_set,
    load_forgetting,
    save_forgetting,
    words,
)
from afina.compare.prompts import Room
from afina.core.events import Events
from afina.core.files import require_disk
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.data.render import Renderer, Row
from afina.export.gguf import write_gguf
from afina.export.ladder import told_by_llama
from afina.infer.llama import LlamaServer
from afina.infer.score import score_rows
from afina.infer.torch_local import TorchEngine
from afina.model.base import Base, resolve_base
from afina.model.load import choose_device, choose_dtype, load_model
from afina.model.merge import MergedWeights
from afina.model.streamed import Passage
from afina.model.weights import Checkpoint
from afina.recipe.kinds import Kind
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.compared import COMPARE, FORGETTING, write_page
from afina.stages.export import NAME as EXPORT
from afina.stages.export import NEEDS_NONE, file_name
from afina.stages.renderer import build_renderer
from afina.stages.stage import Outcome, StageWork, run_stage
from afina.stages.tuned import tuned_model
from afina.train.loop import STAGE as TRAIN

NAME = FORGETTING


@dataclass(frozen=True)
class _Asked:
    """The general set for one base: its conversations as rows, whose trained tokens are the right answers."""

    renderer: Renderer
    rows: Sequence[Row]


def forget(recipe: Recipe, run: RunFolder, events: Events) -> Forgetting:
    """Asks base and tuned model the general set."""
    trained = run.require(TRAIN)
    base = resolve_base(recipe.base, recipe.revision)
    renderer = build_renderer(recipe, base)
    device = choose_device(recipe.train.device)
    dtype, _why = choose_dtype(recipe.train.dtype, device, base.weight_bytes // 2)
    file = _deployed_file(recipe, run)
    way = f"torch {str(dtype).removeprefix('torch.')}" if file is None else f"GGUF {file[0]}"

    def work(folder: Path) -> Outcome:
        room = Room(renderer, base.context, MAX_NEW_TOKENS)
        asked = _Asked(renderer, [room.row(item.conversation(number)) for number, item in enumerate(general_set(), 1)])
        if file is None:
            before = _told_by_torch(asked, base, None, dtype, device)
            tuned = tuned_model(base, run)
            after = _told_by_torch(asked, tuned.base, tuned.adapter, dtype, device)
        else:
            before = _told_by_rounded_base(asked, base, *file, folder)
            after = _told_by_file(asked, file[1], base)
        found = compare_before_and_after(before, after, way, resamples=recipe.compare.resamples, seed=recipe.data.split.seed)
        return Outcome({"outcome": found.outcome}, [save_forgetting(folder, found)], words(found))

    run_stage(
        run,
        events,
        StageWork(
            name=NAME,
            inputs={
                "afina": __version__,
                "train": fingerprint.of_stage(trained),
                "base": fingerprint.of_base(base),
                "asked": way if file is None else fingerprint.of_files([file[1]]),
                "settings": fingerprint.of_settings(recipe.compare.resamples, renderer.template.source),
            },
            plan=lambda: _("{count} general questions to the base and to the tuned model, in {way}").format(
                count=len(general_set()), way=way
            ),
            work=work,
        ),
    )
    if run.manifest(COMPARE) is not None:
        write_page(recipe, run)
    found = load_forgetting(run.stage(NAME))
    assert found is not None
    return found


def _deployed_file(recipe: Recipe, run: RunFolder) -> tuple[Kind, Path] | None:
    """Type and file that the run's export chose; None where it is not of this training, or rounded as no base can be here."""
    exported = run.manifest(EXPORT)
    if exported is None or exported.inputs.get("train") != fingerprint.of_stage(run.require(TRAIN)):
        return None
    kind: Kind | None = exported.result.get("chosen")
    if kind is None or (recipe.export.imatrix and kind not in NEEDS_NONE):
        return None
    path = run.stage(EXPORT) / file_name(recipe, kind)
    return (kind, path) if path.is_file() else None


def _told_by_torch(asked: _Asked, base: Base, adapter: Path | None, dtype: torch.dtype, device: torch.device) -> Told:
    model = load_model(base, dtype=dtype, device=device, adapter=adapter)
    losses = score_rows(model, asked.rows)
    engine = TorchEngine(model, asked.renderer.tokenizer, asked.renderer.template)
    prompts = [item.conversation(0).prompt for item in general_set()]
    answers = [answer.text for answer in engine.answer_many(prompts, MAX_NEW_TOKENS)]
    del model, engine
    gc.collect()
    return Told(answers, losses)


def _told_by_rounded_base(asked: _Asked, base: Base, kind: Kind, tuned: Path, folder: Path) -> Told:
    """Of the base in the tuned file's type; the base's file is deleted afterwards."""
    require_disk(folder, tuned.stat().st_size, _("the base as GGUF"))
    path = folder / f"base-{kind}.gguf"
    try:
        write_gguf(
            path,
            base=base,
            weights=MergedWeights(Checkpoint(base.folder)),
            tokenizer=asked.renderer.tokenizer,
            template=asked.renderer.template,
            kind=kind,
            name="base",
        )
        return _told_by_file(asked, path, base)
    finally:
        path.unlink(missing_ok=True)


def _told_by_file(asked: _Asked, path: Path, base: Base) -> Told:
    passages = [
        Passage(tuple(row.ids), tuple(place for place, trained in enumerate(row.trained) if trained and place))
        for row in asked.rows
    ]
    context = max(len(row.ids) for row in asked.rows) + MAX_NEW_TOKENS
    with LlamaServer(path, context=context) as server:
        losses = told_by_llama(server, passages, int(base.config["vocab_size"])).losses
        answers = [server.answer(item.conversation(0).prompt, MAX_NEW_TOKENS).text for item in general_set()]
    return Told(answers, [(float(row.sum()), len(row)) for row in losses])
