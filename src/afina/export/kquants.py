"""llama.cpp's Q4_K, Q5_K and Q6_K, byte for byte; how, and what to beware of, stands in ``lanes.py``.

A block of 256 numbers is cut into 8 parts of 32 (Q4_K, Q5_K) or 16 of 16 (Q6_K). A part has a scale, and in the first two a
minimum; these are whole numbers of 6 or 8 bits, times one float16 for the block.

    Q4_K  x ≈ d · scale · q − dmin · min      q 0 … 15        144 bytes: d dmin | scales, mins (12) | q (128)
    Q5_K  the same                            q 0 … 31        176 bytes: d dmin | scales, mins (12) | high bits (32) | q (128)
    Q6_K  x ≈ d · scale · q                   q −32 … 31      210 bytes: low (128) | high (64) | scales (16) | d

Scales are searched among those that round in slightly different ways, for the least weighted squared error.
"""

from __future__ import annotations

import numpy as np
from numpy import float32, uint8
from numpy.typing import NDArray

from afina.export.lanes import BLOCK, LANES, ONE, TINY, ZERO, Bytes, compiled, doubled_mean_squares, find_largest
from afina.model.weights import Float32

_NONE = np.zeros(0, float32)


def encode_q4_k(x: Float32, importance: Float32) -> Bytes:
    """(N, 256) → (N, 144)."""
    d, packed, q = _with_minimum(x, importance, 15, steps=(-1.0, 0.1, 20))
    pairs = q.reshape(-1, 4, 2, 32)  # 64 numbers share 32 bytes: the first half below, the second above
    low = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    return np.concatenate([d, packed, low], axis=1)


def encode_q5_k(x: Float32, importance: Float32) -> Bytes:
    """(N, 256) → (N, 176)."""
    d, packed, q = _with_minimum(x, importance, 31, steps=(-0.5, 0.1, 15))
    pairs = q.reshape(-1, 4, 2, 32)
    low = ((pairs[:, :, 0] & 15) | ((pairs[:, :, 1] & 15) << 4)).reshape(-1, 128)
    high = np.zeros((len(x), 32), uint8)
    for part in range(8):
        high |= (q.reshape(-1, 8, 32)[:, part] >> 4) << part
    return np.concatenate([d, packed, high, low], axis=1)


def encode_q6_k(x: Float32, importance: Float32) -> Bytes:
    """(N, 256) → (N, 210)."""
    parts = x.reshape(-1, 16)
    found, q = np.empty(len(parts), float32), np.empty(parts.shape, uint8)
    _search_around_zero(parts, importance, float32(32), found, q)
    scales = found.reshape(-1, 16)
    places = np.abs(scales).argmax(axis=1, keepdims=True)  # the first of equal ones
    largest = np.take_along_axis(scales, places, axis=1)  # (N, 1) with its sign
    empty = np.abs(largest[:, 0]) < TINY
    with np.errstate(divide="ignore", over="ignore"):
        inverse = float32(-128) / np.where(empty[:, None], ONE, largest)
        d = (ONE / inverse).astype(np.float16)
    whole = np.minimum(np.rint(inverse * scales), float32(127))  # (N, 16)
    _round_with_scale(parts, (d.astype(float32) * whole).reshape(-1), float32(32), q)
    numbers = q.reshape(-1, 2, 4, 32)  # halves of 128, quarters of 32
    low = np.stack([(numbers[:, :, quarter] & 15) | ((numbers[:, :, quarter + 2] & 15) << 4) for quarter in (0, 1)], axis=2)
    high = numbers[:, :, 0] >> 4
    for quarter in (1, 2, 3):
        high |= (numbers[:, :, quarter] >> 4) << (2 * quarter)
    signed = whole.astype(np.int8).view(uint8)
    result = np.concatenate([low.reshape(-1, 128), high.reshape(-1, 64), signed, d.view(uint8)], axis=1)
    result[empty] = 0
    return result


