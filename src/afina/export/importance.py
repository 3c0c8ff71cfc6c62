"""An importance matrix from the training examples: how much an error in each column of a weight matrix would be felt.

What a layer is given tells it: a column that is multiplied by large numbers matters more. The measure is llama.cpp's, the mean
square of each input over all tokens; rounding then keeps the weighted error small instead of the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from afina.data.render import Row
from afina.export.tensor import TensorPlan
from afina.model.streamed import StreamedModel
from afina.model.weights import Float32

TOKENS = 32_768  # more change little
LEAST = 0.01  # of the mean: a column that these examples never use may be needed by others


def importance_of(model: StreamedModel, rows: Sequence[Row], tensors: Sequence[TensorPlan]) -> dict[str, Float32]:
    """For each matrix in ``tensors`` that a layer of ``model`` multiplies by, under its name in the GGUF: (columns,) float32.

    ``rows`` are taken in their order until they have TOKENS tokens. Embedding and output have none, as in llama.cpp.
    """
    matrices = {
        plan.name: plan.source.removesuffix(".weight")
        for plan in tensors
        if len(plan.shape) == 2 and plan.name.startswith("blk.")
    }
    chosen = list(_first_tokens(rows))
    sums: dict[str, Tensor] = {}

    def watch(module: PreTrainedModel, layer: str) -> AbstractContextManager[None]:
        inside = {name: source for name, source in matrices.items() if source.startswith(f"{layer}.")}
        return _collected(module, inside, sums)

    model.states([row.ids for row in chosen], [()] * len(chosen), watch)
    tokens = sum(len(row.ids) for row in chosen)
    means = {name: total / tokens for name, total in sums.items()}
    return {name: mean.clamp(min=LEAST * mean.mean()).float().cpu().numpy() for name, mean in means.items()}


def _first_tokens(rows: Sequence[Row]) -> Iterator[Row]:
    left = TOKENS
    for row in rows:
        yield row
        left -= len(row.ids)
        if left <= 0:
            return


@contextmanager
def _collected(model: PreTrainedModel, layers: Mapping[str, str], sums: dict[str, Tensor]) -> Iterator[None]:
    """Adds up the squared inputs of each layer in ``sums`` while the block runs, float64."""

    def listen(name: str) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].reshape(-1, inputs[0].shape[-1])  # (T, columns)
            total = x.double().square().sum(0)
            sums[name] = sums[name] + total if name in sums else total

        return hook

    handles = [model.get_submodule(layer).register_forward_pre_hook(listen(name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
