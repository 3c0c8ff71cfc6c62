"""NEFTune (Jain et al., 2023): uniform noise on the embeddings while training, so that answers are learned less by heart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from afina.data.pack import Packed


class EmbeddingNoise:
    """Adds noise in ±strength / √(L · D) to a row of L tokens of width D, by a forward hook on the embeddings.

    It draws from torch's generator, which is seeded for each micro-batch: the noise is a function of (seed, step, micro-batch).
    Outside of ``on`` nothing is added.
    """

    def __init__(self, model: PreTrainedModel, strength: float) -> None:
        self._strength = strength
        self._batch: Packed | None = None
        if strength:
            model.get_input_embeddings().register_forward_hook(self._add)

    @contextmanager
    def on(self, batch: Packed) -> Iterator[None]:
        self._batch = batch
        try:
            yield
        finally:
            self._batch = None

    def _add(self, _module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
        if self._batch is None:
            return embedded
        width = embedded.shape[-1]
        sizes = [self._strength / ((stop - start) * width) ** 0.5 for start, stop in pairwise(self._batch.starts)]
        lengths = [stop - start for start, stop in pairwise(self._batch.starts)]
        bound = torch.tensor(sizes).repeat_interleave(torch.tensor(lengths)).to(embedded)  # (T,)
        bound = F.pad(bound, (0, embedded.shape[-2] - len(bound)))  # what fills a batch up gets none
        return embedded + bound[:, None] * (2 * torch.rand_like(embedded) - 1)
