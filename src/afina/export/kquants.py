"""llama.cpp's Q4_K, Q5_K and Q6_K in torch, for systems whose prebuilt llama.cpp does not export its own (Windows), or a GPU.

A block of 256 numbers is cut into 8 parts of 32 (Q4_K, Q5_K) or 16 of 16 (Q6_K). A part has a scale, and in the first two a
minimum; these are whole numbers of 6 or 8 bits, times one float16 for the block.

    Q4_K  x ≈ d · scale · q − dmin · min      q 0 … 15        144 bytes: d dmin | scales, mins (12) | q (128)
    Q5_K  the same                            q 0 … 31        176 bytes: d dmin | scales, mins (12) | high bits (32) | q (128)
    Q6_K  x ≈ d · scale · q                   q −32 … 31      210 bytes: low (128) | high (64) | scales (16) | d

Scales are searched, as there, among those that round in slightly different ways, for the least weighted squared error. Source:
``ggml-quants.c``. Sums are taken in another order than in C, so of two choices as good as each other now and then the other one
is taken; ``tests/export/test_kquants.py`` states how seldom.
"""

from __future__ import annotations

import torch
from gguf import GGMLQuantizationType as Type
from torch import Tensor

from afina.model.weights import Float32

BLOCK = 256
_MANY = 4096  # blocks at once
_TINY = 1e-15


def quantize_rows(rows: Float32, kind: Type, device: torch.device | str = "cpu") -> bytes:
    """``rows`` (N, columns), columns a multiple of 256, as the bytes of ``kind``."""
    blocks = torch.from_numpy(rows).reshape(-1, BLOCK)
    encode = {Type.Q4_K: _q4_k, Type.Q5_K: _q5_k, Type.Q6_K: _q6_k}[kind]
    pieces = [encode(piece.to(device, torch.float32)).cpu() for piece in blocks.split(_MANY)]
    return torch.cat(pieces).numpy().tobytes() if pieces else b""


def _q4_k(x: Tensor) -> Tensor:
    """(N, 256) → (N, 144) uint8."""
    d, dmin, packed, q = _with_minimum(x, most=15, first=-1.0, step=0.1, steps=20)
    pairs = q.reshape(-1, 4, 2, 32)  # 64 numbers share 32 bytes: the first half below, the second above
    low = (pairs[:, :, 0] | (pairs[:, :, 1] << 4)).reshape(-1, 128)
    return torch.cat([_half(d), _half(dmin), packed, low], dim=1)


def _q5_k(x: Tensor) -> Tensor:
    """(N, 256) → (N, 176) uint8."""
    d, dmin, packed, q = _with_minimum(x, most=31, first=-0.5, step=0.1, steps=15)
    pairs = q.reshape(-1, 4, 2, 32)
    low = ((pairs[:, :, 0] & 15) | ((pairs[:, :, 1] & 15) << 4)).reshape(-1, 128)
    high = torch.zeros_like(low[:, :32])
    for part, bits in enumerate((q >> 4).reshape(-1, 8, 32).unbind(1)):
        high |= bits << part
    return torch.cat([_half(d), _half(dmin), packed, high, low], dim=1)


def _q6_k(x: Tensor) -> Tensor:
    """(N, 256) → (N, 210) uint8."""
    parts = x.reshape(-1, 16, 16)
    scales, found = _symmetric_scales(parts)  # (N, 16), (N, 16, 16)
    places = scales.abs().argmax(dim=1, keepdim=True)  # the first of equal ones
    largest = scales.gather(1, places)  # (N, 1) with its sign
    empty = scales.abs().amax(dim=1) < _TINY  # (N,)
    inverse = torch.where(empty[:, None], 0.0, -128.0 / largest)
    d = torch.where(empty[:, None], 0.0, 1.0 / inverse).half()
    whole = _nearest(inverse * scales).clamp(max=127)  # (N, 16)
    step = d.float() * whole
    q = torch.where(step[..., None] != 0, _nearest(parts / _divisor(step)[..., None]).clamp(-32, 31), found)
    numbers = (q + 32).to(torch.uint8).reshape(-1, 2, 4, 32)  # halves of 128, quarters of 32
    low = torch.stack(
        [(numbers[:, :, 0] & 15) | ((numbers[:, :, 2] & 15) << 4), (numbers[:, :, 1] & 15) | ((numbers[:, :, 3] & 15) << 4)],
        dim=2,
    ).reshape(-1, 128)
    high = numbers[:, :, 0] >> 4
    for quarter in (1, 2, 3):
        high = high | ((numbers[:, :, quarter] >> 4) << (2 * quarter))
    result = torch.cat([low, high.reshape(-1, 64), whole.to(torch.int8).view(torch.uint8), _half(d)], dim=1)
    result[empty] = 0
    return result


