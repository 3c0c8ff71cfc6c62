"""Attention in which the rows of a packed micro-batch cannot see each other, registered through transformers' public tables.

A document is a stretch of queries and the keys that they may see; its queries are the last ones of its keys, so that the causal
triangle lies in the lower right corner. A row that begins with the shared tokens sees those and its own:

    keys       s s a a b c c c        the shared part   s s ▸ s s
    documents  ─── ─── ─ ─────        the third row     c c c ▸ s s c c c
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from afina.data.pack import Packed
from afina.train.padded import EVEN, PaddedAttention, Padding, WeightedAttention, padding_of

NAME = "afina_packed"
BLOCK = 128  # queries whose scores are held at once
# Tokens of a row whose weights are kept for the backward pass, where numbers have 16 bits: 9 MB a layer for 9 heads.
_SHORT = 1024


@dataclass(frozen=True)
class Document:
    """``queries`` and ``keys``: from, to. Queries see the first ``shared`` keys of all, and their own up to themselves."""

    queries: tuple[int, int]
    keys: tuple[int, int]
    shared: int = 0


class Lengths(NamedTuple):
    """A layout as the fused kernel wants it: where each document's queries and keys begin and end, int32 (documents + 1,), the
    most that one of them has, and ``keys``, the places (N,) of all documents' keys one after the other; None where they lie so.
    """

    keys: Tensor | None
    query_borders: Tensor
    key_borders: Tensor
    most_queries: int
    most_keys: int


@dataclass(frozen=True)
class Layout:
    """How a micro-batch is laid out. ``take`` is how a layer that computes only a part hands its keys and values on."""

    documents: tuple[Document, ...]
    device: torch.device
    take: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    @cached_property
    def lengths(self) -> Lengths:
        """Made once for all layers: lists become tensors, for which a GPU has to wait."""
        queries = [document.queries[1] - document.queries[0] for document in self.documents]
        seen = [document.shared + document.keys[1] - document.keys[0] for document in self.documents]
        keys = None
        if any(document.shared for document in self.documents):
            places = [place for document in self.documents for place in (*range(document.shared), *range(*document.keys))]
            keys = torch.tensor(places, device=self.device)
        return Lengths(keys, self._borders(queries), self._borders(seen), max(queries), max(seen))

    @cached_property
    def padding(self) -> Padding | None:
        """The same for a CPU: how the documents are padded; None where they are better computed one after the other."""
        return padding_of(self.documents, self.device)

    @cached_property
    def even_padding(self) -> Padding | None:
        """That for numbers of 16 bits."""
        return padding_of(self.documents, self.device, EVEN)

    def _borders(self, lengths: Sequence[int]) -> Tensor:
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=self.device)


def documents_of(batch: Packed) -> tuple[Document, ...]:
    """The shared part, if there is one, then the rows; every token is a query."""
    shared = [Document((0, batch.shared), (0, batch.shared))] if batch.shared else []
    rows = [Document(borders, borders, batch.shared) for borders in pairwise(batch.starts)]
    return (*shared, *rows)


def register() -> None:
    """Makes ``attn_implementation="afina_packed"`` known to transformers. Safe to repeat."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001  # transformers' signature
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    layout: Layout | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document. ``query`` (1, H, T, D), ``key`` and ``value`` (1, K, T, D) → (1, T, H, D).

    Raises TypeError where the family does not hand ``layout`` on or asks for something that is not computed here.
    """
    if layout is None:
        raise TypeError(f"{type(module).__name__} does not hand the layout of packed rows to its attention")
    if unknown := [name for name in ("s_aux", "position_bias") if others.get(name) is not None]:
        raise TypeError(f"{type(module).__name__} asks its attention for {', '.join(unknown)}")
    if others.get("is_causal") is False:
        raise TypeError(f"{type(module).__name__} asks for attention that is not causal")
    if layout.take is not None:
        key, value = layout.take(key, value)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, H, D), (T, K, D)
    if q.is_cuda and q.dtype != torch.float32 and softcap is None:
        out = _flash(q, k, v, layout.lengths, scale, sliding_window)
    elif (padding := _padding(q, layout, sliding_window, softcap)) is not None:
        kind = WeightedAttention if q.dtype.itemsize < 4 else PaddedAttention
        out = kind.apply(q, k, v, padding, scale)  # type: ignore[no-untyped-call]
    else:
        out = _Attention.apply(q, k, v, layout.documents, scale, sliding_window, softcap)  # type: ignore[no-untyped-call]
    return out[None], None


def _padding(q: Tensor, layout: Layout, window: int | None, softcap: float | None) -> Padding | None:
    """How the documents are padded on a CPU, where no window and no cap cuts anything off."""
    if q.is_cuda or softcap is not None:
        return None
    short = q.dtype.itemsize < 4
    padding = layout.even_padding if short else layout.padding
    if padding is None or (short and padding.longest > _SHORT):
        return None
    return padding if window is None or window >= padding.longest else None


class _Attention(torch.autograd.Function):
    """A document after the other, a block of queries after the other; the weights are computed again in the backward pass.

    P = softmax(mask(scale · Q Kᵀ))   O = P V        dV = Pᵀ dO   dS = P ∘ (dO Vᵀ − Σ)   dQ = scale · dS K   dK = scale · dSᵀ Q
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        documents: Sequence[Document],
        scale: float,
        window: int | None,
        softcap: float | None,
    ) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.settings = (documents, scale, window, softcap)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)  # (T, H, D)
        for document in documents:
            keys, values = _seen(k, document), _seen(v, document)
            for block in _blocks(document, window):
                weights, _slope = _weights(_stacked(q, block, k.shape[1]) * scale, keys, block, window, softcap)
                _unstacked(out, block).copy_((weights @ values[:, block.first : block.stop]).view(_heads_first(q, k, block)))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_out,) = grads
        q, k, v = ctx.saved_tensors
        documents, scale, window, softcap = ctx.settings
        dq = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        dk, dv = (torch.zeros(k.shape, dtype=k.dtype, device=k.device) for _which in range(2))
        for document in documents:
            keys, values = _seen(k, document), _seen(v, document)  # (K, M, D)
            d_keys, d_values = torch.zeros_like(keys), torch.zeros_like(values)
            for block in _blocks(document, window):
                seen = slice(block.first, block.stop)
                queries, d_block = _stacked(q, block, k.shape[1]) * scale, _stacked(d_out, block, k.shape[1])
                weights, slope = _weights(queries, keys, block, window, softcap)
                d_values[:, seen].baddbmm_(weights.transpose(1, 2), d_block)
                d_weights = d_block @ values[:, seen].transpose(1, 2)
                d_scores = torch.ops.aten._softmax_backward_data(d_weights, weights, -1, weights.dtype)
                if slope is not None:
                    d_scores *= slope
                _unstacked(dq, block).copy_((d_scores @ keys[:, seen]).mul_(scale).view(_heads_first(q, k, block)))
                d_keys[:, seen].baddbmm_(d_scores.transpose(1, 2), queries)
            for whole, part in ((dk, d_keys), (dv, d_values)):
                places = part.transpose(0, 1)  # (M, K, D)
                whole[: document.shared] += places[: document.shared]
                whole[slice(*document.keys)] += places[document.shared :]
        return dq, dk, dv, None, None, None, None


