"""NF4 with double quantization, as QLoRA (Dettmers et al., 2023) defines it and bitsandbytes writes it, bit for bit.

64 weights      → 64 codes of 4 bits, two a byte (the first one in the upper half), times one scale, their largest absolute value
256 such scales → 256 codes of 8 bits, times one scale of theirs, after the mean of all scales was taken away

About 4.13 bits a weight. In plain torch, and so on every device and on fake tensors; on CUDA bitsandbytes' kernel decodes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn import functional as F

from afina.core.errors import ResourceError
from afina.core.translation import _

BLOCK, SCALE_BLOCK = 64, 256
_PLACES = 65535
_AT_ONCE = 2**18  # weights encoded at once, whole blocks: what is needed meanwhile stays small
_SMALLEST = 1e-38  # a block of zeros has this scale
# The quantiles of a normal distribution (QLoRA, appendix E); the largest is 1.
_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
    -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class NF4(NamedTuple):
    """A weight in NF4. ``pairs`` and ``levels`` are tables, here because they must lie where the codes lie."""

    codes: Tensor  # (blocks · 32,) uint8
    scale_codes: Tensor  # (blocks,) uint8
    scale_scales: Tensor  # (⌈blocks / 256⌉,) float32
    scale_mean: Tensor  # (1,) float32
    pairs: Tensor  # (256,) int64: the two float32 that a byte of codes stands for, side by side
    levels: Tensor  # (256,) float32: what a code of a scale stands for


def require_nf4(device: torch.device) -> None:
    """Raises ResourceError, with the command that mends it, where a CUDA device has no kernel for NF4."""
    if device.type == "cuda" and find_spec("bitsandbytes") is None:
        raise ResourceError(
            _("adapter.quantize is nf4, which needs the package bitsandbytes on a GPU"),
            fix='pip install "afina[qlora]"  (or --set adapter.quantize=none)',
        )


def encode(weight: Tensor) -> NF4:
    """The NF4 form of ``weight``, of any shape; the last block is filled up with zeros."""
    flat = weight.detach().reshape(-1)
    return _room(flat) if isinstance(flat, FakeTensor) else encode_stretches(flat.split(_AT_ONCE), len(flat), flat.device)


def encode_stretches(stretches: Iterable[Tensor], count: int, device: torch.device) -> NF4:
    """The same of ``count`` weights that come as stretches (N,) one after the other, each but the last one of whole blocks."""
    levels = torch.tensor(_LEVELS, device=device)
    scales = torch.empty(-(-count // BLOCK), dtype=torch.float32, device=device)
    codes = torch.empty(len(scales) * BLOCK // 2, dtype=torch.uint8, device=device)
    at = 0
    for stretch in stretches:
        of_codes, of_scales = _encode_blocks(stretch, levels)
        scales[at : at + len(of_scales)] = of_scales
        codes[at * BLOCK // 2 :][: len(of_codes)] = of_codes
        at += len(of_scales)
    mean = scales.mean()
    scale_codes, scale_scales = _encode_scales(scales - mean)
    pairs = torch.stack([levels.repeat_interleave(16), levels.repeat(16)], 1)  # (256, 2)
    return NF4(codes, scale_codes, scale_scales, mean.view(1), pairs.view(torch.int64).view(-1), _scale_levels(device))


def _room(flat: FakeTensor) -> NF4:
    """A dry run's: what the parts take, without the thousand operations that make them of nothing."""
    blocks = -(-len(flat) // BLOCK)
    return NF4(
        codes=flat.new_empty(blocks * BLOCK // 2, dtype=torch.uint8),
        scale_codes=flat.new_empty(blocks, dtype=torch.uint8),
        scale_scales=flat.new_empty(-(-blocks // SCALE_BLOCK), dtype=torch.float32),
        scale_mean=flat.new_empty(1, dtype=torch.float32),
        pairs=flat.new_empty(256, dtype=torch.int64),
        levels=flat.new_empty(256, dtype=torch.float32),
    )


def _encode_blocks(flat: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Codes, two a byte, and scales of a stretch of weights."""
    blocks = F.pad(flat.float(), (0, -len(flat) % BLOCK)).view(-1, BLOCK)
    scales = blocks.abs().amax(1)
    scaled = torch.clamp(blocks * (1.0 / scales.clamp(min=_SMALLEST))[:, None], -1, 1)
    codes = torch.bucketize(scaled.view(-1), _middles(levels), out_int32=True).to(torch.uint8)
    return (codes[::2] << 4) | codes[1::2], scales


def decode(weight: NF4, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The dense weight (out, in) that ``weight`` stands for, computed in float32 and rounded once."""
    if weight.codes.is_cuda:
        return _decode_by_kernels(weight, shape, dtype)
    return decode_stretch(weight, 0, shape[0] * shape[1]).view(shape).to(dtype)


def decode_stretch(weight: NF4, start: int, stop: int) -> Tensor:
    """Numbers ``start`` to ``stop`` of the weight that ``weight`` stands for, row after row, as float32 (N,)."""
    first, last = start // BLOCK, -(-stop // BLOCK)
    scales = _decode_scales(weight)[first:last]
    codes = weight.codes[first * BLOCK // 2 : last * BLOCK // 2]
    values = weight.pairs.index_select(0, codes.int()).view(torch.float32).view(-1, BLOCK)
    values.mul_(scales[:, None])
    return values.view(-1)[start - first * BLOCK : stop - first * BLOCK]


def _decode_by_kernels(weight: NF4, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The same by bitsandbytes' kernels: three of them, where plain operations would be a dozen and keep a fast GPU waiting."""
    _load_kernels()
    kernels = torch.ops.bitsandbytes
    scales = kernels.dequantize_blockwise(weight.scale_codes, weight.scale_scales, weight.levels, SCALE_BLOCK, torch.float32)
    dense: Tensor = kernels.dequantize_4bit(weight.codes, scales.add_(weight.scale_mean), BLOCK, "nf4", shape, dtype)
    return dense


def _encode_scales(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (blocks,) and their own scales, one for 256."""
    blocks = F.pad(centred, (0, -len(centred) % SCALE_BLOCK)).view(-1, SCALE_BLOCK)
    scales = blocks.abs().amax(1)
    scaled = torch.clamp(blocks * (1.0 / scales.clamp(min=_SMALLEST))[:, None], -1, 1)
    # bitsandbytes looks the nearest level up in a table of 65,536 places, and so rounds to one of them first
    places = ((scaled + 1.0) * 0.5 * _PLACES + 0.5).int()
    rounded = (2.0 * places) / _PLACES - 1.0
    codes = torch.bucketize(rounded.view(-1)[: len(centred)], _middles(_scale_levels(centred.device)), out_int32=True)
    return codes.to(torch.uint8), scales


def _decode_scales(weight: NF4) -> Tensor:
    """The scale of every block of 64 weights, float32."""
    values = weight.levels.index_select(0, weight.scale_codes.int())
    blocks = F.pad(values, (0, -len(values) % SCALE_BLOCK)).view(-1, SCALE_BLOCK) * weight.scale_scales[:, None]
    return blocks.view(-1)[: len(values)] + weight.scale_mean


def _middles(levels: Tensor) -> Tensor:
    """Where the nearest level changes."""
    return (levels[:-1] + levels[1:]) / 2


def _scale_levels(device: torch.device) -> Tensor:
    """The 256 levels of dynamic 8-bit numbers (Dettmers, 2015): seven decades, each twice as finely cut as the one below it, with
    both signs; zero and one.
    """
    decades = [
        10.0 ** (decade - 6) * _middles(torch.linspace(0.1, 1, 2**decade + 1, device=device)) for decade in range(7)
    ]  # 1, 2, … 64 levels
    positive = torch.cat(decades)
    return torch.cat([-positive, positive, torch.tensor([0.0, 1.0], device=device)]).sort().values


@cache
def _load_kernels() -> None:
    """Registers bitsandbytes' kernels. Its advice to install one for 4-bit products is not for us: we use none."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import_module("bitsandbytes")
