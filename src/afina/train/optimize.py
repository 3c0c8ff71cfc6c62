"""What moves the weights: groups of parameters, the optimizer, the learning rate's course, the scale of a float16 loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.recipe.recipe import Train
from afina.train.muon import Muon

WSD_DECAY = 0.2  # share of the steps in which ``wsd`` comes down at the end (Hägele et al., 2024: 10 to 20 % suffice)


def learning_rate(step: int, total: int, settings: Train) -> float:
    """Rate of ``step`` (from 0): a straight rise over the warm-up, then the schedule's course.

    ``cosine`` and ``linear`` come down to zero at the end, ``constant`` stays, ``wsd`` stays and comes down along a line in the
    last fifth.
    """
    warmup = round(settings.warmup * total)
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    done = (step - warmup) / max(1, total - warmup)
    match settings.schedule:
        case "cosine":
            share = 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            share = 1 - done
        case "wsd":
            share = min(1.0, (total - step) / (WSD_DECAY * total))
        case _:  # constant
            share = 1.0
    return settings.learning_rate * share


def parameter_groups(model: PreTrainedModel, parameters: Mapping[str, nn.Parameter], settings: Train) -> list[dict[str, Any]]:
    """The parameters by what the optimizer does to them: ``weight_decay``, ``ratio``, the learning rate's factor, and
    ``is_matrix``, whether Muon moves them.

    What has one dimension (norms, biases, DoRA's magnitudes) and the embeddings are not pulled towards zero: zero is no neutral
    place for them. The ratio is ``lora_plus`` for the matrices B (Hayou et al., 2024), else 1. Rows of the embeddings and of the
    output layer stand each for a token and not for a direction: they are AdamW's as well.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    embeddings, head = (names.get(id(layer.weight)) for layer in (model.get_input_embeddings(), model.get_output_embeddings()))
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():  # by name: what is trained may be a copy of what the model computes with
        decay = settings.weight_decay if parameter.dim() > 1 and name != embeddings else 0.0
        ratio = settings.lora_plus if name.endswith("lora_B.weight") else 1.0
        is_matrix = parameter.dim() == 2 and name not in (embeddings, head)
        groups.setdefault((decay, ratio, is_matrix and settings.optimizer == "muon"), []).append(parameter)
    return [
        {"params": members, "weight_decay": decay, "ratio": ratio, "is_matrix": is_matrix}
        for (decay, ratio, is_matrix), members in groups.items()
    ]


def require_optimizer(settings: Train, device: torch.device) -> None:
    """Raises ResourceError, before anything is loaded, where the optimizer needs a device or a package that is not there."""
    if settings.optimizer in ("adamw", "muon"):
        return
    if device.type != "cuda":
        raise ResourceError(
            _("train.optimizer is {name}, which needs an NVIDIA GPU; the training is on {device}").format(
                name=settings.optimizer, device=device.type
            ),
            fix="--set train.optimizer=adamw",
        )
    if find_spec("bitsandbytes") is None:
        raise ResourceError(
            _("train.optimizer is {name}, which needs the package bitsandbytes").format(name=settings.optimizer),
            fix='pip install "afina[gpu]"  (or --set train.optimizer=adamw)',
        )


def build_optimizer(model: PreTrainedModel, parameters: Mapping[str, nn.Parameter], settings: Train) -> torch.optim.Optimizer:
    """Over the parameters' groups: torch's fused AdamW, bitsandbytes' with its moments in 8 bits, or Muon."""
    groups = parameter_groups(model, parameters, settings)
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    if settings.optimizer == "muon":
        return Muon(groups, lr=settings.learning_rate)
    kinds = {"adamw_8bit": "AdamW8bit", "paged_adamw_8bit": "PagedAdamW8bit"}
    kind = getattr(import_module("bitsandbytes.optim"), kinds[settings.optimizer])
    optimizer: torch.optim.Optimizer = kind(groups, lr=settings.learning_rate)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * group["ratio"]


def build_scaler(dtype: torch.dtype, device: torch.device) -> torch.amp.GradScaler:
    """Scales the loss in float16, whose small gradients would be zero; does nothing in other types."""
    return torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
