"""What the compiled kernels share. They do llama.cpp's work with llama.cpp's bytes, several times as fast.

llama.cpp (``ggml-quants.c``) searches the scale of one part of a block after the other; here 128 parts lie side by side, and each
step of the search is made in all of them by wide instructions:

    x (numbers of a part, lanes)        for each number: for each lane: …      the inner loop is what the compiler makes wide

Every part sees the same operations in the same order, in float32 and none fused, and so the bytes are the same. Who changes an
expression in a kernel changes bytes; ``tests/export/test_compiled.py`` tells.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
from numba import njit
from numpy import float32
from numpy.typing import NDArray

from afina.model.weights import Float32

Bytes = NDArray[np.uint8]
Function = TypeVar("Function", bound=Callable[..., object])

BLOCK = 256
LANES = 128
TINY = float32(1e-15)  # what is smaller counts as nothing
ZERO, ONE = float32(0), float32(1)


def compiled(function: Function) -> Function:
    """By numba when first called. Without a cache on the disk: that would be pickled code, and what it saves is seconds."""
    return cast(Function, njit(error_model="numpy")(function))


@compiled
def doubled_mean_squares(x: Float32, sizes: Float32) -> None:
    """Of each block (N, 256) → (N,)."""
    for block in range(len(x)):
        total = ZERO
        for i in range(BLOCK):
            total += x[block, i] * x[block, i]
        sizes[block] = float32(2) * total / float32(BLOCK)


@compiled
def find_largest(x: Float32, largest: Float32, size: Float32) -> None:
    """Of ``x`` (numbers, lanes) what is farthest from zero in each lane, the first of equal ones, and how far."""
    for j in range(LANES):
        largest[j], size[j] = ZERO, ZERO
    for i in range(len(x)):
        for j in range(LANES):
            farther = abs(x[i, j]) > size[j]
            largest[j] = x[i, j] if farther else largest[j]
            size[j] = abs(x[i, j]) if farther else size[j]
