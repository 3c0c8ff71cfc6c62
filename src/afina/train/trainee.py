"""What is trained: the adapter on a frozen base, or all weights; and how the best of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from afina.model.adapter import save_adapter
from afina.model.base import Base
from afina.model.full import require_same_names, save_full
from afina.model.lora import lora_layers
from afina.recipe.recipe import Adapter

ADAPTER, FULL = "adapter", "model"


@dataclass(frozen=True)
class Trainee:
    """``parameters``: float32, by the names under which they are kept; each is there once, tied ones too.

    ``dtype`` is the type of the computation. ``save`` writes what is trained into a training's folder, whole or not at all.
    """

    parameters: dict[str, nn.Parameter]
    dtype: torch.dtype
    save: Callable[[Path], None]


def adapter_on(model: PreTrainedModel, adapter: Adapter, base_name: str) -> Trainee:
    """The LoRA adapter that is on ``model``."""
    layers = dict(lora_layers(model))
    parameters = {
        f"{name}.lora_{letter}.weight": parameter
        for name, layer in layers.items()
        for letter, parameter in (("A", layer.a), ("B", layer.b))
    }

    def save(folder: Path) -> None:
        save_adapter(folder / ADAPTER, adapter, base_name, {name: (layer.a, layer.b) for name, layer in layers.items()})

    return Trainee(parameters, model.dtype, save)


def whole_model(model: PreTrainedModel, base: Base, dtype: torch.dtype) -> Trainee:
    """All weights of ``model``, which is in float32; ``dtype``: in which it computes."""
    parameters = dict(model.named_parameters())
    require_same_names(parameters, base)
    return Trainee(parameters, dtype, lambda folder: save_full(folder / FULL, parameters, base))
