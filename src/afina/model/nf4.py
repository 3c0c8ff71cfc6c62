"""Frozen weights in 4 bits: NF4 with double quantization, by bitsandbytes, as QLoRA (Dettmers et al., 2023) defines it.

A weight is kept as codes of 4 bits with one scale a block of 64, the scales themselves in 8 bits, and is decoded anew at each
use, forward and backward: about 4.13 bits a weight are held, and one dense weight at a time.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from afina.core.errors import ResourceError
from afina.core.translation import _

BLOCK = 64


def require_bitsandbytes() -> None:
    """Raises ResourceError, with the command that mends it, where the extra is not installed."""
    if find_spec("bitsandbytes") is None:
        raise ResourceError(
            _("adapter.quantize is nf4, which needs the package bitsandbytes"),
            fix='pip install "afina[qlora]"  (or --set adapter.quantize=none)',
        )


@cache
def _bitsandbytes() -> Any:
    """The functions of bitsandbytes, an extra. Its advice to install a kernel for 4-bit products is not for us: we use none."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return import_module("bitsandbytes.functional")


class NF4Linear(nn.Module):
    """A frozen linear layer whose weight (out, in) is kept as NF4. Equal to a linear layer with the decoded weight."""

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = dense.in_features, dense.out_features
        self.has_bias = dense.bias is not None  # nn.Linear declares a Tensor and holds None
        self.bias = dense.bias
        weight = dense.weight.detach().contiguous()
        codes, self.state = _bitsandbytes().quantize_4bit(weight, blocksize=BLOCK, compress_statistics=True, quant_type="nf4")
        self.codes: Tensor
        self.register_buffer("codes", codes, persistent=False)

    def decoded(self) -> Tensor:
        """The dense weight (out, in) in the number type that it was given in."""
        dense: Tensor = _bitsandbytes().dequantize_4bit(self.codes, self.state)
        return dense

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _Decoded.apply(x, self)  # type: ignore[no-untyped-call]
        return y + self.bias if self.has_bias else y


class _Decoded(torch.autograd.Function):
    """``x @ W.T`` that holds on to no dense W: the backward pass decodes it again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: NF4Linear) -> Tensor:
        ctx.layer = layer
        return x @ layer.decoded().to(x.dtype).t()  # (…, out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        (dy,) = grads
        return (dy @ ctx.layer.decoded().to(dy.dtype) if ctx.needs_input_grad[0] else None), None
