"""NF4: the codes and scales that bitsandbytes writes, bit for bit, and the weights that it reads out of them."""

from __future__ import annotations

import bitsandbytes.functional
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from afina.core.errors import ResourceError
from afina.model import nf4

SHAPES = [(1536, 576), (100, 30), (7, 10), (520, 1024)]  # whole blocks, a part of one, less than one, many scales


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_scales_and_decoded_weights_are_those_of_bitsandbytes(shape: tuple[int, int], dtype: torch.dtype) -> None:
    for seed, size in enumerate((0.02, 1.0, 5.0)):
        weight = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size).to(dtype)
        weight[:2] = 0
        codes, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
        ours = nf4.encode(weight)
        assert torch.equal(ours.codes[: codes.numel()], codes.view(-1))
        assert torch.equal(ours.scale_codes, state.absmax)
        assert torch.equal(ours.scale_scales, state.state2.absmax)
        assert torch.equal(ours.scale_mean[0], state.offset)
        assert torch.equal(ours.levels, state.state2.code)
        decoded, theirs = nf4.decode(ours, shape, dtype), bitsandbytes.functional.dequantize_4bit(codes, state)
        # its float16 kernel for AVX-512 rounds scale and level before it multiplies them
        if weight.numel() % nf4.BLOCK == 0:  # what a GPU's weights are decoded by; it is there for a CPU as well
            assert torch.equal(nf4._decode_by_kernels(ours, shape, dtype), theirs)
        assert torch.equal(decoded, theirs) or (dtype == torch.float16 and torch.allclose(decoded, theirs, rtol=2**-9))


def test_a_weight_takes_a_little_more_than_four_bits() -> None:
    parts = nf4.encode(torch.randn(2048, 2048))
    assert sum(part.nbytes for part in parts) * 8 / 2048**2 == pytest.approx(4.13, abs=0.01)


def test_only_a_gpu_needs_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nf4, "find_spec", lambda _name: None)
    nf4.require_nf4(torch.device("cpu"))
    with pytest.raises(ResourceError, match="needs the package bitsandbytes on a GPU"):
        nf4.require_nf4(torch.device("cuda"))


def test_a_dry_run_s_weight_has_parts_of_the_same_sizes() -> None:
    weight = torch.randn(300, 1000)
    with FakeTensorMode():
        pretended = nf4.encode(torch.empty(300, 1000))
    assert [(part.shape, part.dtype) for part in pretended] == [(part.shape, part.dtype) for part in nf4.encode(weight)]
