"""Attention on a CPU for many documents in one call: those of about one length, padded to the longest. In float32 torch's fused
kernel computes it, in numbers of 16 bits matrix products do, which are twice as fast in them.

No padding is masked: it comes last, and causal attention does not look ahead. A row that begins with the shared tokens
gets a copy of them in front of its own. Where only the last tokens of a document ask, the others ask something that nobody reads.

    documents  ss  aaa  bbbbb        padded, one group    s s a a a · ·
               (s is shared)                              s s b b b b b
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
EVEN = 32  # tokens: lengths are multiples of it in 16 bits, for each other one is code that oneDNN has to make
_EXACT = 512  # tokens of a document whose scores are float32, which costs twice the time
_BLOCK = 128  # queries whose weights are made at once


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


def padding_of(documents: Sequence[Document], device: torch.device, even: int = 1) -> Padding | None:
    """How to pad them, to multiples of ``even``; None where more would be in vain than the kernel is faster."""
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
        start, length = len(places), -(-_length(group[0]) // even) * even
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
    """``q`` (T, H, D), ``k`` and ``v`` (T, K, D) → (T, H, D), by torch's kernel in float32. Nothing padded is kept for the
    backward pass but the logarithms.
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
        result = result.index_select(0, padding.asked)
        ctx.save_for_backward(q, k, v, result, *logarithms)
        ctx.padding, ctx.scale = padding, scale
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, *logarithms = ctx.saved_tensors
        padding: Padding = ctx.padding
        padded = [_at(q, padding.asking), _at(k, padding.places), _at(v, padding.places), _at(out, padding.asking)]
        d_out = _unread(grads[0], padding)
        found = _room(padded[:3])
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
        return *_gathered(found, padding), None, None


class WeightedAttention(torch.autograd.Function):
    """The same in 16 bits by matrix products. The scores of all but long documents are float32; the weights, rounded, are kept
    for the backward pass: for each query and head one for every key before it, 2 bytes each.

    P = softmax(mask(scale · Q Kᵀ))   O = P V        dV = Pᵀ dO   dS = P ∘ (dO Vᵀ − Σ)   dQ = scale · dS K   dK = scale · dSᵀ Q
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, padding: Padding, scale: float) -> Tensor:
        heads, shared_by = k.shape[1], q.shape[1] // k.shape[1]
        padded = [q.index_select(0, padding.asking), k.index_select(0, padding.places), v.index_select(0, padding.places)]
        result, wide = torch.empty_like(padded[0]), torch.promote_types(q.dtype, torch.float32)
        later = torch.ones(_BLOCK, _BLOCK, dtype=torch.bool).triu(1).repeat_interleave(shared_by, 0)  # than a query is a key
        kept = []
        for group in padding.groups:
            queries, keys, values = (_by_head(tensor, group, heads) for tensor in padded)
            of_scores = wide if (group.stop - group.start) // group.count <= _EXACT else q.dtype
            wide_queries, wide_keys = queries.to(of_scores) * scale, keys.to(of_scores)
            out = torch.empty_like(queries)
            for start, stop in _blocks(group):
                asking = slice(start * shared_by, stop * shared_by)
                scores = torch.bmm(wide_queries[:, asking], wide_keys[:, :stop].transpose(1, 2))
                scores[:, :, start:].masked_fill_(later[: (stop - start) * shared_by, : stop - start], float("-inf"))
                weights = scores.softmax(-1).to(q.dtype)
                out[:, asking] = torch.bmm(weights, values[:, :stop])
                kept.append(weights)
            _put_back(result, group, out, heads)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.padding, ctx.scale = padding, scale
        return result.index_select(0, padding.asked)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        padding: Padding = ctx.padding
        heads, shared_by = k.shape[1], q.shape[1] // k.shape[1]
        padded = [q.index_select(0, padding.asking), k.index_select(0, padding.places), v.index_select(0, padding.places)]
        d_padded = _unread(grads[0], padding)
        found = _room(padded)
        kept_weights = iter(kept)
        for group in padding.groups:
            queries, keys, values = (_by_head(tensor, group, heads) for tensor in padded)
            d_out = _by_head(d_padded, group, heads)
            d_queries, d_keys, d_values = torch.empty_like(queries), torch.zeros_like(keys), torch.zeros_like(values)
            for start, stop in _blocks(group):
                asking = slice(start * shared_by, stop * shared_by)
                weights, d_block = next(kept_weights), d_out[:, asking]
                d_values[:, :stop].baddbmm_(weights.transpose(1, 2), d_block)
                d_weights = torch.bmm(d_block, values[:, :stop].transpose(1, 2))
                d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                d_queries[:, asking] = torch.bmm(d_scores, keys[:, :stop])
                d_keys[:, :stop].baddbmm_(d_scores.transpose(1, 2), queries[:, asking])
            parts = (d_queries.mul_(ctx.scale), d_keys.mul_(ctx.scale), d_values)
            for whole, part in zip(found, parts, strict=True):
                _put_back(whole, group, part, heads)
        return *_gathered(found, padding), None, None


def _blocks(group: Group) -> Iterator[tuple[int, int]]:
    """Places from, to of the queries of a group's documents that are worked on at once."""
    length = (group.stop - group.start) // group.count
    for start in range(0, length, _BLOCK):
        yield start, min(length, start + _BLOCK)