def _with_minimum(x: Float32, importance: Float32, most: int, steps: tuple[float, float, int]) -> tuple[Bytes, Bytes, Bytes]:
    """``d`` and ``dmin`` as float16 (N, 4 bytes), scales and minima packed (N, 12), numbers (N, 256)."""
    parts, many = x.reshape(-1, 32), 8 * len(x)
    scales, minima, sums = np.empty(many, float32), np.empty(many, float32), np.empty(many, float32)
    q, sizes = np.empty(parts.shape, uint8), np.empty(len(x), float32)
    if len(importance):
        steps = (-0.9, 0.05, 36)
        doubled_mean_squares(x, sizes)
    first, step, count = steps
    _search(parts, importance, sizes, float32(most), float32(first), float32(step), count, scales, minima, sums, q)
    weights = sums.reshape(-1, 8) if len(importance) else _NONE
    whole_scales, d = _whole_numbers(scales.reshape(-1, 8), weights)
    whole_minima, dmin = _whole_numbers(minima.reshape(-1, 8), weights)
    size, shift = d.astype(float32) * whole_scales, dmin.astype(float32) * whole_minima
    _round_with_shift(parts, size.reshape(-1), shift.reshape(-1), float32(most), q)
    halves = np.concatenate([d, dmin], axis=1).view(uint8)
    return halves, _pack_scales(whole_scales, whole_minima), q.reshape(-1, BLOCK)


def _whole_numbers(values: Float32, sums: Float32) -> tuple[Bytes, NDArray[np.float16]]:
    """``values`` (N, 8) as whole numbers 0 … 63 (N, 8) times one float16 (N, 1); ``sums`` (N, 8): of weights, or none."""
    if len(sums):
        whole, found = np.empty(values.shape, uint8), np.empty((len(values), 1), float32)
        _search_positive(values, sums, whole, found)
        with np.errstate(over="ignore"):
            return np.minimum(whole, uint8(63)), found.astype(np.float16)
    top = np.maximum(values.max(axis=1, keepdims=True), ZERO)
    with np.errstate(divide="ignore", over="ignore"):
        inverse = np.where(top > 0, float32(63) / top, ZERO)
        d = (top / float32(63)).astype(np.float16)
    return np.minimum(np.rint(inverse * values).astype(np.int32).astype(uint8), uint8(63)), d


def _pack_scales(scales: Bytes, minima: Bytes) -> Bytes:
    """Eight scales and eight minima of six bits (N, 8) in twelve bytes (N, 12).

    bytes 0–3: scales 0–3, above them the top bits of scales 4–7; 4–7: the same of the minima; 8–11: the low halves of both.
    """
    first = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    second = minima[:, :4] | ((minima[:, 4:] >> 4) << 6)
    third = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    return np.concatenate([first, second, third], axis=1)


# ── compiled ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


@compiled
def _rounded(value: float32, least: float32, most: float32) -> float32:
    """The nearest whole number (halves to even) from ``least`` to ``most``."""
    number = np.rint(value)
    return most if number > most else max(number, least)