def _with_minimum(x: Tensor, *, most: int, first: float, step: float, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``d``, ``dmin`` (N, 1) float16; scales and minima packed (N, 12) and numbers (N, 256), uint8."""
    parts = x.reshape(-1, 8, 32)
    weights = parts.square().mean(dim=-1, keepdim=True).sqrt() + parts.abs()
    scales, minima, found = _searched(parts, weights, most, first, step, steps)  # (N, 8) twice, (N, 8, 32)
    top_scale, top_minimum = scales.amax(dim=1, keepdim=True), minima.amax(dim=1, keepdim=True)
    whole_scales = _nearest(scales * torch.where(top_scale > 0, 63.0 / top_scale, 0.0)).clamp(max=63)
    whole_minima = _nearest(minima * torch.where(top_minimum > 0, 63.0 / top_minimum, 0.0)).clamp(max=63)
    d, dmin = (top_scale / 63.0).half(), (top_minimum / 63.0).half()
    size = d.float() * whole_scales
    shift = dmin.float() * whole_minima
    q = _nearest((parts + shift[..., None]) / _divisor(size)[..., None]).clamp(0, most)
    q = torch.where(size[..., None] != 0, q, found)
    packed = _pack_scales(whole_scales.to(torch.uint8), whole_minima.to(torch.uint8))
    return d, dmin, packed, q.to(torch.uint8).reshape(-1, BLOCK)


def _searched(parts: Tensor, weights: Tensor, most: int, first: float, step: float, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, minimum (as a positive number) and numbers of each part (…, 32): ``make_qkx2_quants``.

    Each trial rounds with another scale, then takes the scale and minimum that fit the rounded numbers best (least squares).
    """
    low = parts.amin(dim=-1).clamp(max=0)
    high = parts.amax(dim=-1)
    flat = high == low
    sum_w = weights.sum(-1)
    sum_x = (weights * parts).sum(-1)
    inverse = most / torch.where(flat, 1.0, high - low)
    scale = 1 / inverse
    numbers = _nearest(inverse[..., None] * (parts - low[..., None])).clamp(0, most)
    found = numbers
    best = (weights * (scale[..., None] * numbers + low[..., None] - parts).square()).sum(-1)
    for trial in range(steps + 1):
        inverse = (first + step * trial + most) / torch.where(flat, 1.0, high - low)
        numbers = _nearest(inverse[..., None] * (parts - low[..., None])).clamp(0, most)
        weighted = weights * numbers
        sum_l, sum_l2, sum_xl = weighted.sum(-1), (weighted * numbers).sum(-1), (weighted * parts).sum(-1)
        determinant = sum_w * sum_l2 - sum_l * sum_l
        solvable = determinant > 0
        safe = torch.where(solvable, determinant, 1.0)
        new_scale = (sum_w * sum_xl - sum_x * sum_l) / safe
        new_low = (sum_l2 * sum_x - sum_l * sum_xl) / safe
        above = new_low > 0
        new_scale = torch.where(above, sum_xl / torch.where(sum_l2 > 0, sum_l2, 1.0), new_scale)
        new_low = new_low.clamp(max=0)
        error = (weights * (new_scale[..., None] * numbers + new_low[..., None] - parts).square()).sum(-1)
        better = solvable & (error < best)
        best = torch.where(better, error, best)
        scale = torch.where(better, new_scale, scale)
        low = torch.where(better, new_low, low)  # the next trial starts from it, as llama.cpp's does
        found = torch.where(better[..., None], numbers, found)
    return torch.where(flat, 0.0, scale), 0.0 - low, torch.where(flat[..., None], 0.0, found)


def _symmetric_scales(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and numbers of each part of 16 around zero, −32 … 31: ``make_qx_quants`` with squares as weights."""
    most = 32
    magnitude = parts.abs()
    largest = parts.gather(-1, magnitude.argmax(dim=-1, keepdim=True))  # (N, 16, 1) with its sign
    empty = magnitude.amax(dim=-1) < _TINY
    largest = torch.where(empty[..., None], 1.0, largest)
    weights = parts.square()

    def rounded(inverse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        numbers = _nearest(inverse * parts).clamp(-most, most - 1)
        return numbers, (weights * parts * numbers).sum(-1), (weights * numbers * numbers).sum(-1)

    found, sum_lx, sum_l2 = rounded(-most / largest)
    scale = torch.where(sum_l2 > 0, sum_lx / torch.where(sum_l2 > 0, sum_l2, 1.0), 0.0)
    best = scale * sum_lx
    for trial in (number for number in range(-9, 10) if number):
        numbers, sum_lx, sum_l2 = rounded(-(most + 0.1 * trial) / largest)
        better = (sum_l2 > 0) & (sum_lx * sum_lx > best * sum_l2)
        scale = torch.where(better, sum_lx / torch.where(sum_l2 > 0, sum_l2, 1.0), scale)
        best = torch.where(better, scale * sum_lx, best)
        found = torch.where(better[..., None], numbers, found)
    return torch.where(empty, 0.0, scale), torch.where(empty[..., None], float(-most), found)


def _pack_scales(scales: Tensor, minima: Tensor) -> Tensor:
    """Eight scales and eight minima of six bits (N, 8) in twelve bytes (N, 12).

    bytes 0–3: scales 0–3, above them the top bits of scales 4–7; 4–7: the same of the minima; 8–11: the low halves of both.
    """
    first = scales[:, :4] | ((scales[:, 4:] >> 4) << 6)
    second = minima[:, :4] | ((minima[:, 4:] >> 4) << 6)
    third = (scales[:, 4:] & 15) | ((minima[:, 4:] & 15) << 4)
    return torch.cat([first, second, third], dim=1)


def _nearest(x: Tensor) -> Tensor:
    """Rounded, halves to even, as llama.cpp's ``nearest_int`` does."""
    return x.round()


def _divisor(x: Tensor) -> Tensor:
    return torch.where(x != 0, x, 1.0)


def _half(x: Tensor) -> Tensor:
    """Float16 (N, 1) as its bytes (N, 2)."""
    return x.half().contiguous().view(torch.uint8)
