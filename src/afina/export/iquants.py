"""llama.cpp's IQ4_XS, byte for byte; how, and what to beware of, stands in ``lanes.py``.

    IQ4_XS  x ≈ d · scale · value[q]     q 0 … 15     136 bytes: d | high bits of scales (2) | scales, low (4) | q (128)

A block of 256 is cut into 8 parts of 32, each with a scale of 6 bits. The sixteen values lie closer to each other near zero.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy import float32, uint8

from afina.export.lanes import BLOCK, LANES, ONE, TINY, ZERO, Bytes, compiled, doubled_mean_squares, find_largest
from afina.model.weights import Float32

VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], float32)
_TRIALS = 7  # to each side


def _borders() -> Float32:
    """(15,): the least number that is rounded to the upper one of two neighbours, as float32 subtraction sees it."""
    found = []
    for below, above in pairwise(VALUES):
        border = float32((below + above) / 2)
        while border - below >= above - border:
            border = np.nextafter(border, below)
        while border - below < above - border:
            border = np.nextafter(border, above)
        found.append(border)
    return np.array(found, float32)


_BORDERS = _borders()
_STEPS = np.diff(VALUES)


def encode_iq4_xs(x: Float32, importance: Float32) -> Bytes:
    """(N, 256) → (N, 136); ``importance`` of each column, or of none."""
    parts = x.reshape(-1, 32)
    found, sizes, q = np.empty(len(parts), float32), np.empty(len(x), float32), np.empty(parts.shape, uint8)
    if len(importance):
        doubled_mean_squares(x, sizes)
    _search_scales(parts, importance, sizes, found)
    scales = found.reshape(-1, 8)
    places = np.abs(scales).argmax(axis=1, keepdims=True)  # the first of equal ones
    d = -np.take_along_axis(scales, places, axis=1) / float32(32)  # (N, 1)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(d != 0, ONE / d, ZERO)
        whole = np.clip(np.rint(inverse * scales), float32(-32), float32(31))  # (N, 8)
        sizes = d * whole
        _round_to_values(parts, np.where(sizes != 0, ONE / sizes, ZERO).reshape(-1), q)
        halves = d.astype(np.float16).view(uint8)
    numbers = (whole + float32(32)).astype(uint8)
    low = (numbers[:, 0::2] & 15) | ((numbers[:, 1::2] & 15) << 4)  # (N, 4)
    high = ((numbers >> 4).astype(np.uint16) << (2 * np.arange(8, dtype=np.uint16))).sum(axis=1, dtype=np.uint16)
    pairs = q.reshape(-1, 8, 2, 16)  # 32 numbers share 16 bytes: the first half below, the second above
    packed = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    return np.concatenate([halves, high.astype("<u2")[:, None].view(uint8), low, packed], axis=1)


@compiled
def _search_scales(parts: Float32, importance: Float32, sizes: Float32, scales: Float32) -> None:
    """The scale of each part (P, 32): ``quantize_row_iq4_nl_impl``; weights: squares, or by ``importance``."""
    count, n = parts.shape
    x, w = np.empty((n, LANES), float32), np.empty((n, LANES), float32)
    largest, size = np.empty(LANES, float32), np.empty(LANES, float32)
    inverse, sum_qx, sum_q2 = np.empty(LANES, float32), np.empty(LANES, float32), np.empty(LANES, float32)
    scale, best = np.empty(LANES, float32), np.empty(LANES, float32)
    for start in range(0, count, LANES):
        here = min(LANES, count - start)
        for j in range(LANES):
            part = start + min(j, here - 1)
            for i in range(n):
                x[i, j] = parts[part, i]
                w[i, j] = x[i, j] * x[i, j]
            if len(importance):
                column = part * n % len(importance)
                for i in range(n):
                    w[i, j] = importance[column + i] * np.sqrt(sizes[part * n // BLOCK] + w[i, j])
        find_largest(x, largest, size)
        for j in range(LANES):
            inverse[j] = ONE / (-largest[j] / VALUES[0])
        _fit_values(x, w, inverse, sum_qx, sum_q2)
        for j in range(LANES):
            scale[j] = sum_qx[j] / sum_q2[j] if sum_q2[j] > ZERO else ZERO
            best[j] = scale[j] * sum_qx[j]
        for trial in range(-_TRIALS, _TRIALS + 1):
            for j in range(LANES):
                inverse[j] = (float32(trial) + VALUES[0]) / largest[j]
            _fit_values(x, w, inverse, sum_qx, sum_q2)
            for j in range(LANES):
                if sum_q2[j] > ZERO and sum_qx[j] * sum_qx[j] > best[j] * sum_q2[j]:
                    scale[j] = sum_qx[j] / sum_q2[j]
                    best[j] = scale[j] * sum_qx[j]
        for j in range(here):
            scales[start + j] = ZERO if size[j] < TINY else scale[j]


@compiled
def _fit_values(x: Float32, w: Float32, inverse: Float32, sum_qx: Float32, sum_q2: Float32) -> None:
    """With the values q that ``inverse`` (lanes,) makes of ``x`` (n, lanes): Σ w q x and Σ w q² (lanes,)."""
    for j in range(LANES):
        sum_qx[j], sum_q2[j] = ZERO, ZERO
    for i in range(len(x)):
        for j in range(LANES):
            scaled, value = inverse[j] * x[i, j], VALUES[0]
            for k in range(15):
                value += _STEPS[k] if scaled >= _BORDERS[k] else ZERO
            weighted = w[i, j] * value
            sum_qx[j] += weighted * x[i, j]
            sum_q2[j] += weighted * value


@compiled
def _round_to_values(parts: Float32, inverse: Float32, numbers: Bytes) -> None:
    """The number of the nearest value for each of ``parts`` (P, 32) times its ``inverse`` (P,)."""
    for part in range(len(parts)):
        for i in range(parts.shape[1]):
            scaled, number = inverse[part] * parts[part, i], uint8(0)
            for k in range(15):
                number += uint8(1) if scaled >= _BORDERS[k] else uint8(0)
            numbers[part, i] = number
