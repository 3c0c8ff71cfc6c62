"""LoRA (Hu et al., 2021): a frozen linear layer and, beside it, a low-rank update that is trained.

y = W x + scale · B (A x)      A (R, in) random, B (out, R) zero: at step 0 the model is the base.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from afina.core.errors import DataError, RecipeError
from afina.core.translation import _
from afina.model.adapter import AdapterFiles, scale_of
from afina.model.frozen import AnyLinear, FrozenLinear, Kind, dense_weight, form
from afina.recipe.recipe import Adapter


class LoRALinear(nn.Module):
    """``frozen`` plus the update; A and B are float32 whatever the computation's type is, so that small steps are not lost."""

    def __init__(self, frozen: AnyLinear, rank: int, scale: float, dropout: float) -> None:
        super().__init__()
        device = next(frozen.parameters()).device
        self.frozen = frozen
        self.a = nn.Parameter(torch.empty(rank, frozen.in_features, dtype=torch.float32, device=device))
        self.b = nn.Parameter(torch.zeros(frozen.out_features, rank, dtype=torch.float32, device=device))
        self.scale = scale
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        kind, shape, parts = form(self.frozen)
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout and self.training else None
        y: Tensor = _Updated.apply(  # type: ignore[no-untyped-call]
            x, dropped, self.a, self.b, self.scale, self.frozen.bias, kind, shape, *parts
        )
        return y


class _Updated(torch.autograd.Function):
    """``x @ W.T + bias + scale · dropped @ A.T @ B.T``; ``dropped`` is x where it is None.

    Kept for the backward pass: what went into A, the R numbers a token that came out, and the parameters. W gets no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        a: Tensor,
        b: Tensor,
        scale: float,
        bias: Tensor | None,
        kind: Kind,
        shape: tuple[int, int],
        *parts: Tensor,
    ) -> Tensor:
        inner = _rows(x if dropped is None else dropped)  # (N, in)
        low = inner @ a.to(x.dtype).t()  # (N, R)
        weight = dense_weight(kind, shape, parts, x)
        y = _rows(x) @ weight.t() if bias is None else torch.addmm(bias, _rows(x), weight.t())  # (N, out)
        y.addmm_(low, (b * scale).to(x.dtype).t())
        ctx.scale, ctx.kind, ctx.shape, ctx.has_dropped = scale, kind, shape, dropped is not None
        ctx.save_for_backward(inner, low, a, b, *parts)
        return y.view(*x.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inner, low, a, b, *parts = ctx.saved_tensors
        needs_x, needs_dropped, needs_a, needs_b = ctx.needs_input_grad[:4]
        dy = _rows(grads[0])  # (N, out)
        dlow = dy @ (b * ctx.scale).to(dy.dtype)  # (N, R)
        da = (dlow.t() @ inner).float() if needs_a else None
        db = (dy.t() @ low).float() * ctx.scale if needs_b else None
        dx = ddropped = None
        if needs_x:
            dx = dy @ dense_weight(ctx.kind, ctx.shape, parts, dy)  # (N, in)
            if not ctx.has_dropped:
                dx.addmm_(dlow, a.to(dy.dtype))
            dx = dx.view(*grads[0].shape[:-1], ctx.shape[1])
        if needs_dropped:
            ddropped = (dlow @ a.to(dy.dtype)).view(*grads[0].shape[:-1], ctx.shape[1])
        return dx, ddropped, da, db, None, None, None, None, *(None for _part in parts)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def add_lora(model: PreTrainedModel, adapter: Adapter, seed: int) -> None:
    """Puts a fresh adapter on ``model``'s linear layers and freezes all else. A is Kaiming-uniform, as in PEFT; ``seed`` decides
    it.
    """
    model.requires_grad_(False)
    names = target_names(model, adapter.targets)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        layer = _replace(model, name, adapter.rank, scale_of(adapter.rank, adapter.alpha, adapter.rslora), adapter.dropout)
        bound = 1 / layer.a.shape[1] ** 0.5  # kaiming_uniform_(a=√5): √(6 / ((1 + 5) · in))
        values = torch.rand(layer.a.shape, generator=generator) * 2 * bound - bound
        with torch.no_grad():
            layer.a.copy_(values)


def put_lora(model: nn.Module, files: AdapterFiles) -> None:
    """Puts a saved adapter on ``model``. Raises DataError where one of its tensors fits no layer: an adapter that does nothing is
    a bug.
    """
    tensors = load_file(files.weights_path)
    layers = dict(model.named_modules())
    for weight_name, (a_name, b_name) in files.pairs.items():
        name = weight_name.removesuffix(".weight")
        if not isinstance(layers.get(name), AnyLinear):
            raise DataError(
                _("the adapter {folder} belongs to another base: there is no linear layer {name}").format(
                    folder=files.folder, name=name
                ),
                fix=_("name the base that it was trained on ({base})").format(base=files.config.get("base_model_name_or_path")),
            )
        layer = _replace(model, name, files.rank(weight_name), files.scale(weight_name), 0.0)
        if layer.a.shape != tensors[a_name].shape or layer.b.shape != tensors[b_name].shape:
            raise DataError(
                _("the adapter {folder} belongs to another base: {name} has another shape").format(
                    folder=files.folder, name=name
                ),
                fix=_("name the base that it was trained on ({base})").format(base=files.config.get("base_model_name_or_path")),
            )
        with torch.no_grad():
            layer.a.copy_(tensors[a_name])
            layer.b.copy_(tensors[b_name])
    model.requires_grad_(False)


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoRALinear]]:
    """Name in the base (``model.layers.0.self_attn.q_proj``) and layer, in the model's order."""
    for name, module in model.named_modules():
        if isinstance(module, LoRALinear):
            yield name, module


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What a training changes, in the model's order, by PEFT's names: ``model.layers.0.self_attn.q_proj.lora_A.weight``, …"""
    found = {}
    for name, layer in lora_layers(model):
        found[f"{name}.lora_A.weight"] = layer.a
        found[f"{name}.lora_B.weight"] = layer.b
    return found


def target_names(model: PreTrainedModel, targets: Sequence[str] | str) -> list[str]:
    """Names of the linear layers that ``targets`` means; all but the output layer for ``all-linear``."""
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, AnyLinear) and module is not head]
    if targets == "all-linear":
        return linear
    known = {name.rsplit(".", 1)[-1] for name in linear}
    if unknown := [target for target in targets if target not in known]:
        raise RecipeError(
            _("adapter.targets: the base has no linear layer named {names}").format(names=", ".join(unknown)),
            fix=_("write all-linear, or some of: {known}").format(known=", ".join(sorted(known))),
        )
    return [name for name in linear if name.rsplit(".", 1)[-1] in targets]


def quantize_linear(model: PreTrainedModel, kind: Kind, device: torch.device) -> None:
    """Replaces every linear layer but the output layer by its frozen form on ``device``, so that one dense weight at a time is
    there.
    """
    for name in target_names(model, "all-linear"):
        parent, _dot, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        dense = owner.get_submodule(child)
        if isinstance(dense, nn.Linear):
            dense.to(device)
            setattr(owner, child, FrozenLinear(dense.weight, kind, dense.bias))


def _replace(model: nn.Module, name: str, rank: int, scale: float, dropout: float) -> LoRALinear:
    parent, _dot, child = name.rpartition(".")
    owner = model.get_submodule(parent)
    frozen = owner.get_submodule(child)
    if not isinstance(frozen, AnyLinear):
        raise TypeError(f"{name} is a {type(frozen).__name__}")
    layer = LoRALinear(frozen, rank, scale, dropout)
    setattr(owner, child, layer)
    return layer
