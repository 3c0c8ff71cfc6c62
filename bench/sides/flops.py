"""Floating-point operations that a LoRA step needs, whoever makes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A Llama's dimensions; ``inner``: the MLP's width, ``kv``: that of the keys of all heads together."""

    layers: int
    width: int
    inner: int
    kv: int
    vocab: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        """From what config.json holds."""
        head = config["hidden_size"] // config["num_attention_heads"]
        return cls(
            config["num_hidden_layers"],
            config["hidden_size"],
            config["intermediate_size"],
            head * config["num_key_value_heads"],
            config["vocab_size"],
        )


def needed_flops(shape: Shape, rank: int, rows: Iterable[tuple[int, int]]) -> int:
    """For one step over ``rows`` of (tokens, trained tokens), LoRA of ``rank`` on all linear layers but the output layer.

    A product of (m, k) and (k, n) counts 2·m·k·n. Counted are the frozen weights forward and for the gradient of their input,
    the adapters with the gradients of A and B, the output layer at the trained tokens only, and attention's half that is not
    masked: 2 products forward, 4 backward. Not counted: padding, anything computed twice, elementwise work. (That no gradient is
    needed below the first adapter, and few rows in the last layer, would lower the count by about 2 % in 30 layers.)
    """
    layers, width, inner, kv = shape.layers, shape.width, shape.inner, shape.kv
    weights = layers * (2 * width * width + 2 * width * kv + 3 * width * inner)
    adapters = layers * rank * (2 * (width + width) + 2 * (width + kv) + 3 * (width + inner))
    total = 0
    for tokens, trained in rows:
        pairs = tokens * (tokens + 1) // 2
        total += (4 * weights + 6 * adapters) * tokens + 4 * shape.vocab * width * trained + 12 * layers * width * pairs
    return total
