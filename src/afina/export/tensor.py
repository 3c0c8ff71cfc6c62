"""One tensor on its way from the base's files to the GGUF: which it is, what is done to it, and its rows, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np

from afina.model.merge import MergedWeights
from afina.model.weights import Float32

CHUNK_VALUES = 1 << 22  # numbers held at once: 16 MiB as float32


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the GGUF: ``source`` in the checkpoint, its rows swapped within each of ``heads``, ``shift`` added."""

    name: str
    source: str
    shape: tuple[int, ...]
    heads: int = 0
    shift: float = 0.0

    @property
    def row_unit(self) -> int:
        """Rows that must be read together."""
        return self.shape[0] // self.heads if self.heads else 1

    def read(self, weights: MergedWeights, start: int = 0, stop: int | None = None) -> Float32:
        """Rows ``start`` to ``stop`` as they stand in the GGUF; both multiples of ``row_unit``, or the end."""
        rows = weights.read(self.source, start, stop)
        if self.heads:
            rows = interleave_halves(rows, self.row_unit)
        if self.shift:
            rows += np.float32(self.shift)
        return rows

    def row_ranges(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows that fit into CHUNK_VALUES, in whole units."""
        step = max(1, CHUNK_VALUES // (self.row_unit * prod(self.shape[1:]))) * self.row_unit
        for start in range(0, self.shape[0], step):
            yield start, min(start + step, self.shape[0])


def interleave_halves(rows: Float32, head_rows: int) -> Float32:
    """Rotary pairs side by side: transformers rotates row i with row i + d/2 of a head, llama.cpp's ``llama`` rows 2i and 2i + 1.

    ``rows`` (heads · d, …) with ``head_rows`` d:    0 1 2 3 | 4 5 6 7   →   0 4 1 5 2 6 3 7
    """
    heads = rows.shape[0] // head_rows
    pairs = rows.reshape(heads, 2, head_rows // 2, *rows.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(pairs).reshape(rows.shape)


def separate_halves(rows: Float32, head_rows: int) -> Float32:
    """The way back from ``interleave_halves``."""
    heads = rows.shape[0] // head_rows
    halves = rows.reshape(heads, head_rows // 2, 2, *rows.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(halves).reshape(rows.shape)
