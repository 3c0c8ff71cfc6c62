"""What a training needs, estimated by arithmetic from the sizes of its base: no torch, no dry run, a moment instead of seconds.

Beside ``plan.py``: within a tenth for bases of 7 to 9 billion weights, and for those of a few megabytes up to a third above it
(``tests/train/test_estimate.py`` holds the two together). The base is taken for a decoder with a gated MLP.

    a layer's matrices   q, o: D · H·d    k, v: D · K·d    gate, up, down: D · I
    kept of a token      6 D + 2 H·d + 2 K·d + 4 I numbers a layer, or D alone where layers are computed again
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from afina.core.units import MIB
from afina.recipe.recipe import Adapter, Train
from afina.train.cards import CUDA_CONTEXT
from afina.train.sizes import Rows

# Share of the tensors' peak that allocators keep beside them: on the CPU as bench/plan.py measures it with glibc and
# core/environment.py (16 to 30 %, up to 76 % for models of a few megabytes), on CUDA modelled.
ALLOCATOR = MappingProxyType({"cpu": 0.24, "cuda": 0.03})
# Tokens of a micro-batch: more gain nothing, fewer cost speed.
_MOST_TOKENS = MappingProxyType({"cpu": (1024, 4096), "cuda": (16384, 16384)})  # of wide models, and of narrow ones
_MOST_NUMBERS = 2**19  # tokens by width, of a narrow one: 256 wide, 2,048 tokens at once are trained 13 % faster than 1,024
_EVEN = 256  # a number of tokens is a multiple of it
FEWEST_TOKENS = MappingProxyType({"cpu": 256, "cuda": 1024})

# Python with torch and transformers, measured; CUDA's own.
PROGRAM_BYTES = MappingProxyType({"cpu": 480 * MIB, "cuda": CUDA_CONTEXT})
_LOSS = MappingProxyType({"cpu": 36 * MIB, "cuda": 96 * MIB})  # a chunk of logits and a tile in float32, see loss.py
_QUANTIZED = MappingProxyType({"nf4": 0.53, "int8": 1.02})  # bytes of a weight with its scales
_FULL_BYTES = 16  # a trained weight in float32, its gradient and two moments
_ADAPTER_BYTES = 16

Kind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Decoder:
    """The sizes of a decoder: ``width`` D, ``heads`` H·d, ``shared`` K·d (keys and values), ``inner`` I, ``words`` V."""

    layers: int
    width: int
    heads: int
    shared: int
    inner: int
    words: int
    tied: bool
    in_bfloat16: bool  # in its files

    @property
    def layer_weights(self) -> int:
        return self.width * (2 * self.heads + 2 * self.shared + 3 * self.inner)

    @property
    def adapter_sides(self) -> dict[str, int]:
        """What a matrix takes in and gives out: an adapter has so many numbers for each rank."""
        query, key, inner = self.width + self.heads, self.width + self.shared, self.width + self.inner
        names = ("q_proj", "o_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")
        return dict(zip(names, (query, query, key, key, inner, inner, inner), strict=True))


@dataclass(frozen=True)
class Estimate:
    """``needed_bytes`` where nothing is computed again, ``least_bytes`` where all layers are; ``flops`` a token in the former."""

    needed_bytes: int
    least_bytes: int
    flops: int


def decoder_of(config: Mapping[str, Any]) -> Decoder | None:
    """The sizes in a config.json; None where it does not have them, as that of another kind of model."""
    of_text: Mapping[str, Any] = config.get("text_config") or config
    try:
        width, heads = int(of_text["hidden_size"]), int(of_text["num_attention_heads"])
        depth = int(of_text.get("head_dim") or width // heads)
        is_tied = of_text.get("tie_word_embeddings", "gemma" in str(of_text.get("model_type")))
        return Decoder(
            layers=int(of_text["num_hidden_layers"]),
            width=width,
            heads=heads * depth,
            shared=int(of_text.get("num_key_value_heads") or heads) * depth,
            inner=int(of_text["intermediate_size"]),
            words=int(of_text["vocab_size"]),
            tied=bool(is_tied),
            in_bfloat16="bfloat16" in (of_text.get("dtype"), of_text.get("torch_dtype")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def most_tokens(kind: Kind, width: int) -> int:
    """Of a micro-batch, for a model in which a token is ``width`` numbers."""
    wide, narrow = _MOST_TOKENS[kind]
    return min(narrow, max(wide, _MOST_NUMBERS // width // _EVEN * _EVEN))


def estimate(decoder: Decoder, adapter: Adapter, train: Train, rows: Rows, kind: Kind) -> Estimate:
    """What a step on ``rows`` needs on a CPU or a card."""
    number = _number_bytes(train, kind)
    fast = _micro_batch(rows, most_tokens(kind, decoder.width) if train.micro_tokens == "auto" else train.micro_tokens)
    small = _micro_batch(rows, FEWEST_TOKENS[kind] if train.micro_tokens == "auto" else train.micro_tokens)
    kept = 6 * decoder.width + 2 * decoder.heads + 2 * decoder.shared + 4 * decoder.inner  # numbers a token and layer
    needed = _weights(decoder, adapter, number) + fast * decoder.layers * kept * number
    stored = min(number, 2) if decoder.in_bfloat16 and adapter.method == "lora" else number
    least = _weights(decoder, adapter, stored) + small * (decoder.layers * decoder.width + kept) * number
    return Estimate(
        _with_the_rest(needed, decoder, rows, fast, kind),
        _with_the_rest(least, decoder, rows, small, kind),
        _flops(decoder, adapter, rows),
    )


def _number_bytes(train: Train, kind: Kind) -> int:
    if train.dtype == "auto":
        return 2 if kind == "cuda" else 4
    return 4 if train.dtype == "float32" else 2


def _micro_batch(rows: Rows, tokens: int) -> int:
    """The largest that can come up; a step ends with the row that fills it."""
    return max(rows.longest, min(tokens, rows.step + rows.longest))


def _weights(decoder: Decoder, adapter: Adapter, number: int) -> int:
    """Bytes of the base's weights and of all that is trained: weights, gradients, moments."""
    embedded = decoder.words * decoder.width * (1 if decoder.tied else 2)
    linear = decoder.layers * decoder.layer_weights
    if adapter.method == "full":
        return (linear + embedded) * (_FULL_BYTES + (number if number < 4 else 0))
    frozen = round(linear * _QUANTIZED.get(adapter.quantize, number)) + embedded * number
    return frozen + _adapter_numbers(decoder, adapter) * _ADAPTER_BYTES


