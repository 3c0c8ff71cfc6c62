"""The fused kernel is told the same documents as the plain loop sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from afina.data.pack import pack
from afina.train import attention
from afina.train.attention import Layout, documents_of
from afina.train.last_layer import used_places
from tests.fakes.training import made_up_rows


def unfused(q: Tensor, k: Tensor, v: Tensor, query_borders: Tensor, key_borders: Tensor, *most: int, **options: Any) -> Tensor:
    """What torch documents of ``varlen_attn``, by its attention for one row after the other."""
    assert options["enable_gqa"] == (q.shape[1] != k.shape[1])
    found = []
    for number in range(len(query_borders) - 1):
        queries = q[query_borders[number] : query_borders[number + 1]].transpose(0, 1)
        keys, values = (part[key_borders[number] : key_borders[number + 1]].transpose(0, 1) for part in (k, v))
        assert queries.shape[1] <= most[0]
        assert keys.shape[1] <= most[1]
        seen = torch.ones(queries.shape[1], keys.shape[1], dtype=torch.bool).tril(keys.shape[1] - queries.shape[1])
        found.append(
            torch.nn.functional.scaled_dot_product_attention(
                queries, keys, values, seen, scale=options["scale"], enable_gqa=True
            ).transpose(0, 1)
        )
    return torch.cat(found)


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("shared", [0, 20])
def test_the_fused_kernel_is_told_the_same_documents(shared: int, pruned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "varlen_attn", unfused)
    batch = pack(made_up_rows(6, shared=shared), share=bool(shared))
    documents, tokens = documents_of(batch), len(batch.ids)
    if pruned:
        used = used_places(documents, [place for place in batch.inputs if place % 7 == 0], torch.device("cpu"))
        assert used is not None
        documents = used.documents
    layout = Layout(documents, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(documents[-1].queries[1], 4, 8, generator=generator)
    k, v = (torch.randn(tokens, 2, 8, generator=generator) for _each in "kv")
    ours = attention._Attention.apply(q, k, v, documents, 0.3, None, None)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(attention._flash(q, k, v, layout.lengths, 0.3, None), ours)
    assert layout.lengths is layout.lengths  # made once, not in every layer