@dataclass(frozen=True)
class _Block:
    """``queries`` from, to in the tensor of queries; ``at``: the place of the first among the document's keys, of which
    ``first`` up to ``stop`` can be seen by one of them."""

    queries: tuple[int, int]
    at: int
    first: int
    stop: int


def _blocks(document: Document, window: int | None) -> Iterator[_Block]:
    start, end = document.queries
    before = document.shared + document.keys[1] - document.keys[0] - (end - start)  # keys in front of the first query
    for place in range(start, end, BLOCK):
        stop = min(end, place + BLOCK)
        at = before + place - start
        first = 0 if window is None else max(0, at - window + 1)
        yield _Block((place, stop), at, first, at + stop - place)


def _weights(
    queries: Tensor, keys: Tensor, block: _Block, window: int | None, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Softmax of the scores (K, H/K · N, M), and how fast a score moves where it is capped."""
    scores = queries @ keys[:, block.first : block.stop].transpose(1, 2)
    slope = None
    if softcap is not None:
        bent = torch.tanh(scores / softcap)
        slope = 1 - bent * bent
        scores = softcap * bent
    count = block.stop - block.at
    by_query = scores.view(scores.shape[0], -1, count, scores.shape[2])  # (K, H/K, N, M)
    later = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu(1)
    by_query[..., block.at - block.first :].masked_fill_(later, float("-inf"))
    if window is not None:
        too_early = torch.ones(by_query.shape[2:], dtype=torch.bool, device=scores.device).tril(block.at - block.first - window)
        by_query.masked_fill_(too_early, float("-inf"))
    return scores.softmax(-1), slope


def _seen(tensor: Tensor, document: Document) -> Tensor:
    """The document's keys or values, (K, M, D)."""
    own = tensor[slice(*document.keys)]
    return (torch.cat([tensor[: document.shared], own]) if document.shared else own).transpose(0, 1)


def _stacked(tensor: Tensor, block: _Block, kv_heads: int) -> Tensor:
    """The block's queries (T, H, D) with the heads of a key-value head one below the other: (K, H/K · N, D)."""
    part = tensor[slice(*block.queries)]  # (N, H, D)
    return part.transpose(0, 1).reshape(kv_heads, -1, part.shape[2])


def _unstacked(tensor: Tensor, block: _Block) -> Tensor:
    """The block's place in ``tensor`` (T, H, D), heads first: (H, N, D)."""
    return tensor[slice(*block.queries)].transpose(0, 1)


def _heads_first(q: Tensor, k: Tensor, block: _Block) -> tuple[int, int, int]:
    return q.shape[1], block.queries[1] - block.queries[0], k.shape[2]


def _flash(q: Tensor, k: Tensor, v: Tensor, lengths: Lengths, scale: float, window: int | None) -> Tensor:
    """The same by torch's fused kernel for rows of different lengths."""
    if lengths.keys is not None:
        k, v = k.index_select(0, lengths.keys), v.index_select(0, lengths.keys)
    out = varlen_attn(
        q.contiguous(),
        k.contiguous(),
        v.contiguous(),
        lengths.query_borders,
        lengths.key_borders,
        lengths.most_queries,
        lengths.most_keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=q.shape[1] != k.shape[1],
    )
    assert isinstance(out, Tensor)  # a pair only with return_aux
    return out


def _no_mask(*_args: Any, **_kwargs: Any) -> None:
    """Packed attention makes its own mask."""
