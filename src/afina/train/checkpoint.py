"""A training's state on disk, in one safetensors file: written whole or not at all, so that a killed run goes on where the last
one ended.

The noise of dropout is a function of (seed, step, micro-batch) and the order of rows one of (seed, epoch), so weights, moments
and counters are all there is to keep.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from afina.core.errors import DataError
from afina.core.files import write_atomic
from afina.core.translation import _


@dataclass(frozen=True)
class Counters:
    """Where the training stands after ``step`` steps. Losses are means a trained token; seconds are those of finished work."""

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    looks_without_gain: int = 0
    first_loss: float | None = None  # validation loss of the base
    trained_seconds: float = 0.0
    seen_tokens: int = 0


def save_checkpoint(
    path: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, counters: Counters
) -> None:
    tensors: dict[str, Tensor] = {}
    for name, parameter in trained.items():
        tensors[name] = parameter.detach().cpu()
        for moment, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{name}.{moment}"] = torch.as_tensor(value).detach().cpu()
    write_atomic(path, save(tensors, metadata={"counters": json.dumps(asdict(counters))}))


def load_checkpoint(path: Path, trained: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> Counters:
    """Puts the saved state into ``trained`` and ``optimizer`` and returns where it stands."""
    try:
        with safe_open(path, framework="pt") as file:
            counters = Counters(**json.loads(file.metadata()["counters"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise DataError(
            _("the checkpoint {path} cannot be read: {reason}").format(path=path, reason=error),
            fix=_("delete it and start the training anew"),
        ) from None
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(tensors[name])
            moments = {m: tensors[f"{name}.{m}"] for m in ("step", "exp_avg", "exp_avg_sq") if f"{name}.{m}" in tensors}
            if moments:
                # the step counter stays where the fused optimizer keeps it: beside the parameter
                optimizer.state[parameter] = {m: value.to(parameter.device).clone() for m, value in moments.items()}
    return counters
