"""Attention on a CPU for many documents in one call of torch's fused kernel: those of about one length, padded to the longest.

No mask is needed: what is padded comes last, and causal attention does not look ahead. A row that begins with the shared tokens
gets a copy of them in front of its own. Where only the last tokens of a document ask, the others ask something that nobody reads.

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
    """``places`` and ``asking`` (P,): the token whose key, and the one whose query, stands at each padded place.

    ``asked`` (queries,) and ``seen`` (keys,): the padded place of each query, and of each key but those of copies; P where a key
    is at none. ``copies`` (documents, shared): the padded places of the copies of the shared tokens. ``longest`` in tokens.
    """

    groups: tuple[Group, ...]
    places: Tensor
    asking: Tensor
    asked: Tensor
    seen: Tensor
    copies: Tensor
    longest: int


def padding_of(documents: Sequence[Document], device: torch.device) -> Padding | None:
    """How to pad them; None where more would be in vain than the kernel is faster."""
    kept = [document for document in documents if document.queries[0] < document.queries[1]]
    if not kept:
        return None
    kept.sort(key=_length, reverse=True)
    members: list[list[Document]] = []
    for document in kept:
        longest = _length(members[-1][0]) if members else 0
        if not members or _length(document) < min(_NEAR * longest, longest - _FEW):
            members.append([])
        members[-1].append(document)
    done = sum(len(group) * _length(group[0]) ** 2 + _CALL for group in members)
    needed = sum(_length(document) ** 2 - _silent(document) ** 2 + _CALL for document in kept)
    if done > _WASTE * needed:
        return None
    groups: list[Group] = []
    places: list[int] = []
    asking: list[int] = []
    copies: list[range] = []
    asked = [0] * documents[-1].queries[1]
    seen = [-1] * documents[-1].keys[1]
    for group in members:
        start, length = len(places), _length(group[0])
        for document in group:
            own, silent = len(places) + document.shared, _silent(document)
            if document.shared:
                copies.append(range(len(places), own))
            for place, token in enumerate(range(*document.keys), own):
                seen[token] = place
            for place, query in enumerate(range(*document.queries), len(places) + silent):
                asked[query] = place
            more = length - _length(document)
            places += [*range(document.shared), *range(*document.keys), *[document.keys[0]] * more]
            asking += [*[document.queries[0]] * silent, *range(*document.queries), *[document.queries[0]] * more]
        groups.append(Group(start, len(places), len(group)))
    return Padding(
        tuple(groups),
        torch.tensor(places, device=device),
        torch.tensor(asking, device=device),
        torch.tensor(asked, device=device),
        torch.tensor([len(places) if place < 0 else place for place in seen], device=device),
        torch.tensor([list(copy) for copy in copies], dtype=torch.int64, device=device),
        _length(kept[0]),
    )


def _length(document: Document) -> int:
    """Of what its last query sees."""
    return document.shared + document.keys[1] - document.keys[0]


def _silent(document: Document) -> int:
    """How many of these do not ask."""
    return _length(document) - (document.queries[1] - document.queries[0])


class PaddedAttention(torch.autograd.Function):
    """``q`` (T, H, D), ``k`` and ``v`` (T, K, D) → (T, H, D). Nothing padded is kept for the backward pass but the logarithms.

    The kernel is given float32 whatever the type is: of short rows it is faster in it (with its backward pass, 3 of 132 tokens
    take 4.9 ms and not 7.8), and in bfloat16 it makes, and keeps, code for each new length.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, padding: Padding, scale: float) -> Tensor:
        padded = [_at(q, padding.asking), _at(k, padding.places), _at(v, padding.places)]
        result = torch.empty_like(padded[0])
        logarithms = []
        for group in padding.groups:
            out, logarithm = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                *(_heads_first(tensor, group) for tensor in padded), 0.0, True, scale=scale
            )
            _heads_first(result, group).copy_(out)
            logarithms.append(logarithm)
        result = result.index_select(0, padding.asked).to(q.dtype)
        ctx.save_for_backward(q, k, v, result, *logarithms)
        ctx.padding, ctx.scale = padding, scale
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *logarithms = ctx.saved_tensors
        padding: Padding = ctx.padding
        padded = [_at(q, padding.asking), _at(k, padding.places), _at(v, padding.places), _at(out, padding.asking)]
        d_out = torch.zeros_like(padded[0])  # all that nobody reads has none
        d_out.index_copy_(0, padding.asked, grads[0].to(d_out.dtype))
        found = [tensor.new_empty(len(tensor) + 1, *tensor.shape[1:]) for tensor in padded[:3]]
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
        dq = found[0].index_select(0, padding.asked)
        for whole in found[1:]:
            whole[-1] = 0  # of a key that nobody sees
        dk, dv = (whole.index_select(0, padding.seen) for whole in found[1:])
        if padding.copies.numel():
            for whole, gradient in zip(found[1:], (dk, dv), strict=True):
                gradient[: padding.copies.shape[1]] += whole[padding.copies].sum(0)
        return dq.to(q.dtype), dk.to(q.dtype), dv.to(q.dtype), None, None


def _at(tensor: Tensor, places: Tensor) -> Tensor:
    """``tensor`` (T, H, D) at the padded ``places`` (P, H, D), in float32 or more."""
    return tensor.index_select(0, places).to(torch.promote_types(tensor.dtype, torch.float32))


def _heads_first(tensor: Tensor, group: Group) -> Tensor:
    """Of the padded ``tensor`` (P, H, D) the group's part, as a view (documents, H, length, D)."""
    part = tensor[group.start : group.stop]
    return part.view(group.count, -1, *part.shape[1:]).transpose(1, 2)
