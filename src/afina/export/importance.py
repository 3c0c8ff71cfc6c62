"""An importance matrix from the training examples: how much an error in each column of a weight matrix would be felt.

What a layer is given tells it: a column that is multiplied by large numbers matters more. The measure is llama.cpp's, the mean
square of each input over all tokens; rounding then keeps the weighted error small instead of the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from afina.data.render import Row
from afina.export.tensor import TensorPlan
from afina.model.weights import Float32

TOKENS = 32_768  # more change little
LEAST = 0.01  # of the mean: a column that these examples never use may be needed by others


def importance_of(model: PreTrainedModel, rows: Sequence[Row], tensors: Sequence[TensorPlan]) -> dict[str, Float32]:
    """For each matrix in ``tensors`` that a layer of ``model`` multiplies by, under its name in the GGUF: (columns,) float32.

    ``rows`` are taken in their order until they have TOKENS tokens. Embedding and output have none, as in llama.cpp.
    """
    layers = {
        plan.name: plan.source.removesuffix(".weight")
        for plan in tensors
        if len(plan.shape) == 2 and plan.name.startswith("blk.")
    }
    with _collected(model, layers) as sums, torch.inference_mode():
        left = TOKENS
        for row in rows:
            ids = torch.tensor([row.ids], device=model.device)
            _decoder(model)(input_ids=ids, use_cache=False)
            left -= len(row.ids)
            if left <= 0:
                break
        tokens = TOKENS - left
        means = {name: total / tokens for name, total in sums.items()}
        return {name: mean.clamp(min=LEAST * mean.mean()).float().cpu().numpy() for name, mean in means.items()}


@contextmanager
def _collected(model: PreTrainedModel, layers: Mapping[str, str]) -> Iterator[dict[str, Tensor]]:
    """Sums of the squared inputs of each layer while the block runs, float64."""
    sums: dict[str, Tensor] = {}

    def listen(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].reshape(-1, inputs[0].shape[-1])  # (T, columns)
            total = x.double().square().sum(0)
            sums[name] = sums[name] + total if name in sums else total

        return hook

    handles = [model.get_submodule(layer).register_forward_pre_hook(listen(name)) for name, layer in layers.items()]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def _decoder(model: Any) -> Any:  # its accessor has no types
    return model.get_decoder()
