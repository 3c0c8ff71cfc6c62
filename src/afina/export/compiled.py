"""Rows of numbers rounded by code that numba compiles for this processor: the types that it is there for, and the way in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from gguf import GGMLQuantizationType as Type

from afina.export.iquants import encode_iq4_xs
from afina.export.kquants import encode_q4_k, encode_q5_k, encode_q6_k
from afina.export.lanes import BLOCK, Bytes
from afina.model.weights import Float32

_ENCODE = {Type.Q4_K: encode_q4_k, Type.Q5_K: encode_q5_k, Type.Q6_K: encode_q6_k, Type.IQ4_XS: encode_iq4_xs}
_MANY = 1024  # blocks at once: they stay in the processor's cache


def quantize_rows(rows: Float32, kind: Type, importance: Float32 | None = None) -> Bytes:
    """``rows`` (N, columns) with columns a multiple of 256 as the bytes of ``kind``; ``importance`` (columns,) of each column."""
    encode = _ENCODE[kind]
    weights = np.ascontiguousarray([] if importance is None else importance, np.float32)
    pieces = [encode(blocks, weights) for blocks in _pieces(rows)]
    return np.concatenate(pieces).reshape(-1) if pieces else np.zeros(0, np.uint8)


def _pieces(rows: Float32) -> Iterator[Float32]:
    """Whole rows as blocks (N, 256), some at a time."""
    step = max(1, _MANY * BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        yield np.ascontiguousarray(rows[start : start + step], np.float32).reshape(-1, BLOCK)
