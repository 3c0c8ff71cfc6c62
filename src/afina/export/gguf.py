"""A merged model as one GGUF file, written row by row: no copy of the model in memory, and none on the disk but the file itself.

Keys and tensors stand in the order in which llama.cpp's own ``llama-quantize`` writes them, so that Ollama, which sends each
file through it, finds nothing to move and keeps one copy instead of two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType

from afina.core.files import replacing, require_disk
from afina.core.translation import _
from afina.core.units import KIB
from afina.data.render import Renderer
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.export.encode import encoders, pieces_of
from afina.export.families import Layout, lay_out
from afina.export.mix import ModelFacts, file_type, type_of
from afina.export.tensor import TensorPlan
from afina.export.vocabulary import KeyValue, Vocabulary, model_name, read_vocabulary
from afina.model.base import Base
from afina.model.merge import MergedWeights
from afina.model.weights import Float32
from afina.recipe.kinds import Kind

OnBytes = Callable[[int, int], None]  # bytes written, bytes in all


@dataclass(frozen=True)
class TensorFile:
    """One tensor as it will lie in the file; ``plan`` is None for one that is computed and not read."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    plan: TensorPlan | None

    @property
    def nbytes(self) -> int:
        block, block_bytes = gguf.GGML_QUANT_SIZES[self.type]
        return prod(self.shape) // int(block) * int(block_bytes)


@dataclass(frozen=True)
class FilePlan:
    """All of a GGUF but the numbers; known before anything is written."""

    layout: Layout
    vocabulary: Vocabulary
    keys: dict[str, KeyValue]
    tensors: tuple[TensorFile, ...]

    @property
    def data_bytes(self) -> int:
        return sum(_padded(tensor.nbytes) for tensor in self.tensors)

    @property
    def values(self) -> int:
        """How many numbers."""
        return sum(prod(tensor.shape) for tensor in self.tensors)


def plan_gguf(
    base: Base,
    weights: MergedWeights,
    renderer: Renderer,
    kind: Kind,
    name: str,
    *,
    importance: Mapping[str, Float32] | None = None,
) -> FilePlan:
    """What will stand in the file. Raises DataError for all that llama.cpp could not read as the model was trained."""
    layout = lay_out(base, weights)
    vocabulary = read_vocabulary(renderer, int(base.config["vocab_size"]))
    facts = _facts(base, layout)
    keys: dict[str, KeyValue] = {
        "general.type": "model",
        "general.name": model_name(name, renderer.tokenizer),
        **layout.keys,
        **vocabulary.keys,
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "general.file_type": int(file_type(kind)),
        **({"quantize.imatrix.dataset": name, "quantize.imatrix.entries_count": len(importance)} if importance else {}),
    }
    computed = [TensorFile(tensor, values.shape, GGMLQuantizationType.F32, None) for tensor, values in layout.computed.items()]
    read = [
        TensorFile(plan.name, plan.shape, type_of(plan.name, plan.shape, kind, facts, weighted=bool(importance)), plan)
        for plan in layout.tensors
    ]
    return FilePlan(layout, vocabulary, keys, tuple(sorted((*computed, *read), key=_place_in_file)))


def write_gguf(
    path: Path,
    *,
    base: Base,
    weights: MergedWeights,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    kind: Kind,
    name: str,
    importance: Mapping[str, Float32] | None = None,
    progress: OnBytes | None = None,
) -> FilePlan:
    """Writes the model to ``path``, whole or not at all, and returns what stands in it.

    ``importance``: for a GGUF's tensor how much an error in each of its columns counts (``importance.py``). Raises ResourceError
    where the disk has no room, known before anything is written unless others fill it, DataError for a number that is none (NaN)
    or too large.
    """
    plan = plan_gguf(base, weights, Renderer.build(template, tokenizer), kind, name, importance=importance)
    require_disk(path.parent, bytes_of_file(plan), _("the file {name}").format(name=path.name))
    with replacing(path) as temporary:
        _write_head(temporary, plan)
        _append_tensors(temporary, plan, weights, importance or {}, progress)
    return plan


def bytes_of_file(plan: FilePlan) -> int:
    """At most so many bytes on the disk: the tensors, the words of the vocabulary, and the rest of the head."""
    words = sum(len(item) * 4 + 16 for value in plan.keys.values() if isinstance(value, list) for item in map(str, value))
    return plan.data_bytes + words + 64 * KIB + 128 * len(plan.tensors)


def _write_head(path: Path, plan: FilePlan) -> None:
    writer = gguf.GGUFWriter(path, plan.layout.arch)
    for key, value in plan.keys.items():
        writer.add_key_value(key, value, _value_type(value))
    for tensor in plan.tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.type)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _value_type(value: KeyValue) -> GGUFValueType:
    match value:
        case bool():
            return GGUFValueType.BOOL
        case int():
            return GGUFValueType.UINT32
        case float():
            return GGUFValueType.FLOAT32
        case str():
            return GGUFValueType.STRING
        case _:
            return GGUFValueType.ARRAY


def _append_tensors(
    path: Path, plan: FilePlan, weights: MergedWeights, importance: Mapping[str, Float32], progress: OnBytes | None
) -> None:
    read = [(tensor, tensor.plan) for tensor in plan.tensors if tensor.plan is not None]
    pieces = (piece for tensor, source in read for piece in pieces_of(source, tensor.type))
    with (
        path.open("ab") as file,
        encoders(weights, {tensor.type for tensor, _source in read}, plan.values, importance) as encoder,
    ):
        file.write(bytes(_padded(file.tell()) - file.tell()))
        encoded = encoder.encoded(pieces)
        written = 0
        for tensor in plan.tensors:
            for data in _data(tensor, plan, encoded):
                file.write(data)
                written += len(data)
                if progress is not None:
                    progress(written, plan.data_bytes)
            padding = _padded(tensor.nbytes) - tensor.nbytes
            file.write(bytes(padding))
            written += padding
        if progress is not None:
            progress(written, plan.data_bytes)


def _data(tensor: TensorFile, plan: FilePlan, encoded: Iterator[bytes]) -> Iterator[bytes]:
    """The tensor's bytes, a few rows at a time; those that are not computed from ``encoded``, where it is their turn."""
    if tensor.plan is None:
        yield plan.layout.computed[tensor.name].tobytes()
        return
    for _rows in tensor.plan.row_ranges():
        yield next(encoded)


def _facts(base: Base, layout: Layout) -> ModelFacts:
    config = base.config
    heads, shared = int(config["num_attention_heads"]), int(config.get("num_key_value_heads") or config["num_attention_heads"])
    layers = int(config["num_hidden_layers"])
    return ModelFacts(
        layers=layers,
        has_output=any(plan.name == "output.weight" for plan in layout.tensors),
        gqa=heads // shared,
        is_70b=layers == 80 and (layout.arch == "qwen2" or (layout.arch == "llama" and heads != shared)),
    )


def _place_in_file(tensor: TensorFile) -> tuple[int, str]:
    """llama.cpp's order: what belongs to no layer, then layer by layer; by name within each."""
    layer = re.match(r"blk\.(\d+)\.", tensor.name)
    return (int(layer[1]) if layer else -1, tensor.name)


def _padded(count: int) -> int:
    return int(gguf.GGUFWriter.ggml_pad(count, gguf.GGUF_DEFAULT_ALIGNMENT))
