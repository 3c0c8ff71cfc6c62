"""Attention in which the rows of a packed micro-batch cannot see each other, registered through transformers' public tables.

The borders come as ``cu_seq_lens_q``, the keyword that transformers' own padding-free attention uses: [0, end of row 1, …, T].
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "afina_packed"


def register() -> None:
    """Makes ``attn_implementation="afina_packed"`` known to transformers. Safe to repeat."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def packed_attention(
    module: nn.Module,  # noqa: ARG001  # transformers' signature
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    cu_seq_lens_q: Tensor | None = None,
    **_unused: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row. ``query`` (1, H, T, D), ``key`` and ``value`` (1, K, T, D) → (1, T, H, D)."""
    borders = [0, query.shape[2]] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    parts = [
        _causal(query[:, :, start:stop], key[:, :, start:stop], value[:, :, start:stop], scaling, sliding_window, softcap)
        for start, stop in pairwise(borders)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2), None


def _causal(q: Tensor, k: Tensor, v: Tensor, scaling: float | None, window: int | None, softcap: float | None) -> Tensor:
    length = q.shape[2]
    windowed = window is not None and length > window
    if softcap is None and not windowed:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    seen = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    if windowed and window is not None:
        seen = seen.triu(1 - window)  # a token sees itself and the window - 1 before it
    if softcap is None:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5 if scaling is None else scaling)  # (1, H, T, T)
    scores = softcap * torch.tanh(scores / softcap)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1, dtype=torch.float32).to(q.dtype)
    return weights @ v


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    """Packed attention makes its own mask."""
