"""LoRA (Hu et al., 2021): a frozen linear layer and, beside it, a low-rank update that is trained.

LoRA    y = W x + scale · B A x                            A (R, in) random, B (out, R) zero
PiSSA   y = W x + scale · (B A - B₀ A₀) x                  B₀ A₀ the R largest directions of W, where A and B start
DoRA    y = m / ‖W + scale · B A‖ · (W + scale · B A) x    m (out,) and the norm by rows; m starts as the norm

At step 0 each of them is the base. PiSSA (Meng et al., 2024) is often written with W - scale · B₀ A₀ as a new base; here the base
stays what it is, so that nothing is rounded, a quantized base does as well, and the saved adapter (of rank 2R) fits the original.
Dropout then thins out the whole difference, where PEFT thins out B A alone and so a part of the base.
DoRA is by Liu et al., 2024; its norm gets no gradient, as in PEFT.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from afina.core.errors import DataError, RecipeError
from afina.core.translation import _
from afina.model.adapter import AdapterFiles, by_pattern, matches, scale_of
from afina.model.frozen import AnyLinear, FrozenLinear, Kind, dense_weight, form, frozen_product
from afina.model.tensors import whole
from afina.recipe.recipe import Adapter


class LoRALinear(nn.Module):
    """``frozen`` plus the update; A, B and m are float32 whatever the computation's type is, so that small steps are not lost."""

    def __init__(self, frozen: AnyLinear, rank: int, scale: float, dropout: float = 0.0) -> None:
        super().__init__()
        device = next(frozen.parameters()).device
        self.frozen = frozen
        self.a = nn.Parameter(torch.empty(rank, frozen.in_features, dtype=torch.float32, device=device))
        self.b = nn.Parameter(torch.zeros(frozen.out_features, rank, dtype=torch.float32, device=device))
        self.magnitude: nn.Parameter | None = None  # DoRA's m
        self.start_a: Tensor | None  # PiSSA's A₀ and B₀
        self.start_b: Tensor | None
        self.register_buffer("start_a", None, persistent=False)
        self.register_buffer("start_b", None, persistent=False)
        self.scale = scale
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        dropped = F.dropout(x, self.dropout, self.training) if self.dropout and self.training else None
        if self.magnitude is not None:
            return self._with_magnitude(x, dropped, self.magnitude)
        return self._updated(x, dropped, self.frozen.bias)

    def factors(self) -> tuple[Tensor, Tensor]:
        """A and B of the update, whole, as the original base needs them: with PiSSA, of rank 2R."""
        a, b = whole(self.a), whole(self.b)
        if self.start_a is None or self.start_b is None:
            return a, b
        return torch.cat([a, self.start_a]), torch.cat([b, -self.start_b], dim=1)

    def has_learned(self) -> bool:
        """Whether B is no longer where it began."""
        b = whole(self.b)
        return not torch.equal(b, torch.zeros_like(b) if self.start_b is None else self.start_b)

    @torch.no_grad()
    def start_from_directions(self) -> None:
        """PiSSA: A and B start as the R largest directions of the weight, half of each one's size on either side."""
        left, sizes, right = torch.linalg.svd(self._dense(), full_matrices=False)
        roots = (sizes[: self.a.shape[0]] / self.scale).sqrt()
        self.a.copy_(roots[:, None] * right[: len(roots)])
        self.b.copy_(left[:, : len(roots)] * roots)
        self.start_a, self.start_b = self.a.detach().clone(), self.b.detach().clone()

    @torch.no_grad()
    def add_magnitude(self) -> None:
        """DoRA: from here on the rows' sizes are trained by themselves."""
        self.magnitude = nn.Parameter(self._row_norms())

    def _updated(self, x: Tensor, dropped: Tensor | None, bias: Tensor | None) -> Tensor:
        kind, shape, parts = form(self.frozen)
        y: Tensor = _Updated.apply(  # type: ignore[no-untyped-call]
            x, dropped, *self.factors(), self.scale, bias, kind, shape, *parts
        )
        return y

    def _with_magnitude(self, x: Tensor, dropped: Tensor | None, magnitude: Tensor) -> Tensor:
        """DoRA's product. As in PEFT, dropout is on what the adapter adds: W x itself is whole."""
        gain = (magnitude / self._row_norms()).to(x.dtype)  # (out,)
        y = gain * self._updated(x if dropped is None else dropped, None, None)
        if dropped is not None:
            y = y + frozen_product(self.frozen, x - dropped)
        return y if self.frozen.bias is None else y + self.frozen.bias

    @torch.no_grad()
    def _row_norms(self) -> Tensor:
        """‖W + scale · B A‖ of each row, float32."""
        a, b = self.factors()
        norms: Tensor = torch.linalg.vector_norm(torch.addmm(self._dense(), b, a, alpha=self.scale), dim=1)
        return norms

    def _dense(self) -> Tensor:
        """W (out, in) as float32."""
        return dense_weight(*form(self.frozen), after=self.a.detach())


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
        y.addmm_(low, b.to(x.dtype).t(), alpha=scale)
        ctx.scale, ctx.kind, ctx.shape, ctx.has_dropped = scale, kind, shape, dropped is not None
        ctx.save_for_backward(inner, low, a, b, *parts)
        return y.view(*x.shape[:-1], shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inner, low, a, b, *parts = ctx.saved_tensors
        needs_x, needs_dropped, needs_a, needs_b = ctx.needs_input_grad[:4]
        dy = _rows(grads[0])  # (N, out)
        dlow = dy @ b.to(dy.dtype)  # (N, R), without the scale
        da = _wide_product(dlow.t(), inner).mul_(ctx.scale) if needs_a else None
        db = _wide_product(dy.t(), low).mul_(ctx.scale) if needs_b else None
        dx = ddropped = None
        if needs_x:
            dx = dy @ dense_weight(ctx.kind, ctx.shape, parts, dy)  # (N, in)
            if not ctx.has_dropped:
                dx.addmm_(dlow, a.to(dy.dtype), alpha=ctx.scale)
            dx = dx.view(*grads[0].shape[:-1], ctx.shape[1])
        if needs_dropped:
            ddropped = (dlow @ a.to(dy.dtype)).mul_(ctx.scale).view(*grads[0].shape[:-1], ctx.shape[1])
        return dx, ddropped, da, db, None, None, None, None, *(None for _part in parts)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _wide_product(left: Tensor, right: Tensor) -> Tensor:
    """``left @ right`` in float32."""
    if left.is_cuda and left.dtype.itemsize < 4:
        return torch.mm(left, right, out_dtype=torch.float32)  # there the sums are, and need not be rounded first
    return (left @ right).float()


def add_lora(model: PreTrainedModel, adapter: Adapter, seed: int) -> None:
    """Puts a fresh adapter on ``model``'s linear layers and freezes all else. A is Kaiming-uniform, as in PEFT; ``seed`` decides
    it.
    """
    model.requires_grad_(False)
    names = target_names(model, adapter.targets)
    for setting, patterns in (("adapter.ranks", adapter.ranks), ("adapter.alphas", adapter.alphas)):
        _require_matches(setting, patterns, names)
    generator = torch.Generator().manual_seed(seed)
    for name in names:
        rank, alpha = by_pattern(adapter.ranks, name, adapter.rank), by_pattern(adapter.alphas, name, adapter.alpha)
        layer = _replace(
            model, name, LoRALinear(_linear(model, name), rank, scale_of(rank, alpha, adapter.rslora), adapter.dropout)
        )
        if adapter.init == "pissa":
            _require_directions(name, layer)
            layer.start_from_directions()
        else:
            _fill_evenly(layer.a, generator)
        if adapter.dora:
            layer.add_magnitude()


def put_lora(model: nn.Module, files: AdapterFiles) -> None:
    """Puts a saved adapter on ``model``, frozen. Raises DataError where one of its tensors fits no layer: an adapter that does
    nothing is a bug.
    """
    layers = dict(model.named_modules())
    with safe_open(files.weights_path, framework="pt") as tensors:
        _put_tensors(model, layers, files, tensors)
    model.requires_grad_(False)


def _put_tensors(model: nn.Module, layers: Mapping[str, nn.Module], files: AdapterFiles, tensors: Any) -> None:
    for weight_name, (a_name, b_name) in files.pairs.items():
        name = weight_name.removesuffix(".weight")
        if not isinstance(layers.get(name), AnyLinear):
            raise _of_another_base(files, _("there is no linear layer {name}").format(name=name))
        layer = _replace(model, name, LoRALinear(_linear(model, name), files.rank(weight_name), files.scale(weight_name)))
        saved = [(layer.a, a_name), (layer.b, b_name)]
        if weight_name in files.magnitudes:
            layer.add_magnitude()
            saved += [(layer.magnitude, files.magnitudes[weight_name])] if layer.magnitude is not None else []
        for parameter, tensor_name in saved:
            tensor = tensors.get_tensor(tensor_name)
            if parameter.shape != tensor.shape:
                raise _of_another_base(files, _("{name} has another shape").format(name=name))
            parameter.data.copy_(tensor)


def _of_another_base(files: AdapterFiles, reason: str) -> DataError:
    return DataError(
        _("the adapter {folder} belongs to another base: {reason}").format(folder=files.folder, reason=reason),
        fix=_("name the base that it was trained on ({base})").format(base=files.config.get("base_model_name_or_path")),
    )


def _fill_evenly(a: Tensor, generator: torch.Generator) -> None:
    """kaiming_uniform_(a=√5), whose bound is √(6 / ((1 + 5) · in)); drawn on the CPU, so that a GPU starts with the same."""
    bound = 1 / a.shape[1] ** 0.5
    with torch.no_grad():
        a.copy_(torch.rand(a.shape, generator=generator) * 2 * bound - bound)


def _require_matches(setting: str, patterns: Mapping[str, object], names: Sequence[str]) -> None:
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            known = sorted({name.rsplit(".", 1)[-1] for name in names})
            raise RecipeError(
                _("{setting}: no layer with an adapter matches {pattern!r}").format(setting=setting, pattern=pattern),
                fix=_("write the end of a layer's name, such as {example}; the last parts are: {known}").format(
                    example=names[0].removeprefix("model."), known=", ".join(known)
                ),
            )


def _require_directions(name: str, layer: LoRALinear) -> None:
    """PiSSA cannot start with more directions than the weight has."""
    most = min(layer.frozen.in_features, layer.frozen.out_features)
    if layer.a.shape[0] > most:
        raise RecipeError(
            _("adapter.init is pissa with rank {rank}, and {name} has only {most} directions").format(
                rank=layer.a.shape[0], name=name, most=most
            ),
            fix=_("--set adapter.rank={most} or less, or --set adapter.init=default").format(most=most),
        )


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
        if layer.magnitude is not None:
            found[f"{name}.lora_magnitude_vector"] = layer.magnitude
    return found


def adapter_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What ``save_adapter`` writes, by PEFT's names: ``trained_parameters``, but with PiSSA in the form that fits the original
    base.
    """
    found: dict[str, Tensor] = dict(trained_parameters(model))
    for name, layer in lora_layers(model):
        found[f"{name}.lora_A.weight"], found[f"{name}.lora_B.weight"] = layer.factors()
    return {name: whole(tensor.detach()) for name, tensor in found.items()}


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
            # What is there already stays: a dry run's weights have no data that torch could move.
            moved = dense if dense.weight.device == device else dense.to(device)
            setattr(owner, child, FrozenLinear(moved.weight, kind, moved.bias))


def _linear(model: nn.Module, name: str) -> AnyLinear:
    layer = model.get_submodule(name)
    if not isinstance(layer, AnyLinear):
        raise TypeError(f"{name} is a {type(layer).__name__}")
    return layer


def _replace(model: nn.Module, name: str, layer: LoRALinear) -> LoRALinear:
    parent, _dot, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
    return layer
