"""The ladder of an export: what the held-out examples cost the base, the tuned model in torch, and each of its files."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.render import Row
from afina.export.ladder import (
    Passage,
    Told,
    choose_passages,
    closeness,
    kept_gain,
    mean_loss,
    told_by_llama,
    told_by_torch,
)
from afina.export.rungs import Rung
from afina.infer.llama import LlamaServer
from afina.infer.score import log_probabilities
from afina.model.base import Base
from afina.model.load import load_model

_SPOKEN = 32  # tokens that a file says while its speed is measured

Quantize = Literal["none", "int8", "nf4"]


@dataclass(frozen=True)
class Torch:
    """What torch says of the base and of the tuned model at the passages' places.

    ``trained``: of the adapter on the very weights that it was trained on, where those were quantized. ``merged``: of what is
    exported; ``onto``: the weights that it is worked into.
    """

    passages: list[Passage]
    base: Told
    trained: Told | None
    merged: Told
    other: Told | None
    onto: Literal["as they are", "nf4"]


@dataclass(frozen=True)
class Subject:
    """The base, and the tuned model: ``tuned`` with ``adapter``, trained on weights in ``quantize``.

    ``storage``: in what matrices are kept while torch is asked; None for float32, in which it computes in any case.
    """

    base: Base
    tuned: Base
    adapter: Path | None
    quantize: Quantize
    device: torch.device
    storage: torch.dtype | None = None


def ask_torch(subject: Subject, rows: Sequence[Row]) -> Torch:
    """One model after another, in float32.

    A QLoRA adapter can be worked into the 16-bit weights or into the NF4 ones that it was trained on: whichever costs less.
    """
    passages = choose_passages(rows)
    if not passages:
        raise DataError(
            _("none of the {count} held-out rows has a trained token: the files cannot be measured").format(count=len(rows)),
            fix=_("raise data.split.test, or add examples"),
        )

    def told(base: Base, adapter: Path | None, quantize: Quantize) -> Told:
        model = load_model(
            base,
            dtype=torch.float32,
            device=subject.device,
            adapter=adapter,
            quantize=quantize,
            storage=subject.storage,
            attention="eager",
        )
        logs = [log_probabilities(model, passage.ids, passage.places).numpy() for passage in passages]
        del model
        gc.collect()
        return told_by_torch(logs, passages)

    base = told(subject.base, None, "none")
    plain = told(subject.tuned, subject.adapter, "none")
    if subject.adapter is None or subject.quantize == "none":
        return Torch(passages, base, None, plain, None, "as they are")
    trained = told(subject.tuned, subject.adapter, subject.quantize)
    if subject.quantize == "nf4" and mean_loss(trained) < mean_loss(plain):
        return Torch(passages, base, trained, trained, plain, "nf4")
    return Torch(passages, base, trained, plain, trained if subject.quantize == "nf4" else None, "as they are")


def rungs_of_torch(torch_says: Torch, quantize: Quantize) -> list[Rung]:
    """The steps before there is a file."""
    rungs = [Rung("base", mean_loss(torch_says.base))]
    if torch_says.trained is not None:
        rungs.append(_beside(torch_says, f"adapter on {quantize}", torch_says.trained))
    if torch_says.other is not None:
        name = "merged into 16 bits" if torch_says.onto == "nf4" else "merged into nf4"
        rungs.append(_beside(torch_says, name, torch_says.other))
    rungs.append(_beside(torch_says, "merged", torch_says.merged))
    return rungs


def rung_of_file(
    torch_says: Torch, kind: str, file: Path, rounded_base: Path, vocabulary: int, *, resamples: int, seed: int
) -> Rung:
    """What llama.cpp says with the file, and with the base in the same type."""
    passages = torch_says.passages
    context = max(len(passage.ids) for passage in passages) + _SPOKEN
    with LlamaServer(rounded_base, context=context) as server:
        base = told_by_llama(server, passages, vocabulary)
    with LlamaServer(file, context=context) as server:
        tuned = told_by_llama(server, passages, vocabulary)
        speed = server.speed(passages[0].ids[: passages[0].places[0]], _SPOKEN)
    near = closeness(torch_says.merged, tuned)
    return Rung(
        step=kind,
        loss=mean_loss(tuned),
        base_loss=mean_loss(base),
        divergence=near.divergence,
        divergence_99=near.divergence_99,
        agreement=near.agreement,
        kept=kept_gain(torch_says.base, torch_says.merged, base, tuned, resamples=resamples, seed=seed),
        size_bytes=file.stat().st_size,
        tokens_per_second=speed,
    )


def _beside(torch_says: Torch, step: str, told: Told) -> Rung:
    near = closeness(torch_says.merged, told)
    return Rung(step, mean_loss(told), None, near.divergence, near.divergence_99, near.agreement)
