"""Which number type each tensor of a file gets: llama.cpp's rules for the eight shapes of file that afina makes.

A type such as Q4_K_M is a mixture. Most matrices get four bits a number; those that hurt most when they are rounded (values and
down-projections, in the first and last eighth of the layers and every third between them, and the output) get five or six.
Source: ``llama_tensor_get_type`` in llama.cpp's ``src/llama-quant.cpp``; ``tests/export/test_quantize.py`` compares whole files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import gguf
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType

from afina.recipe.kinds import Kind

# Of most matrices, and the number by which llama.cpp calls such a file.
_MOST: dict[Kind, tuple[Type, LlamaFileType]] = {
    "f32": (Type.F32, LlamaFileType.ALL_F32),
    "f16": (Type.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (Type.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (Type.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": (Type.Q6_K, LlamaFileType.MOSTLY_Q6_K),
    "q5_k_m": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_M),
    "q5_k_s": (Type.Q5_K, LlamaFileType.MOSTLY_Q5_K_S),
    "q4_k_m": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_M),
    "q4_k_s": (Type.Q4_K, LlamaFileType.MOSTLY_Q4_K_S),
    "q3_k_m": (Type.Q3_K, LlamaFileType.MOSTLY_Q3_K_M),
    "iq4_xs": (Type.IQ4_XS, LlamaFileType.MOSTLY_IQ4_XS),
}
# Of a row that is no multiple of the type's block; F16 where it is no multiple of this one's either.
_OTHERWISE = {
    Type.Q3_K: Type.Q4_0,
    Type.IQ4_XS: Type.IQ4_NL,
    Type.Q4_K: Type.Q5_0,
    Type.Q5_K: Type.Q5_1,
    Type.Q6_K: Type.Q8_0,
}


@dataclass(frozen=True)
class ModelFacts:
    """What the rules look at besides the tensor. ``has_output``: it is not the embedding; ``gqa``: heads that share a key;
    ``is_70b``: what llama.cpp takes for one of 70 billion parameters.
    """

    layers: int
    has_output: bool
    gqa: int
    is_70b: bool = False


def file_type(kind: Kind) -> LlamaFileType:
    return _MOST[kind][1]


def type_of(name: str, shape: tuple[int, ...], kind: Kind, model: ModelFacts, *, weighted: bool = False) -> Type:
    """The type of the GGUF's tensor ``name`` (rows, …, columns); ``weighted``: quantized with an importance matrix.

    Vectors and norms stay F32.
    """
    if len(shape) < 2 or name.endswith("_norm.weight") or not name.endswith(".weight"):
        return Type.F32
    most = _MOST[kind][0]
    if most in (Type.F32, Type.F16, Type.BF16):
        return most
    if name == "output.weight" or (name == "token_embd.weight" and not model.has_output):
        fits = shape[-1] % _block(most) == 0
        return _fitting(Type.Q6_K if most is not Type.Q8_0 and fits else Type.Q8_0, shape[-1])
    return _fitting(_of_matrix(name, kind, model, weighted=weighted) or most, shape[-1])


def _of_matrix(name: str, kind: Kind, model: ModelFacts, *, weighted: bool) -> Type | None:
    """The type of a matrix that is worth more than most; None for the others."""
    place = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", name)
    if place is None:
        return None
    layer, part = int(place[1]), place[2]
    eighth = layer < model.layers // 8
    matters = eighth or layer >= 7 * model.layers // 8 or (layer - model.layers // 8) % 3 == 2
    match part, kind:
        case "attn_v" | "attn_qkv", _:
            return _of_values(kind, layer, model, matters=matters)
        case "ffn_down", "q4_k_m" | "q5_k_m" if matters:
            return Type.Q6_K
        case "ffn_down", "q4_k_s" if eighth:
            return Type.Q5_K
        case "ffn_down", "iq4_xs" if eighth and not weighted:
            return Type.Q5_K
        case "ffn_down", "q3_k_m":
            return Type.Q5_K if layer < model.layers // 16 else Type.Q4_K
        case "attn_output", "q3_k_m":
            return Type.Q4_K
        case _:
            return None


def _of_values(kind: Kind, layer: int, model: ModelFacts, *, matters: bool) -> Type | None:
    found: Type | None = None
    match kind:
        case "q4_k_m" | "q5_k_m" if matters:
            found = Type.Q6_K
        case "q4_k_s" if layer < 4:
            found = Type.Q5_K
        case "q3_k_m":
            found = Type.Q5_K if layer < 2 else Type.Q4_K
        case "iq4_xs" if model.gqa >= 4:
            found = Type.Q5_K
    if model.is_70b and (found or _MOST[kind][0]) in (Type.Q3_K, Type.Q4_K):
        return Type.Q5_K  # eight heads share a value there
    return found


def _fitting(wanted: Type, columns: int) -> Type:
    """``wanted``, or what llama.cpp takes where the rows are no multiple of its block."""
    if columns % _block(wanted) == 0:
        return wanted
    instead = _OTHERWISE.get(wanted, Type.F16)
    return instead if columns % _block(instead) == 0 else Type.F16


def _block(kind: Type) -> int:
    return int(gguf.GGML_QUANT_SIZES[kind][0])
