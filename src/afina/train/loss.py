"""The loss: next-token cross-entropy, summed over the trained tokens, without ever holding the logits of a whole batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK_BYTES = 64 * 2**20  # float32 logits held at once


def summed_loss(hidden: Tensor, head: Tensor, targets: Tensor, softcap: float | None = None) -> Tensor:
    """Sum of next-token cross-entropy, float32.

    ``hidden`` (N, D) the rows that predict a trained token; ``head`` (V, D); ``targets`` (N,) int64; ``softcap`` as in
    Gemma 2: logits are ``softcap · tanh(logits / softcap)``. A sum and not a mean: the step divides once by its trained tokens,
    so the result does not depend on how it was cut into micro-batches.
    """
    total: Tensor = _SummedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden, head, targets, softcap
    )
    return total


class _SummedCrossEntropy(torch.autograd.Function):
    """The gradients of ``hidden`` and of a head that is trained are made in the forward pass, chunk by chunk, while the logits
    are there.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
        rows = max(16, _CHUNK_BYTES // (4 * head.shape[0]))
        d_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        d_head = torch.zeros_like(head, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows]
            logits = (part @ head.t()).float()  # (rows, V)
            if softcap is not None:
                logits = softcap * torch.tanh(logits / softcap)
            log_sum = logits.logsumexp(1, keepdim=True)
            total += (log_sum - logits.gather(1, wanted[:, None])).sum()
            if d_hidden is None:
                continue
            slope = (logits - log_sum).exp_()  # softmax: d loss / d logits, but for the target's -1
            slope[torch.arange(len(wanted), device=slope.device), wanted] -= 1
            if softcap is not None:
                slope *= 1 - (logits / softcap) ** 2
            d_hidden[start : start + rows] = slope.to(head.dtype) @ head
            if d_head is not None:
                d_head += slope.to(part.dtype).t() @ part
        ctx.save_for_backward(d_hidden, d_head)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        d_hidden, d_head = (None if part is None else part * grads[0].to(part.dtype) for part in ctx.saved_tensors)
        return d_hidden, d_head, None, None
