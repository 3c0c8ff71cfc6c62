"""The weights of a GGUF by the names of the base's tensors: the numbers that llama.cpp computes with, rounded as they are."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from afina.export.gguf import FilePlan
from afina.export.tensor import separate_halves
from afina.model.weights import Float32


class WrittenWeights:
    """What stands in ``path``, which was written as ``plan``; the way of each tensor is gone back, but for the rounding."""

    def __init__(self, path: Path, plan: FilePlan) -> None:
        self.folder = path
        found = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        self._tensors = {tensor.plan.source: (tensor, tensor.plan) for tensor in plan.tensors if tensor.plan is not None}
        self._data = {source: found[tensor.name].data for source, (tensor, _plan) in self._tensors.items()}

    def names(self) -> list[str]:
        return list(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name][0].shape

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Float32:
        """Rows ``start`` to ``stop`` as they stood in the base, float32."""
        tensor, plan = self._tensors[name]
        last = tensor.shape[0] if stop is None else min(stop, tensor.shape[0])
        unit = plan.row_unit  # rows that were moved together are read together
        first, end = start // unit * unit, -(-last // unit) * unit
        data = np.ascontiguousarray(self._data[name][first:end])
        rows = gguf.quants.dequantize(data, tensor.type).reshape(end - first, *tensor.shape[1:]).astype(np.float32)
        if plan.heads:
            rows = separate_halves(rows, unit)
        if plan.shift:
            rows -= np.float32(plan.shift)
        return rows[start - first : last - first]