def _adapter_numbers(decoder: Decoder, adapter: Adapter) -> int:
    """Of an adapter of one rank: the highest that any layer has. Of layers by other names all are taken."""
    sides = decoder.adapter_sides
    wanted = sides.keys() if adapter.targets == "all-linear" else adapter.targets
    named = [sides[name] for name in wanted if name in sides] or list(sides.values())
    return decoder.layers * sum(named) * max(adapter.rank, *adapter.ranks.values(), 0)


def _with_the_rest(tensors: int, decoder: Decoder, rows: Rows, tokens: int, kind: Kind) -> int:
    """With the logits, what allocators keep and the program itself."""
    logits = min(_LOSS[kind], round(6 * rows.trained_share * tokens) * decoder.words)
    return round((tensors + logits) * (1 + ALLOCATOR[kind])) + PROGRAM_BYTES[kind]


def _flops(decoder: Decoder, adapter: Adapter, rows: Rows) -> int:
    """Operations of a token, forward and backward: as much again for the inputs' gradients, and for those of what is trained."""
    linear = 2 * decoder.layers * decoder.layer_weights
    head = 2 * rows.trained_share * decoder.width * decoder.words
    attention = 2 * decoder.layers * decoder.heads * rows.longest  # 4 · H·d for each of half the tokens
    if adapter.method == "full":
        return round(3 * (linear + head) + 3.5 * attention)
    beside = 2 * _adapter_numbers(decoder, adapter)
    return round(2 * (linear + head) + 3 * beside + 3.5 * attention)
