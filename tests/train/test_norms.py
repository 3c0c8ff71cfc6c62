"""Norms in few passes against the families' own, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.models.gemma2.modeling_gemma2 import Gemma2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from afina.train import norms
from afina.train.norms import join_norms

WIDTH = 48
KINDS = [LlamaRMSNorm, Qwen3RMSNorm, Phi3RMSNorm, Gemma2RMSNorm]


def norm_of(kind: type[nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    norm = kind(WIDTH, 1e-5)
    nn.init.normal_(norm.weight, 0.5, 0.3, generator=torch.Generator().manual_seed(1))  # type: ignore[arg-type]
    return norm.to(dtype).requires_grad_(False)


def tried(norm: nn.Module, dtype: torch.dtype, shape: tuple[int, ...] = (1, 5, 7, WIDTH)) -> tuple[Tensor, Tensor]:
    """What comes out, and the gradient of what went in."""
    generator = torch.Generator().manual_seed(2)
    x, dy = (torch.randn(shape, generator=generator).to(dtype) for _each in range(2))
    y: Tensor = norm(x.requires_grad_())
    y.backward(dy)
    assert x.grad is not None
    return y.detach(), x.grad


@pytest.fixture(params=[1, 4 * WIDTH, norms._AT_ONCE["cpu"]], ids=["a row", "four rows", "all"])
def at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(norms._AT_ONCE, "cpu", request.param)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("kind", KINDS)
def test_values_and_gradients_are_the_family_s_own(kind: type[nn.Module]) -> None:
    wanted = tried(norm_of(kind), torch.float32)
    norm = norm_of(kind)
    join_norms(norm)
    assert "forward" in vars(norm)
    torch.testing.assert_close(tried(norm, torch.float32), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_in_bfloat16_it_is_no_further_from_the_truth_than_the_family_s_own(kind: type[nn.Module]) -> None:
    norm = norm_of(kind, torch.bfloat16)
    generator = torch.Generator().manual_seed(2)
    x, dy = (torch.randn((1, 5, 7, WIDTH), generator=generator).to(torch.bfloat16).double() for _each in range(2))
    weight = norm.weight.double() + (1 if kind is Gemma2RMSNorm else 0)  # type: ignore[operator]
    y = x.requires_grad_() / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
    (dx,) = torch.autograd.grad(y, x, dy)
    own = tried(norm, torch.bfloat16)
    join_norms(norm)
    found = tried(norm, torch.bfloat16)
    for true, theirs, ours in zip((y.detach(), dx), own, found, strict=True):
        assert off(ours, true) <= min(off(theirs, true), 2**-8)


def off(tensor: Tensor, true: Tensor) -> float:
    return float((tensor.double() - true).norm() / true.norm())


def test_what_is_read_is_left_as_it_is() -> None:
    norm = norm_of(LlamaRMSNorm)
    join_norms(norm)
    x, dy = torch.randn(3, WIDTH), torch.randn(3, WIDTH)
    before = x.clone(), dy.clone(), norm.weight.clone()  # type: ignore[operator]
    norm(x.requires_grad_()).backward(dy)
    torch.testing.assert_close((x.detach(), dy, norm.weight), before, rtol=0, atol=0)


def test_a_weight_that_is_trained_gets_its_gradient() -> None:
    norm = norm_of(LlamaRMSNorm).requires_grad_(True)
    join_norms(norm)
    norm(torch.randn(3, WIDTH)).sum().backward()
    assert norm.weight.grad is not None


def test_another_formula_by_such_a_name_is_left_alone() -> None:
    class HalvedRMSNorm(LlamaRMSNorm):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return super().forward(hidden_states) / 2

    class PairRMSNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(WIDTH))
            self.eps = 1e-5

        def forward(self, x: Tensor, gate: Tensor) -> Tensor:
            return x * gate

    model = nn.ModuleList([HalvedRMSNorm(WIDTH), PairRMSNorm(), nn.LayerNorm(WIDTH)])
    join_norms(model)
    assert not any("forward" in vars(module) for module in model)


def test_a_dry_run_keeps_the_input_and_a_number_a_row() -> None:
    with FakeTensorMode():
        norm = LlamaRMSNorm(WIDTH).requires_grad_(False)
        join_norms(norm)
        kept: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            kept.append(tensor)
            return tensor

        x = torch.empty(10, WIDTH, dtype=torch.bfloat16, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            y = norm(x)
        y.sum().backward()
        assert y.shape == x.shape
        assert sorted(tuple(tensor.shape) for tensor in kept) == [(10, 1), (10, WIDTH), (WIDTH,)]
