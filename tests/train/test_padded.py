"""Documents padded to the longest of their group: torch's kernel, called for many at once, says what it says for each alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from afina.train import attention
from afina.train.attention import Document, Layout
from afina.train.padded import EVEN, PaddedAttention, WeightedAttention, padding_of

CPU = torch.device("cpu")
SCALE = 0.3


def documents(lengths: Sequence[int], shared: int = 0) -> tuple[Document, ...]:
    """The shared part, if there is one, then rows of so many tokens of their own."""
    found = [Document((0, shared), (0, shared))] if shared else []
    start = shared
    for length in lengths:
        found.append(Document((start, start + length), (start, start + length), shared))
        start += length
    return tuple(found)


def one_by_one(q: Tensor, k: Tensor, v: Tensor, layout: Sequence[Document]) -> Tensor:
    """By torch, every document alone, with a mask where it sees shared tokens."""
    found = []
    for document in layout:
        own = slice(*document.keys)
        keys, values = (torch.cat([part[: document.shared], part[own]]).transpose(0, 1) for part in (k, v))
        queries = q[slice(*document.queries)].transpose(0, 1)
        seen = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril(keys.shape[1] - queries.shape[1])
        found.append(scaled_dot_product_attention(queries, keys, values, seen, scale=SCALE, enable_gqa=True).transpose(0, 1))
    return torch.cat(found)


def numbers(tokens: int, heads: int = 6, kv_heads: int = 2) -> list[Tensor]:
    """q, k, v and a gradient of the result, float64."""
    generator = torch.Generator().manual_seed(7)
    made = [torch.randn(tokens, count, 16, generator=generator, dtype=torch.float64) for count in (heads, kv_heads, kv_heads)]
    return [
        *(tensor.requires_grad_() for tensor in made),
        torch.randn(tokens, heads, 16, generator=generator, dtype=torch.float64),
    ]


def require_same(laid_out: Sequence[Document], q: Tensor, k: Tensor, v: Tensor, gradient: Tensor) -> None:
    """Values and gradients, padded and one by one."""
    wanted = one_by_one(q, k, v, laid_out)
    gradients = torch.autograd.grad(wanted, (q, k, v), gradient)
    for kind, even in ((PaddedAttention, 1), (WeightedAttention, 1), (WeightedAttention, EVEN)):
        ours: Tensor = kind.apply(q, k, v, padding_of(laid_out, CPU, even), SCALE)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(ours, wanted, rtol=1e-11, atol=1e-11)
        for mine, other in zip(torch.autograd.grad(ours, (q, k, v), gradient), gradients, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("lengths", "shared"),
    [([1], 0), ([70], 0), ([60, 60, 60], 0), ([200, 7, 190, 64, 1, 33], 0), ([90, 80, 12], 10), ([300, 5, 40, 250], 6), ([9], 3)],
    ids=str,
)
def test_values_and_gradients_are_those_of_each_document_alone(lengths: list[int], shared: int) -> None:
    laid_out = documents(lengths, shared)
    padding = padding_of(laid_out, CPU)
    assert padding is not None
    assert padding.longest == shared + max(lengths)
    q, k, v, gradient = numbers(shared + sum(lengths))
    require_same(laid_out, q, k, v, gradient)


def test_documents_of_about_the_same_length_are_one_group() -> None:
    padding = padding_of(documents([100, 20, 95, 81, 90, 30, 19]), CPU)
    assert padding is not None
    assert [(group.count, group.stop - group.start) for group in padding.groups] == [(4, 400), (3, 90)]


def last_ones(laid_out: Sequence[Document], counts: Sequence[int]) -> tuple[Document, ...]:
    """The same documents, of which so many tokens ask."""
    found, start = [], 0
    for document, count in zip(laid_out, counts, strict=True):
        found.append(Document((start, start + count), document.keys, document.shared))
        start += count
    return tuple(found)


@pytest.mark.parametrize("shared", [0, 12])
def test_where_only_the_last_tokens_ask(shared: int) -> None:
    """As in the last layer: also rows of which no token asks, and nobody of the shared part."""
    laid_out = documents([50, 44, 61, 9], shared)
    asking = last_ones(laid_out, [*([0] if shared else []), 30, 0, 44, 9])
    assert padding_of(asking, CPU) is not None
    _q, k, v, _gradient = numbers(shared + 164)
    q, _k, _v, gradient = numbers(83)
    require_same(asking, q, k, v, gradient)


def test_it_is_left_where_most_would_be_in_vain() -> None:
    laid_out = documents([500, 450])
    assert padding_of(laid_out, CPU) is not None
    assert padding_of(last_ones(laid_out, [20, 30]), CPU) is None
    assert padding_of(documents([10, 12, 9, 8, 10], shared=300), CPU) is None
    assert padding_of(last_ones(laid_out, [0, 0]), CPU) is None


def asked(layout: Layout, dtype: torch.dtype = torch.float64, **more: float | None) -> tuple[Tensor, bool]:
    """What transformers gets from us, and whether the documents were padded for it."""
    q, k, v, _gradient = numbers(layout.documents[-1].queries[1])
    heads_first = [tensor.transpose(0, 1)[None].to(dtype) for tensor in (q, k, v)]
    out, _weights = attention.packed_attention(torch.nn.Identity(), *heads_first, None, scaling=SCALE, layout=layout, **more)
    nodes = str(out.grad_fn.next_functions) + str(out.grad_fn)
    kind = WeightedAttention if dtype.itemsize < 4 else PaddedAttention
    return out[0], kind.__name__ in nodes


def test_a_window_or_a_cap_of_scores_is_computed_in_blocks() -> None:
    layout = Layout(documents([40, 60, 50]), CPU)
    plain, padded = asked(layout)
    assert padded
    wide, padded = asked(layout, sliding_window=60)
    assert padded
    assert torch.equal(plain, wide)
    narrow, padded = asked(layout, sliding_window=59)
    assert not padded
    torch.testing.assert_close(narrow[:99], plain[:99])
    assert not torch.equal(narrow[99], plain[99])
    capped, padded = asked(layout, softcap=1e6)
    assert not padded
    torch.testing.assert_close(capped, plain)


def test_bfloat16_is_about_as_near_as_torch_s_fused_attention_in_it() -> None:
    """Scores are float32; weights and their gradients are rounded, as torch's kernel for the CPU rounds them."""
    laid_out = documents([170, 90, 166])
    q, k, v, gradient = (tensor.detach().bfloat16() for tensor in numbers(426))
    exact = q.double().requires_grad_(), k.double().requires_grad_(), v.double().requires_grad_()
    rough = q.requires_grad_(), k.requires_grad_(), v.requires_grad_()
    ours: Tensor = WeightedAttention.apply(*rough, padding_of(laid_out, CPU, EVEN), SCALE)  # type: ignore[no-untyped-call]
    found_alone = []
    for document in laid_out:
        q, k, v = (tensor[slice(*document.keys)].transpose(0, 1)[None] for tensor in rough)
        alone = scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE, enable_gqa=True)
        found_alone.append(alone[0].transpose(0, 1))
    theirs = torch.cat(found_alone)
    wanted = one_by_one(*exact, laid_out)

    def off(part: Tensor, true: Tensor) -> float:
        return float((part.detach().double() - true.detach()).norm() / true.detach().norm())

    assert off(ours, wanted) < min(2**-8, 1.6 * off(theirs, wanted))
    found, others = (torch.autograd.grad(out, rough, gradient) for out in (ours, theirs))
    true = torch.autograd.grad(wanted, exact, gradient.double())
    assert all(part.dtype == torch.bfloat16 for part in found)
    for mine, other, right in zip(found, others, true, strict=True):
        assert off(mine, right) < min(2**-7, 1.6 * off(other, right))


def test_long_rows_in_bfloat16_are_computed_in_blocks() -> None:
    short, long = (Layout(documents([length, 30]), CPU) for length in (1024, 1025))
    assert asked(short, torch.bfloat16)[1]
    assert not asked(long, torch.bfloat16)[1]
    assert asked(long, torch.float32)[1]


def test_the_weights_that_are_kept_take_two_bytes_a_query_key_and_head() -> None:
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    laid_out = documents([256, 256])
    q, k, v, _gradient = (tensor.detach().bfloat16() for tensor in numbers(512))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        WeightedAttention.apply(q.requires_grad_(), k, v, padding_of(laid_out, CPU, EVEN), SCALE)  # type: ignore[no-untyped-call]
    numbers_kept = sum(tensor.numel() for tensor in kept) - q.numel() - k.numel() - v.numel()
    assert numbers_kept == 6 * 2 * (128 * 128 + 128 * 256)  # heads, rows, and two blocks of queries with the keys up to them
