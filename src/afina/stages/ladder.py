"""The ladder of an export: what the held-out examples cost the base, the tuned model in torch, and each of its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from afina.core.errors import DataError, QualityError
from afina.core.translation import _
from afina.data.render import Row
from afina.export.ladder import (
    Told,
    choose_passages,
    closeness,
    kept_gain,
    mean_loss,
    told_by_llama,
    told_by_torch,
)
from afina.export.rungs import WITH_ADAPTER, Rung
from afina.infer.llama import LlamaServer
from afina.model.base import Base
from afina.model.streamed import OnLayer, Passage, StreamedModel, nothing
from afina.model.weights import Weights

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

    It is computed layer by layer, so that one layer at a time is in memory; ``folder``: where states are kept meanwhile.
    """

    base: Base
    tuned: Base
    adapter: Path | None
    quantize: Quantize
    device: torch.device
    folder: Path
    on_layer: OnLayer = nothing

    def base_model(self) -> StreamedModel:
        return StreamedModel(self.base, device=self.device, folder=self.folder, on_layer=self.on_layer)

    def model_of(self, weights: Weights) -> StreamedModel:
        """The tuned model by its weights alone."""
        return StreamedModel(self.tuned, device=self.device, folder=self.folder, weights=weights, on_layer=self.on_layer)

    def tuned_model(self, quantize: Quantize) -> StreamedModel:
        """The tuned model with the adapter beside weights in ``quantize``."""
        return StreamedModel(
            self.tuned,
            device=self.device,
            folder=self.folder,
            adapter=self.adapter,
            quantize=quantize,
            on_layer=self.on_layer,
        )


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

    def told(model: StreamedModel, *, keep: bool = True) -> Told:
        return told_by_torch((logs.numpy() for logs in model.log_probabilities(passages)), passages, keep=keep)

    base = told(subject.base_model(), keep=False)
    plain = told(subject.tuned_model("none"))
    if subject.adapter is None or subject.quantize == "none":
        return Torch(passages, base, None, plain, None, "as they are")
    trained = told(subject.tuned_model(subject.quantize))
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


def rung_of_adapter(torch_says: Torch, kind: str, rounded_base: Path, adapter: Path, vocabulary: int, allowed: float) -> Rung:
    """What llama.cpp says with the adapter's own file beside the base in the type ``kind``.

    Raises QualityError where that is further from torch's adapter beside the 16-bit base than ``allowed``, in nats a place.
    """
    passages = torch_says.passages
    with LlamaServer(rounded_base, context=max(len(passage.ids) for passage in passages) + 1, adapter=adapter) as server:
        told = told_by_llama(server, passages, vocabulary)
    wanted = torch_says.other if torch_says.onto == "nf4" and torch_says.other is not None else torch_says.merged
    found = closeness(wanted, told).divergence
    if found > allowed:
        raise QualityError(
            _("with {file} beside the base llama.cpp does not say what the trained model says: divergence {found:.2g}").format(
                file=adapter.name, found=found
            )
            + _("; at most {allowed:.2g} is rounding").format(allowed=allowed),
            fix=_("leave export.adapter_file out, and report it with the base's name"),
        )
    return replace(_beside(torch_says, kind + WITH_ADAPTER, told), size_bytes=adapter.stat().st_size)


def _beside(torch_says: Torch, step: str, told: Told) -> Rung:
    near = closeness(torch_says.merged, told)
    return Rung(step, mean_loss(told), None, near.divergence, near.divergence_99, near.agreement)
