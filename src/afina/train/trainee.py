"""What is trained: the adapter on a frozen base, or all weights; and how the best of it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from afina.model.base import Base
from afina.model.full import require_same_names, save_full
from afina.model.lora import adapter_tensors, lora_layers, trained_parameters
from afina.model.peft import save_adapter
from afina.recipe.recipe import Adapter
from afina.train.ranks import ALONE, Ranks

ADAPTER, FULL = "adapter", "model"


@dataclass(frozen=True)
class Trainee:
    """``parameters``: float32, by the names under which they are kept; each is there once, tied ones too.

    ``publish`` brings their values into the model where it computes with copies of them. ``save`` writes what is trained into a
    training's folder, whole or not at all. ``has_learned``: whether it is no longer what it was at the start. All ranks call
    each of them together; the first one writes.
    """

    parameters: dict[str, nn.Parameter]
    publish: Callable[[], None]
    save: Callable[[Path], None]
    has_learned: Callable[[], bool]


def adapter_on(model: PreTrainedModel, adapter: Adapter, base_name: str, ranks: Ranks = ALONE) -> Trainee:
    """The LoRA adapter that is on ``model``."""
    parameters = trained_parameters(model)
    for parameter in parameters.values():
        parameter.requires_grad_(True)

    def save(folder: Path) -> None:
        tensors = adapter_tensors(model)
        if ranks.is_first:
            save_adapter(folder / ADAPTER, adapter, base_name, tensors)

    return Trainee(
        parameters,
        publish=lambda: None,
        save=save,
        has_learned=lambda: any(layer.has_learned() for _name, layer in lora_layers(model)),
    )


def whole_model(model: PreTrainedModel, base: Base, dtype: torch.dtype, ranks: Ranks = ALONE) -> Trainee:
    """All weights of ``model``, which is in float32. In a smaller ``dtype`` it computes from here on with rounded copies.

    The gradients of the copies are added up in float32, micro-batch after micro-batch, and small steps are not lost.
    """
    own = dict(model.named_parameters())
    require_same_names(own, base)
    model.requires_grad_(True)
    masters, publish = masters_of(own, dtype)

    def save(folder: Path) -> None:
        if ranks.is_first:
            save_full(folder / FULL, masters, base)

    before = _norms(masters)
    return Trainee(
        masters,
        publish,
        save,
        has_learned=lambda: _norms(masters) != before,
    )


def masters_of(own: Mapping[str, nn.Parameter], dtype: torch.dtype) -> tuple[dict[str, nn.Parameter], Callable[[], None]]:
    """What is trained in the place of ``own``, a model's float32 parameters that go over to ``dtype``; and what brings its values
    back into them. In float32 it is they themselves.
    """
    if dtype == torch.float32:
        return dict(own), lambda: None
    masters = {name: _master_of(parameter, dtype) for name, parameter in own.items()}

    @torch.no_grad()
    def publish() -> None:
        for name, master in masters.items():
            own[name].copy_(master)

    return masters, publish


def _norms(parameters: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(parameter.detach().norm(dtype=torch.float64)) for name, parameter in parameters.items()}


def _master_of(parameter: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
    """The parameter's float32 values; the parameter itself goes over to ``dtype`` and hands its gradients on."""
    master = nn.Parameter(parameter.detach().clone())
    parameter.data = parameter.data.to(dtype)

    parameter.register_post_accumulate_grad_hook(lambda copy: hand_on(copy, master))
    return master


def hand_on(copy: Tensor, master: Tensor) -> None:
    """Adds the gradient of ``copy`` to that of ``master``, in float32, and forgets it."""
    if copy.grad is not None:
        gradient = copy.grad.float()
        master.grad = gradient if master.grad is None else master.grad.add_(gradient)
        copy.grad = None
