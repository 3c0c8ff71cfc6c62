"""Compiled kernels, against llama.cpp's own kernels: the same bytes."""

from __future__ import annotations

import platform

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type
from numpy.typing import NDArray

from afina.export.compiled import quantize_rows
from afina.export.kernels import native_kernel

KINDS = (Type.Q4_K, Type.Q5_K, Type.Q6_K, Type.IQ4_XS)


NUMBERS = (
    "normal",
    "as bfloat16",
    "heavy tails",
    "rows of very different size",
    "with zeros",
    "of one sign",
    "of few values",
    "tiny",
    "constant",
    "a part of a row of lanes",
)


def numbers(name: str) -> NDArray[np.float32]:
    random = np.random.default_rng(7)
    normal = random.standard_normal((64, 1024), np.float32)
    match name:
        case "normal":
            return normal * np.float32(0.02)
        case "as bfloat16":
            return (normal.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
        case "heavy tails":
            return (random.standard_t(3, (64, 1024)) * 0.02).astype(np.float32)
        case "rows of very different size":
            return (normal * 10.0 ** random.uniform(-6, 3, (64, 1))).astype(np.float32)
        case "with zeros":
            normal[:, 100:500] = 0
            normal[7] = 0
            return normal
        case "of one sign":
            return np.concatenate([np.abs(normal), -np.abs(normal)])
        case "of few values":
            return np.round(normal * 4) * np.float32(0.25)
        case "tiny":
            return normal * np.float32(1e-12)
        case "constant":
            return np.repeat(np.array([[0.5], [-3], [1e-20], [0]], np.float32), 1024, axis=1)
        case _:
            return normal[:3]


def weights_of(name: str) -> NDArray[np.float32] | None:
    random = np.random.default_rng(11)
    match name:
        case "plain":
            return None
        case "importance":
            return np.abs(random.standard_normal(1024, np.float32))
        case "some columns count for nothing":
            return random.integers(0, 2, 1024).astype(np.float32)
        case _:
            return np.zeros(1024, np.float32)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("importance", ["plain", "importance", "some columns count for nothing", "nothing counts"])
@pytest.mark.parametrize("name", NUMBERS)
def test_all_bytes_are_llama_cpps(name: str, importance: str, kind: Type) -> None:
    native = native_kernel()
    if native is None or platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("the prebuilt llama.cpp does not export its kernels here, or fuses products and sums")
    rows, weights = numbers(name), weights_of(importance)
    assert np.array_equal(quantize_rows(rows, kind, weights), native(kind, rows, weights))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_is_read_back_is_near(kind: Type) -> None:
    """Not by llama.cpp but by the gguf library, so that it holds where there is no kernel to compare with."""
    rows = numbers("normal")
    back = gguf.quants.dequantize(quantize_rows(rows, kind).reshape(len(rows), -1), kind)
    error = np.linalg.norm(back - rows) / np.linalg.norm(rows)
    assert error < {Type.Q4_K: 0.08, Type.Q5_K: 0.04, Type.Q6_K: 0.02, Type.IQ4_XS: 0.08}[kind]


def test_rows_that_are_not_next_to_each_other_in_memory_and_no_rows() -> None:
    rows = numbers("normal")
    assert np.array_equal(quantize_rows(rows[::2], Type.Q4_K), quantize_rows(rows[::2].copy(), Type.Q4_K))
    assert quantize_rows(rows[:0], Type.Q6_K).size == 0