def _by_head(tensor: Tensor, group: Group, heads: int) -> Tensor:
    """Of the padded ``tensor`` (P, H, D) the group's part, (documents · K, length · H/K, D): a place's heads side by side."""
    part = tensor[group.start : group.stop]
    split = part.view(group.count, -1, heads, part.shape[1] // heads, part.shape[2])
    return split.transpose(1, 2).reshape(group.count * heads, -1, part.shape[2])


def _put_back(whole: Tensor, group: Group, part: Tensor, heads: int) -> None:
    """The opposite: writes ``part`` to the group's places in ``whole``."""
    places = whole[group.start : group.stop].view(group.count, -1, heads, whole.shape[1] // heads, whole.shape[2])
    places.transpose(1, 2).copy_(part.view(group.count, heads, places.shape[1], *places.shape[3:]))


def _unread(d_out: Tensor, padding: Padding) -> Tensor:
    """The result's gradient at the padded places, in the type it is computed in; all that nobody reads has none."""
    dtype = d_out.dtype if d_out.dtype.itemsize < 4 else torch.promote_types(d_out.dtype, torch.float32)
    padded = torch.zeros(len(padding.places), *d_out.shape[1:], dtype=dtype, device=d_out.device)
    return padded.index_copy_(0, padding.asked, d_out)


def _room(padded: Sequence[Tensor]) -> list[Tensor]:
    """For the gradients of each, and one more for a key that nobody sees."""
    return [tensor.new_empty(len(tensor) + 1, *tensor.shape[1:]) for tensor in padded]


def _gathered(found: Sequence[Tensor], padding: Padding) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values from those at their padded places."""
    d_queries = found[0].index_select(0, padding.asked)
    for whole in found[1:]:
        whole[-1] = 0  # of a key that nobody sees
    d_keys, d_values = (whole.index_select(0, padding.seen) for whole in found[1:])
    if padding.copies.numel():
        for whole, gradient in zip(found[1:], (d_keys, d_values), strict=True):
            gradient[: padding.copies.shape[1]] += whole[padding.copies].sum(0)
    return d_queries, d_keys, d_values


def _at(tensor: Tensor, places: Tensor) -> Tensor:
    """``tensor`` (T, H, D) at the padded ``places`` (P, H, D), in float32 or more."""
    return tensor.index_select(0, places).to(torch.promote_types(tensor.dtype, torch.float32))


def _heads_first(tensor: Tensor, group: Group) -> Tensor:
    """Of the padded ``tensor`` (P, H, D) the group's part, as a view (documents, H, length, D)."""
    part = tensor[group.start : group.stop]
    return part.view(group.count, -1, *part.shape[1:]).transpose(1, 2)
