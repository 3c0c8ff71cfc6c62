"""The LoRA layer's own gradient, against autograd's on the plain formula, in every surrounding that a training puts it into."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from afina.model.frozen import AnyLinear, FrozenLinear, Kind, decode, form
from afina.model.lora import LoRALinear

TOKENS, INSIDE, OUTSIDE, RANK, SCALE = 24, 64, 48, 4, 1.5
KINDS: tuple[Kind, ...] = ("dense", "int8", "nf4")


def make_layer(kind: Kind | None = None, *, bias: bool = True, dropout: float = 0.0, stored: torch.dtype = torch.float32) -> Any:
    """A layer whose update is not zero; ``kind`` None is torch's own linear layer."""
    torch.manual_seed(0)
    dense = nn.Linear(INSIDE, OUTSIDE, bias=bias).requires_grad_(False)
    frozen: AnyLinear = dense if kind is None else FrozenLinear(dense.weight.to(stored), kind, dense.bias)
    layer = LoRALinear(frozen, RANK, SCALE, dropout)
    nn.init.normal_(layer.a, std=0.2)
    nn.init.normal_(layer.b, std=0.2)
    return layer


def plain(layer: LoRALinear, x: Tensor) -> Tensor:
    """The formula as one would write it, with the same noise."""
    kind, shape, parts = form(layer.frozen)
    inner = F.dropout(x, layer.dropout, layer.training) if layer.dropout else x
    y = F.linear(x, decode(kind, shape, parts, x.dtype), layer.frozen.bias)
    return y + layer.scale * F.linear(F.linear(inner, layer.a), layer.b)


def gradients(layer: LoRALinear, run: Any, x: Tensor) -> list[Tensor]:
    """The value and what flows back into x, A and B."""
    given = x.detach().requires_grad_(x.requires_grad)
    layer.zero_grad()
    torch.manual_seed(5)
    y = run(given)
    (y * torch.linspace(-1, 1, OUTSIDE)).square().sum().backward()
    assert layer.a.grad is not None
    assert layer.b.grad is not None
    assert all(parameter.grad is None for parameter in layer.frozen.parameters())
    return [y.detach(), layer.a.grad.clone(), layer.b.grad.clone(), *([] if given.grad is None else [given.grad])]


def tokens(*shape: int, needs_gradient: bool = True) -> Tensor:
    return torch.randn(*(shape or (2, TOKENS, INSIDE)), generator=torch.Generator().manual_seed(2)).requires_grad_(needs_gradient)


def assert_equal(got: list[Tensor], wanted: list[Tensor]) -> None:
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_value_and_gradients_are_those_of_the_plain_formula(kind: Kind | None, bias: bool) -> None:
    layer, x = make_layer(kind, bias=bias), tokens()
    assert_equal(gradients(layer, layer, x), gradients(layer, lambda given: plain(layer, given), x))


def test_dropout_is_on_the_updates_side_only_and_off_in_eval_mode() -> None:
    layer, x = make_layer(dropout=0.3), tokens()
    wanted = gradients(layer, lambda given: plain(layer, given), x)
    assert_equal(gradients(layer, layer, x), wanted)
    layer.eval()
    still = gradients(layer, layer, x)
    assert_equal(still, gradients(layer, lambda given: plain(layer, given), x))
    assert (still[0] - wanted[0]).abs().max() > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("kind", [None, "nf4"])
def test_recomputed_activations_give_the_same_gradients(kind: Kind | None, dropout: float) -> None:
    layer, x = make_layer(kind, dropout=dropout), tokens()

    def recomputed(given: Tensor) -> Any:
        return checkpoint(lambda inner: layer(inner).tanh(), given, use_reentrant=False)

    assert_equal(gradients(layer, recomputed, x), gradients(layer, lambda given: layer(given).tanh(), x))


