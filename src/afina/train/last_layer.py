"""The last layer computed only where its result is used: at the places that predict a trained token.

The other places are needed there for their keys and values alone. They go through the layer first and leave it as soon as its
attention has those; then the used places go through all of it and see both:

    row          t0 t1 t2 t3 | t4 t5 t6       the first trained token is t5
    for keys     t0 t1 t2 t3
    for all                    t4 t5 t6       queries of 3 places, keys and values of 7
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from afina.train.attention import Document, Layout

_WORTH = 0.9  # of the places used: where there are more, it all goes through at once


@dataclass(frozen=True)
class Used:
    """``places`` (N,) of the tokens whose result is used, ascending; ``others`` (T − N,); ``documents`` with queries among
    ``places``."""

    places: Tensor
    others: Tensor
    documents: tuple[Document, ...]


def used_places(documents: Sequence[Document], inputs: Sequence[int], device: torch.device) -> Used | None:
    """From each document's first place that is in ``inputs`` to its end. None where that is nearly everything."""
    wanted = sorted(set(inputs))
    places: list[int] = []
    kept: list[Document] = []
    for document in documents:
        start, end = document.queries
        number = bisect_left(wanted, start)
        first = min(wanted[number], end) if number < len(wanted) else end
        kept.append(replace(document, queries=(len(places), len(places) + end - first)))
        places.extend(range(first, end))
    total = documents[-1].queries[1]
    if len(places) > _WORTH * total:
        return None
    chosen = set(places)
    others = [place for place in range(total) if place not in chosen]
    return Used(torch.tensor(places, device=device), torch.tensor(others, device=device), tuple(kept))


def prune_last_layer(layer: nn.Module) -> RemovableHandle:
    """From now on a decoder with ``layer`` at its end, called with ``used=Used(…)``, returns the hidden states of those places
    only.
    """
    return layer.register_forward_pre_hook(_only_used, with_kwargs=True)


class _KeysKnown(Exception):  # noqa: N818  # not an error: the way out of the layer
    """Thrown out of the layer by its attention."""


def _only_used(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    layout, used = kwargs.get("layout"), kwargs.get("used")
    if not isinstance(layout, Layout) or not isinstance(used, Used):
        return None
    hidden = args[0]
    tokens = hidden.shape[1]
    rest: list[tuple[Tensor, Tensor]] = []

    def leave(key: Tensor, value: Tensor) -> NoReturn:
        rest.append((key, value))
        raise _KeysKnown

    def join(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.empty(tokens, dtype=torch.int64, device=key.device)
        order[torch.cat([used.others, used.places])] = torch.arange(tokens, device=key.device)
        joined = [torch.cat(pair, dim=2).index_select(2, order) for pair in zip(rest[0], (key, value))]
        return joined[0], joined[1]

    others = {name: _at(value, used.others, tokens) for name, value in kwargs.items()} | {
        "layout": Layout((), hidden.device, leave)
    }
    with suppress(_KeysKnown):
        layer.forward(hidden.index_select(1, used.others), *args[1:], **others)
    here = {name: _at(value, used.places, tokens) for name, value in kwargs.items()}
    return (hidden.index_select(1, used.places), *args[1:]), here | {"layout": Layout(used.documents, hidden.device, join)}


def _at(value: Any, places: Tensor, tokens: int) -> Any:
    """What ``value`` is at ``places``: tensors (1, T, …) and tuples of them; all else is as it is."""
    if isinstance(value, tuple):
        return tuple(_at(part, places, tokens) for part in value)
    is_by_token = isinstance(value, Tensor) and value.dim() > 1 and value.shape[:2] == (1, tokens)
    return value.index_select(1, places) if is_by_token else value
