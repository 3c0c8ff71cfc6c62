"""The torch version of llama.cpp's K-quants, against llama.cpp's own kernels."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from afina.export.kernels import native_kernel
from afina.export.kquants import quantize_rows

KINDS = (Type.Q4_K, Type.Q5_K, Type.Q6_K)


def numbers(name: str) -> NDArray[np.float32]:
    random = np.random.default_rng(7)
    normal = random.standard_normal((64, 1024), np.float32)
    match name:
        case "normal":
            return normal * np.float32(0.02)
        case "heavy tails":
            return (random.standard_t(3, (64, 1024)) * 0.02).astype(np.float32)
        case "rows of very different size":
            return normal * (10.0 ** random.uniform(-6, 3, (64, 1))).astype(np.float32)
        case "with zeros":
            normal[:, 100:500] = 0
            normal[7] = 0
            return normal
        case _:
            return np.full((4, 256), 0.5, np.float32)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["normal", "heavy tails", "rows of very different size", "with zeros", "constant"])
def test_nearly_all_blocks_are_llama_cpps_and_the_error_is_the_same(kind: Type, name: str) -> None:
    native = native_kernel()
    if native is None:
        pytest.skip("the prebuilt llama.cpp does not export its kernels here")
    rows = numbers(name)
    block_bytes = gguf.GGML_QUANT_SIZES[kind][1]
    ours = np.frombuffer(quantize_rows(rows, kind), np.uint8).reshape(-1, block_bytes)
    theirs = native(kind, rows, None).reshape(-1, block_bytes)
    if name != "constant":  # there all choices are as good as each other
        assert (ours == theirs).all(axis=1).mean() > (0.8 if kind is Type.Q5_K else 0.9)
    error, their_error = (
        np.square(gguf.quants.dequantize(data.reshape(len(rows), -1), kind).astype(np.float64) - rows).sum()
        for data in (ours, theirs)
    )
    assert error <= their_error * 1.002 + 1e-12