def test_an_input_that_needs_no_gradient_costs_none() -> None:
    layer, x = make_layer("nf4"), tokens(needs_gradient=False)
    assert_equal(gradients(layer, layer, x), gradients(layer, lambda given: plain(layer, given), x))


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_weight_stored_in_half_the_bytes_computes_as_its_exact_values(stored: torch.dtype) -> None:
    layer, x = make_layer("dense", stored=stored), tokens()
    assert form(layer.frozen)[2][0].dtype == stored
    assert_equal(gradients(layer, layer, x), gradients(layer, lambda given: plain(layer, given), x))


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_bfloat16_computes_in_bfloat16_and_leaves_float32_gradients(kind: Kind | None) -> None:
    layer = make_layer(kind)
    wanted = gradients(layer, lambda given: plain(layer, given), tokens())
    if kind is None:
        layer.frozen.to(torch.bfloat16)
    else:
        layer.frozen.bias.data = layer.frozen.bias.data.bfloat16()
    got = gradients(layer, layer, tokens().bfloat16())
    assert [part.dtype for part in got] == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    for ours, exact in zip(got, wanted, strict=True):
        # about ten roundings of 2⁻⁸ lie between the two, and they add up like a random walk
        assert (ours.float() - exact).norm() < 10**0.5 * 2**-8 * exact.norm()


@pytest.mark.parametrize("kind", [None, *KINDS])
def test_autograd_keeps_no_dense_copy(kind: Kind | None) -> None:
    """What is kept is the input, the R numbers a token, and tensors that are there anyway."""
    layer, x = make_layer(kind, stored=torch.bfloat16), tokens()
    own = {parameter.data_ptr() for parameter in layer.parameters()} | {x.data_ptr()}
    kept: list[Tensor] = []

    def keep(saved: Tensor) -> Tensor:
        kept.append(saved)
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        layer(x)
    assert sum(saved.numel() for saved in kept if saved.data_ptr() not in own) == 2 * TOKENS * RANK


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_on_fake_tensors_and_tells_the_real_shapes(kind: Kind, more: bool) -> None:
    """``more``: with PiSSA's start and DoRA's magnitude."""
    with FakeTensorMode():
        frozen = FrozenLinear(torch.empty(OUTSIDE, INSIDE, dtype=torch.bfloat16), kind, torch.empty(OUTSIDE))
        layer = LoRALinear(frozen, RANK, SCALE, 0.1)
        if more:
            layer.start_from_directions()
            layer.add_magnitude()
        x = torch.empty(2, TOKENS, INSIDE, requires_grad=True)
        y = layer(x)
        y.sum().backward()
        assert layer.a.grad is not None
        assert layer.b.grad is not None
        assert x.grad is not None
        shapes = [tuple(part.shape) for part in (y, layer.a.grad, layer.b.grad, x.grad, *frozen.parts)]
    real = make_layer(kind)
    parts = [tuple(part.shape) for part in real.frozen.parts]
    assert shapes == [(2, TOKENS, OUTSIDE), (RANK, INSIDE), (OUTSIDE, RANK), (2, TOKENS, INSIDE), *parts]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "dropout", "more"),
    [
        (None, 0.0, False), ("dense", 0.0, False), ("int8", 0.0, False), ("nf4", 0.0, False), (None, 0.3, False),
        (None, 0.0, True), ("nf4", 0.3, True),
    ],
)  # fmt: skip
def test_a_compiled_layer_has_no_break_and_the_same_gradients(kind: Kind | None, dropout: float, more: bool) -> None:
    """``more``: with PiSSA's start and DoRA's magnitude."""
    layer, x = make_layer(kind, dropout=dropout, stored=torch.bfloat16), tokens()
    if more:
        layer.start_from_directions()
        layer.add_magnitude()
    torch._dynamo.reset()
    torch._inductor.config.fallback_random = True  # the compiler's own noise is another one
    try:
        compiled = torch.compile(layer, fullgraph=True)
        assert_equal(gradients(layer, compiled, x), gradients(layer, layer, x))
    finally:
        torch._inductor.config.fallback_random = False