@compiled
def _search(
    parts: Float32,
    importance: Float32,
    sizes: Float32,
    most: float32,
    first: float32,
    step: float32,
    steps: int,
    scales: Float32,
    minima: Float32,
    sums: Float32,
    numbers: Bytes,
) -> None:
    """Scale, minimum (as a positive number), numbers and sum of weights of each part (P, 32).

    ``make_qkx2_quants``, and with ``importance`` ``make_qkx3_quants``. Each trial rounds with another scale, then takes the scale
    and minimum that fit the rounded numbers best (least squares); the next trial starts from the best minimum so far.
    """
    count, n = parts.shape
    x, w, q = np.empty((n, LANES), float32), np.empty((n, LANES), float32), np.empty((n, LANES), float32)
    low, high = np.empty(LANES, float32), np.empty(LANES, float32)
    flat, solvable = np.empty(LANES, np.bool_), np.empty(LANES, np.bool_)
    sum_w, sum_x, inverse = np.empty(LANES, float32), np.empty(LANES, float32), np.empty(LANES, float32)
    sum_l, sum_l2, sum_xl = np.empty(LANES, float32), np.empty(LANES, float32), np.empty(LANES, float32)
    new_scale, new_low, error = np.empty(LANES, float32), np.empty(LANES, float32), np.empty(LANES, float32)
    scale, best = np.empty(LANES, float32), np.empty(LANES, float32)
    best_inverse, best_low = np.empty(LANES, float32), np.empty(LANES, float32)  # that the best numbers were rounded with
    for start in range(0, count, LANES):
        here = min(LANES, count - start)
        for j in range(LANES):
            part = start + min(j, here - 1)  # the last one again where there are no more
            for i in range(n):
                x[i, j] = parts[part, i]
        if len(importance):
            for j in range(LANES):
                part = start + min(j, here - 1)
                size, column = sizes[part * n // BLOCK], part * n % len(importance)
                for i in range(n):
                    w[i, j] = importance[column + i] * np.sqrt(size + x[i, j] * x[i, j])
        else:
            for j in range(LANES):
                sum_x[j] = ZERO
            for i in range(n):
                for j in range(LANES):
                    sum_x[j] += x[i, j] * x[i, j]
            for i in range(n):
                for j in range(LANES):
                    w[i, j] = np.sqrt(sum_x[j] / float32(n)) + abs(x[i, j])
        for j in range(LANES):
            low[j], high[j], sum_w[j], sum_x[j] = x[0, j], x[0, j], w[0, j], w[0, j] * x[0, j]
        for i in range(1, n):
            for j in range(LANES):
                value = x[i, j]
                low[j] = min(low[j], value)
                high[j] = max(high[j], value)
                sum_w[j] += w[i, j]
                sum_x[j] += w[i, j] * value
        for j in range(LANES):
            low[j] = min(low[j], ZERO)
            flat[j] = high[j] <= low[j]
            inverse[j] = ONE if flat[j] else most / (high[j] - low[j])
            scale[j], best[j], best_inverse[j], best_low[j] = ONE / inverse[j], ZERO, inverse[j], low[j]
        for i in range(n):
            for j in range(LANES):
                number = _rounded(inverse[j] * (x[i, j] - low[j]), ZERO, most)
                off = scale[j] * number + low[j] - x[i, j]
                best[j] += w[i, j] * (off * off)
        for trial in range(steps + 1):
            widest = first + step * float32(trial) + most
            for j in range(LANES):
                inverse[j] = widest / (high[j] - low[j])
                sum_l[j], sum_l2[j], sum_xl[j], error[j] = ZERO, ZERO, ZERO, ZERO
            for i in range(n):
                for j in range(LANES):
                    number = _rounded(inverse[j] * (x[i, j] - low[j]), ZERO, most)
                    q[i, j] = number
                    weighted = w[i, j] * number
                    sum_l[j] += weighted
                    sum_l2[j] += weighted * number
                    sum_xl[j] += weighted * x[i, j]
            for j in range(LANES):
                determinant = sum_w[j] * sum_l2[j] - sum_l[j] * sum_l[j]
                solvable[j] = determinant > ZERO and not flat[j]
                a = (sum_w[j] * sum_xl[j] - sum_x[j] * sum_l[j]) / determinant
                b = (sum_l2[j] * sum_x[j] - sum_l[j] * sum_xl[j]) / determinant
                new_scale[j] = sum_xl[j] / sum_l2[j] if b > ZERO else a
                new_low[j] = min(b, ZERO)
            for i in range(n):
                for j in range(LANES):
                    off = new_scale[j] * q[i, j] + new_low[j] - x[i, j]
                    error[j] += w[i, j] * (off * off)
            for j in range(LANES):
                if solvable[j] and error[j] < best[j]:
                    best[j], best_inverse[j], best_low[j] = error[j], inverse[j], low[j]
                    scale[j], low[j] = new_scale[j], new_low[j]
        for j in range(here):
            part = start + j
            scales[part], minima[part] = ZERO if flat[j] else scale[j], -low[j]
            for i in range(n):
                number = _rounded(best_inverse[j] * (x[i, j] - best_low[j]), ZERO, most)
                numbers[part, i] = uint8(0) if flat[j] else uint8(number)
            total = ZERO
            for i in range(n):
                total += w[i, j]
            sums[part] = total


@compiled
def _search_around_zero(parts: Float32, importance: Float32, most: float32, scales: Float32, numbers: Bytes) -> None:
    """Scale and numbers, ``most`` added to each, of each part (P, 16): ``make_qx_quants``; weights: squares or ``importance``."""
    count, n = parts.shape
    x, w = np.empty((n, LANES), float32), np.empty((n, LANES), float32)
    largest, size = np.empty(LANES, float32), np.empty(LANES, float32)
    inverse, sum_lx, sum_l2 = np.empty(LANES, float32), np.empty(LANES, float32), np.empty(LANES, float32)
    scale, best, best_inverse = np.empty(LANES, float32), np.empty(LANES, float32), np.empty(LANES, float32)
    for start in range(0, count, LANES):
        here = min(LANES, count - start)
        for j in range(LANES):
            part = start + min(j, here - 1)
            column = part * n % len(importance) if len(importance) else 0
            for i in range(n):
                x[i, j] = parts[part, i]
                w[i, j] = importance[column + i] if len(importance) else x[i, j] * x[i, j]
        find_largest(x, largest, size)
        for j in range(LANES):
            inverse[j] = -most / largest[j]
        _fit_around_zero(x, w, inverse, most, sum_lx, sum_l2)
        for j in range(LANES):
            scale[j] = sum_lx[j] / sum_l2[j] if sum_l2[j] != ZERO else ZERO
            best[j], best_inverse[j] = scale[j] * sum_lx[j], inverse[j]
        for trial in range(-9, 10):
            if trial == 0:
                continue
            for j in range(LANES):
                inverse[j] = -(most + float32(0.1) * float32(trial)) / largest[j]
            _fit_around_zero(x, w, inverse, most, sum_lx, sum_l2)
            for j in range(LANES):
                if sum_l2[j] > ZERO and sum_lx[j] * sum_lx[j] > best[j] * sum_l2[j]:
                    scale[j] = sum_lx[j] / sum_l2[j]
                    best[j], best_inverse[j] = scale[j] * sum_lx[j], inverse[j]
        for j in range(here):
            empty = size[j] < TINY
            scales[start + j] = ZERO if empty else scale[j]
            for i in range(n):
                number = _rounded(best_inverse[j] * x[i, j], -most, most - ONE)
                numbers[start + j, i] = uint8(0) if empty else uint8(number + most)


@compiled
def _fit_around_zero(x: Float32, w: Float32, inverse: Float32, most: float32, sum_lx: Float32, sum_l2: Float32) -> None:
    """With the numbers l that ``inverse`` (lanes,) makes of ``x`` (n, lanes): Σ w x l and Σ w l² (lanes,)."""
    for j in range(LANES):
        sum_lx[j], sum_l2[j] = ZERO, ZERO
    for i in range(len(x)):
        for j in range(LANES):
            number = _rounded(inverse[j] * x[i, j], -most, most - ONE)
            sum_lx[j] += w[i, j] * x[i, j] * number
            sum_l2[j] += w[i, j] * number * number


@compiled
def _search_positive(values: Float32, sums: Float32, whole: Bytes, found: Float32) -> None:
    """Whole numbers of ``values`` (N, 8), and what they are to be multiplied by (N, 1): ``make_qp_quants``; weights: ``sums``.

    First the best of nine scales, then number after number is moved where that lessens the error.
    """
    most = float32(63)
    for block in range(len(values)):
        x, w, q = values[block], sums[block], whole[block]
        top = ZERO
        for i in range(len(x)):
            top = max(x[i], top)
        if top < TINY:
            for i in range(len(q)):
                q[i] = uint8(0)
            found[block, 0] = ZERO
            continue
        inverse, best = most / top, ZERO
        for i in range(len(x)):
            q[i] = uint8(np.int32(np.rint(inverse * x[i])))
            off = x[i] - ONE / inverse * float32(q[i])
            best += w[i] * off * off
        for trial in range(-4, 5):
            if trial == 0:
                continue
            other, error = (float32(0.1) * float32(trial) + most) / top, ZERO
            for i in range(len(x)):
                off = x[i] - ONE / other * min(most, np.rint(other * x[i]))
                error += w[i] * off * off
            if error < best:
                best, inverse = error, other
        sum_lx, sum_l2 = ZERO, ZERO
        for i in range(len(x)):
            number = min(most, np.rint(inverse * x[i]))
            q[i] = uint8(np.int32(number))
            sum_lx += w[i] * x[i] * number
            sum_l2 += w[i] * number * number
        for _round in range(5):
            changed = False
            for i in range(len(x)):
                lx = sum_lx - w[i] * x[i] * float32(q[i])
                l2 = sum_l2 - w[i] * float32(q[i]) * float32(q[i])
                if lx > ZERO and l2 > ZERO:
                    number = min(most, np.rint(x[i] * l2 / lx))
                    if number != float32(q[i]):
                        lx += w[i] * x[i] * number
                        l2 += w[i] * number * number
                        if lx * lx * sum_l2 > sum_lx * sum_lx * l2:
                            q[i] = uint8(np.int32(number))
                            sum_lx, sum_l2, changed = lx, l2, True
            if not changed:
                break
        found[block, 0] = sum_lx / sum_l2 if sum_l2 > ZERO else ZERO


@compiled
def _round_with_shift(parts: Float32, size: Float32, shift: Float32, most: float32, numbers: Bytes) -> None:
    """Numbers 0 … ``most`` of each part once its scale and minimum are whole; where its scale became 0 they stay."""
    for part in range(len(parts)):
        if size[part] != ZERO:
            for i in range(parts.shape[1]):
                numbers[part, i] = uint8(_rounded((parts[part, i] + shift[part]) / size[part], ZERO, most))


@compiled
def _round_with_scale(parts: Float32, size: Float32, most: float32, numbers: Bytes) -> None:
    """The same for numbers −``most`` … ``most`` − 1, ``most`` added to each."""
    for part in range(len(parts)):
        if size[part] != ZERO:
            for i in range(parts.shape[1]):
                numbers[part, i] = uint8(_rounded(parts[part, i] / size[part], -most, most - ONE) + most)
