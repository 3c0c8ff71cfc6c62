"""The loss: next-token cross-entropy, summed over the trained tokens, without ever holding the logits of a whole batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedModel

CHUNK_BYTES = 32 * 2**20  # logits held at once, in the type that is computed in: rows enough to keep a processor busy
# Of these so many in float32, while their gradient is made: on a CPU what stays in its last cache, on a GPU all; what else
# is there with them for a moment decides whether an 8B model fits on a card of 8 GiB.
TILE_BYTES = {"cpu": 4 * 2**20, "cuda": 64 * 2**20}

DRY_CHUNKS = 3  # as many are enough for a dry run: one chunk takes what the other does, and long rows have thousands


@dataclass(frozen=True)
class Head:
    """How a family makes logits of hidden states: ``scale · (h Wᵀ + bias)``, bent to within ± ``softcap``. ``weight`` (V, D)."""

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits (N, V), float32, of ``hidden`` (N, D)."""
        return self.finished(hidden @ self.weight.t())

    def finished(self, product: Tensor) -> Tensor:
        """The same of ``product``, h Wᵀ; in its place if that is float32."""
        logits = product.float()
        if self.bias is not None:
            logits += self.bias
        if self.scale != 1:
            logits *= self.scale
        return logits if self.softcap is None else torch.tanh(logits.div_(self.softcap)).mul_(self.softcap)


def head_of(model: PreTrainedModel) -> Head:
    """The output layer of ``model``, by the names that transformers' configurations have for its scale and its cap."""
    layer = model.get_output_embeddings()
    config = model.config.get_text_config().to_dict()
    scale = (config.get("logit_scale") or 1.0) / (config.get("logits_scaling") or 1.0)
    softcap = config.get("final_logit_softcapping") or config.get("logits_soft_cap")
    return Head(layer.weight, getattr(layer, "bias", None), scale, softcap)


def summed_loss(hidden: Tensor, head: Head, targets: Tensor) -> Tensor:
    """Sum of next-token cross-entropy, float32.

    ``hidden`` (N, D) the rows that predict a trained token; ``targets`` (N,) int64. A sum and not a mean: the step divides once
    by its trained tokens, so the result does not depend on how it was cut into micro-batches.
    """
    total: Tensor = _SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, head, targets
    )
    return total


def chunk_rows(rows: int, words: int, number_bytes: int) -> int:
    """How many of ``rows`` have their logits over so many words made at once: in chunks of equal size."""
    most = max(16, CHUNK_BYTES // (number_bytes * words))
    return math.ceil(rows / max(1, math.ceil(rows / most)))


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradients of ``hidden``, and of an output layer that is trained, are made in the forward pass, chunk by chunk, while
    the logits are there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head, targets: Tensor) -> Tensor:
        count, words = hidden.shape[0], weight.shape[0]
        rows = chunk_rows(count, words, hidden.element_size())
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        end = min(count, DRY_CHUNKS * rows) if isinstance(hidden, FakeTensor) else count
        for start in range(0, end, rows):
            part = hidden[start : start + rows]
            product = part @ weight.t()
            tile_rows = max(1, TILE_BYTES[hidden.device.type] // (4 * words))
            for tile, wanted in zip(product.split(tile_rows), targets[start : start + rows].split(tile_rows), strict=True):
                logits = head.finished(tile)  # (rows, V)
                steepness = None if head.softcap is None else 1 - (logits / head.softcap) ** 2
                slope = logits.sub_(logits.amax(1, keepdim=True))  # all in the place of the logits: they are large
                of_wanted = slope.gather(1, wanted[:, None])
                sums = slope.exp_().sum(1, keepdim=True)
                total += (sums.log() - of_wanted).sum()
                if d_hidden is None:
                    continue
                slope /= sums  # softmax: d loss / d logits, but for the target's -1
                slope[torch.arange(len(wanted), device=slope.device), wanted] -= 1
                if steepness is not None:
                    slope *= steepness
                if head.scale != 1:
                    slope *= head.scale
                if d_bias is not None:
                    d_bias += slope.sum(0)
                tile.copy_(slope)
            if d_hidden is not None:
                d_hidden[start : start + rows] = product @ weight
            if d_weight is not None:
                d_weight += product.t() @ part
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        d_hidden, d_weight, d_bias = (
            None if part is None else (part * grads[0].to(part.dtype)).to(ctx.dtype) for part in ctx.saved_tensors
        )
        return d_hidden, d_weight, d_bias, None, None
