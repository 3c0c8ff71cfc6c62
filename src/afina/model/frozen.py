"""Frozen linear layers whose weight is kept smaller than it is computed with, and made dense anew at each use.

kind    kept                                              bits a weight
dense   as it is in the file (bfloat16), or as computed   16 or 32
int8    one scale a row, the row's largest value / 127    8
nf4     see ``nf4.py``                                    4.13

One dense copy is there at a time: autograd keeps the parts, never the copy, and the backward pass decodes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from afina.model import nf4

_AT_ONCE = 2**18  # weights encoded at once

Kind = Literal["dense", "int8", "nf4"]


class FrozenLinear(nn.Module):
    """A linear layer that is never trained, its weight (out, in) kept in ``parts``. Equal to one with the decoded weight."""

    def __init__(self, weight: Tensor, kind: Kind, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.kind = kind
        self.parts = nn.ParameterList(nn.Parameter(part, requires_grad=False) for part in encode(weight.detach(), kind))
        self.bias: nn.Parameter | None = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return frozen_product(self, x, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, {self.kind}"


AnyLinear = nn.Linear | FrozenLinear


def form(layer: AnyLinear) -> tuple[Kind, tuple[int, int], tuple[Tensor, ...]]:
    """How ``layer``'s weight is kept: kind, shape (out, in) and parts."""
    shape = (layer.out_features, layer.in_features)
    if isinstance(layer, FrozenLinear):
        return layer.kind, shape, tuple(layer.parts)
    return "dense", shape, (layer.weight,)


def frozen_product(layer: AnyLinear, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ W.T + bias`` with ``layer``'s weight, of which autograd keeps the parts only."""
    kind, shape, parts = form(layer)
    y: Tensor = _Product.apply(x, bias, kind, shape, *parts)  # type: ignore[no-untyped-call]
    return y


def encode(weight: Tensor, kind: Kind) -> tuple[Tensor, ...]:
    """The parts that stand for ``weight`` (out, in)."""
    match kind:
        case "dense":
            return (weight,)
        case "int8":
            parts = [_encode_rows(rows) for rows in weight.split(max(1, _AT_ONCE // weight.shape[1]))]
            return torch.cat([codes for codes, _scales in parts]), torch.cat([scales for _codes, scales in parts])
        case "nf4":
            return nf4.encode(weight)


def _encode_rows(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes of some rows and their scales (rows, 1)."""
    values = rows.float()
    scales = values.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / 127
    return (values / scales).round_().to(torch.int8), scales


def decode(kind: Kind, shape: tuple[int, int], parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The dense weight (out, in) that ``parts`` stand for. The part itself where it is that already."""
    match kind:
        case "dense":
            return parts[0].to(dtype)
        case "int8":
            return (parts[0].to(torch.float32) * parts[1]).to(dtype)
        case "nf4":
            return nf4.decode(nf4.NF4(*parts), shape, dtype)


def dense_weight(kind: Kind, shape: tuple[int, int], parts: Sequence[Tensor], after: Tensor) -> Tensor:
    """``decode`` in the type of ``after``, and not before ``after`` is there.

    A compiler sees that forward and backward decode the same parts, and would keep the dense weight of every layer in between. So
    it is shown an operation that it cannot look into, and that needs something which the backward pass alone has. So is a dry
    run on fake tensors, which stand for those of another device.
    """
    if kind == "dense" and parts[0].dtype == after.dtype:
        return parts[0]
    if torch.compiler.is_compiling() or isinstance(after, FakeTensor):
        weight: Tensor = _decoded(kind, shape, parts, after)
        return weight
    return decode(kind, shape, parts, after.dtype)


@torch.library.custom_op("afina::decoded", mutates_args=())
def _decoded(kind: str, shape: Sequence[int], parts: Sequence[Tensor], after: Tensor) -> Tensor:
    rows, columns = shape
    return decode(kind, (rows, columns), parts, after.dtype)  # type: ignore[arg-type]  # an operator's words are plain strings


@_decoded.register_fake
def _decoded_shape(kind: str, shape: Sequence[int], parts: Sequence[Tensor], after: Tensor) -> Tensor:  # noqa: ARG001
    return after.new_empty(shape)


class _Product(torch.autograd.Function):
    """``x @ W.T + bias`` that holds on to no dense W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, kind: Kind, shape: tuple[int, int], *parts: Tensor) -> Tensor:
        ctx.kind, ctx.shape = kind, shape
        ctx.save_for_backward(*parts)
        return F.linear(x, dense_weight(kind, shape, parts, x), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        dx = dy @ dense_weight(ctx.kind, ctx.shape, ctx.saved_tensors, dy) if ctx.needs_input_grad[0] else None
        return dx, None, None, None, *(None for _part in ctx.saved_tensors)
