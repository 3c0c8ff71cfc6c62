"""The loss: next-token cross-entropy, summed over the trained tokens, without ever holding the logits of a whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from transformers import PreTrainedModel

# float32 logits held at once: on a CPU about what its last cache holds, on a GPU enough rows to keep it busy (128 of 128,000
# words); what else is there with them for a moment decides whether an 8B model fits on a card of 8 GiB
CHUNK_BYTES = {"cpu": 32 * 2**20, "cuda": 64 * 2**20}

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
        logits = (hidden @ self.weight.t()).float()
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


def chunk_rows(device: str, words: int) -> int:
    """How many rows' logits over so many words are held at once."""
    return max(16, CHUNK_BYTES[device] // (4 * words))


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradients of ``hidden``, and of an output layer that is trained, are made in the forward pass, chunk by chunk, while
    the logits are there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, head: Head, targets: Tensor) -> Tensor:
        rows = chunk_rows(hidden.device.type, weight.shape[0])
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        d_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and ctx.needs_input_grad[2] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        end = min(hidden.shape[0], DRY_CHUNKS * rows) if isinstance(hidden, FakeTensor) else hidden.shape[0]
        for start in range(0, end, rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows]
            logits = head.logits(part)  # (rows, V)
            steepness = None if head.softcap is None else 1 - (logits / head.softcap) ** 2
            slope = logits.sub_(logits.amax(1, keepdim=True))  # all in the place of the logits: they are the largest of tensors
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
            slope = slope.to(weight.dtype)
            d_hidden[start : start + rows] = slope @ weight
            if d_weight is not None:
                d_weight += slope.t() @ part
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None]:
        d_hidden, d_weight, d_bias = (
            None if part is None else (part * grads[0].to(part.dtype)).to(ctx.dtype) for part in ctx.saved_tensors
        )
        return d_hidden, d_weight, d_bias, None, None
