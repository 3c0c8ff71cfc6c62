"""A merged model as one GGUF file, written row by row: no copy of the model in memory, and none on the disk but the file itself.

Keys and tensors stand in the order in which llama.cpp's own ``llama-quantize`` writes them, so that Ollama, which sends each
file through it, finds nothing to move and keeps one copy instead of two.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, LlamaFileType
from numpy.typing import NDArray

from afina.core.errors import DataError
from afina.core.files import require_disk
from afina.core.translation import _
from afina.core.units import KIB
from afina.data.render import Renderer
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.export.families import Layout, TensorPlan, lay_out
from afina.export.vocabulary import KeyValue, Vocabulary, model_name, read_vocabulary
from afina.model.base import Base
from afina.model.merge import MergedWeights
from afina.model.weights import Float32

Kind = Literal["f32", "f16", "bf16", "q8_0"]
OnBytes = Callable[[int, int], None]  # bytes written, bytes in all

CHUNK_VALUES = 1 << 22  # numbers held at once: 16 MiB as float32
LARGEST_F16 = 65504.0
_TYPES: dict[Kind, tuple[GGMLQuantizationType, LlamaFileType]] = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


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


def plan_gguf(base: Base, weights: MergedWeights, renderer: Renderer, kind: Kind, name: str) -> FilePlan:
    """What will stand in the file. Raises DataError for all that llama.cpp could not read as the model was trained."""
    layout = lay_out(base, weights)
    vocabulary = read_vocabulary(renderer, int(base.config["vocab_size"]))
    file_type = _TYPES[kind][1]
    keys: dict[str, KeyValue] = {
        "general.type": "model",
        "general.name": model_name(name, renderer.tokenizer),
        **layout.keys,
        **vocabulary.keys,
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "general.file_type": int(file_type),
    }
    computed = [TensorFile(tensor, values.shape, GGMLQuantizationType.F32, None) for tensor, values in layout.computed.items()]
    read = [TensorFile(plan.name, plan.shape, _type_of(plan, kind), plan) for plan in layout.tensors]
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
    progress: OnBytes | None = None,
) -> FilePlan:
    """Writes the model to ``path``, whole or not at all, and returns what stands in it.

    Raises ResourceError before anything is written where the disk has no room, DataError for a number that is none (NaN) or too
    large.
    """
    plan = plan_gguf(base, weights, Renderer.build(template, tokenizer), kind, name)
    require_disk(path.parent, bytes_of_file(plan), _("the file {name}").format(name=path.name))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write_head(temporary, plan)
        _append_tensors(temporary, plan, weights, progress)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
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


def _append_tensors(path: Path, plan: FilePlan, weights: MergedWeights, progress: OnBytes | None) -> None:
    with path.open("ab") as file:
        file.write(bytes(_padded(file.tell()) - file.tell()))
        written = 0
        for tensor in plan.tensors:
            for rows in _chunks(tensor, plan, weights):
                file.write(_encoded(rows, tensor).tobytes())
            file.write(bytes(_padded(tensor.nbytes) - tensor.nbytes))
            written += _padded(tensor.nbytes)
            if progress is not None:
                progress(written, plan.data_bytes)
        file.flush()
        os.fsync(file.fileno())


def _chunks(tensor: TensorFile, plan: FilePlan, weights: MergedWeights) -> Iterator[Float32]:
    """The tensor's rows, a few at a time."""
    if tensor.plan is None:
        yield plan.layout.computed[tensor.name]
        return
    for start, stop in row_ranges(tensor.plan):
        yield tensor.plan.read(weights, start, stop)


def row_ranges(plan: TensorPlan) -> Iterator[tuple[int, int]]:
    """Ranges of rows that fit into CHUNK_VALUES, in whole units."""
    unit = plan.row_unit
    step = max(1, CHUNK_VALUES // (unit * prod(plan.shape[1:]))) * unit
    for start in range(0, plan.shape[0], step):
        yield start, min(start + step, plan.shape[0])


def _encoded(rows: Float32, tensor: TensorFile) -> NDArray[np.generic]:
    source = tensor.plan.source if tensor.plan else tensor.name
    largest = float(np.abs(rows).max(initial=0.0))
    if not np.isfinite(largest):  # NaN is the largest of all to numpy
        raise DataError(
            _("the merged weight {name} holds a number that is none ({value})").format(name=source, value=largest),
            fix=_("train again with a lower train.learning_rate, or download the base again"),
        )
    if tensor.type is GGMLQuantizationType.F16 and largest > LARGEST_F16:
        raise DataError(
            _("the merged weight {name} reaches {value:.0f}; F16 ends at {limit:.0f}").format(
                name=source, value=largest, limit=LARGEST_F16
            ),
            fix=_("take other types: --set export.types=[bf16,q8_0]"),
        )
    encoded: NDArray[np.generic] = gguf.quants.quantize(np.ascontiguousarray(rows), tensor.type)
    return encoded


def _type_of(plan: TensorPlan, kind: Kind) -> GGMLQuantizationType:
    """Norms and biases stay F32; a row that is no multiple of Q8_0's 32 numbers becomes F16, as llama.cpp does it."""
    if len(plan.shape) < 2:
        return GGMLQuantizationType.F32
    if kind == "q8_0" and plan.shape[-1] % int(gguf.GGML_QUANT_SIZES[GGMLQuantizationType.Q8_0][0]):
        return GGMLQuantizationType.F16
    return _TYPES[kind][0]


def _place_in_file(tensor: TensorFile) -> tuple[int, str]:
    """llama.cpp's order: what belongs to no layer, then layer by layer; by name within each."""
    layer = re.match(r"blk\.(\d+)\.", tensor.name)
    return (int(layer[1]) if layer else -1, tensor.name)


def _padded(count: int) -> int:
    return int(gguf.GGUFWriter.ggml_pad(count, gguf.GGUF_DEFAULT_ALIGNMENT))
