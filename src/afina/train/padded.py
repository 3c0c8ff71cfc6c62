"""Attention on a CPU for many documents in one call of torch's fused kernel: those of about one length, padded to the longest.

No mask is needed: what is padded comes last, and causal attention does not look ahead. A row that begins with the shared tokens
gets a copy of them in front of its own.

    documents  ss  aaa  bbbbb        padded, one group    s s a a a · ·
               (s is shared)                              s s b b b b b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from afina.train.attention import Document

_NEAR = 0.8  # of the longest of its group: a shorter document begins a group of its own, unless it is
_FEW = 32  # tokens shorter or less
_WASTE = 1.5  # times the work that is needed, above which it is not worth it: the kernel is about twice as fast
_CALL = 128**2  # scores that take as long as a call


@dataclass(frozen=True)
class Group:
    """Rows ``start`` to ``stop`` of the padded tokens: ``count`` documents of the same length."""

    start: int
    stop: int
    count: int


@dataclass(frozen=True)
class Padding:
    """``places`` (P,): the token at each padded place. ``own`` (T,): the padded place at which each token asks its query.

    ``copies`` (documents, shared): the padded places of the copies of the shared tokens. ``longest`` in tokens.
    """

    groups: tuple[Group, ...]
    places: Tensor
    own: Tensor
    copies: Tensor
    longest: int


def padding_of(documents: Sequence[Document], device: torch.device) -> Padding | None:
    """How to pad them; None where not every token asks, or where more would be padding than the kernel is faster."""
    if not documents or any(document.queries != document.keys for document in documents):
        return None
    lengths = [document.shared + document.keys[1] - document.keys[0] for document in documents]
    order = sorted(range(len(documents)), key=lambda number: -lengths[number])
    members: list[list[int]] = []
    for number in order:
        longest = lengths[members[-1][0]] if members else 0
        if not members or lengths[number] < min(_NEAR * longest, longest - _FEW):
            members.append([])
        members[-1].append(number)
    done = sum(len(group) * lengths[group[0]] ** 2 + _CALL for group in members)
    needed = sum(length**2 - document.shared**2 + _CALL for length, document in zip(lengths, documents, strict=True))
    if done > _WASTE * needed:
        return None
    groups: list[Group] = []
    places: list[int] = []
    copies: list[range] = []
    own = [0] * documents[-1].queries[1]
    for group in members:
        start, length = len(places), lengths[group[0]]
        for number in group:
            document = documents[number]
            tokens = [*range(document.shared), *range(*document.keys)]
            first = len(places)
            if document.shared:
                copies.append(range(first, first + document.shared))
            for place, token in enumerate(range(*document.keys), first + document.shared):
                own[token] = place
            places += tokens + tokens[-1:] * (length - len(tokens))
        groups.append(Group(start, len(places), len(group)))
    return Padding(
        tuple(groups),
        torch.tensor(places, device=device),
        torch.tensor(own, device=device),
        torch.tensor([list(copy) for copy in copies], dtype=torch.int64, device=device),
        lengths[order[0]],
    )


class PaddedAttention(torch.autograd.Function):
    """``q`` (T, H, D), ``k`` and ``v`` (T, K, D) → (T, H, D). Nothing padded is kept for the backward pass but the logarithms."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, padding: Padding, scale: float) -> Tensor:
        padded = [tensor.index_select(0, padding.places) for tensor in (q, k, v)]
        result = torch.empty_like(padded[0])
        logarithms = []
        for group in padding.groups:
            out, logarithm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *(_heads_first(tensor, group) for tensor in padded), 0.0, True, scale=scale
            )
            _heads_first(result, group).copy_(out)
            logarithms.append(logarithm)
        result = result.index_select(0, padding.own)
        ctx.save_for_backward(q, k, v, result, *logarithms)
        ctx.padding, ctx.scale = padding, scale
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *logarithms = ctx.saved_tensors
        padding: Padding = ctx.padding
        padded = [tensor.index_select(0, padding.places) for tensor in (q, k, v, out)]
        d_out = torch.zeros_like(padded[0]).index_copy_(0, padding.own, grads[0])  # no query of a copy or of padding has one
        found = [torch.empty_like(tensor) for tensor in padded[:3]]
        for group, logarithm in zip(padding.groups, logarithms, strict=True):
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                _heads_first(d_out, group),
                *(_heads_first(tensor, group) for tensor in padded),
                logarithm,
                0.0,
                True,
                scale=ctx.scale,
            )
            for whole, part in zip(found, parts, strict=True):
                _heads_first(whole, group).copy_(part)
        dq, dk, dv = (tensor.index_select(0, padding.own) for tensor in found)
        if padding.copies.numel():
            for whole, gradient in ((found[1], dk), (found[2], dv)):
                gradient[: padding.copies.shape[1]] += whole[padding.copies].sum(0)
        return dq, dk, dv, None, None


def _heads_first(tensor: Tensor, group: Group) -> Tensor:
    """Of the padded ``tensor`` (P, H, D) the group's part, as a view (documents, H, length, D)."""
    part = tensor[group.start : group.stop]
    return part.view(group.count, -1, *part.shape[1:]).transpose(1, 2)
