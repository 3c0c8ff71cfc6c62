"""The loss in chunks and tiles against torch's cross-entropy over all logits at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from afina.train import loss
from afina.train.loss import Head, chunk_rows, summed_loss

ROWS, WIDTH, WORDS = 50, 24, 40
CAP = 3.0


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 17 rows, 17 and 16; tiles of 5."""
    monkeypatch.setattr(loss, "CHUNK_BYTES", 20 * WORDS * 4)
    monkeypatch.setitem(loss.TILE_BYTES, "cpu", 5 * WORDS * 4)


def tensors(dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    """Hidden states, weight and bias that need gradients, and targets."""
    generator = torch.Generator().manual_seed(3)
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in ((ROWS, WIDTH), (WORDS, WIDTH), (WORDS,))]
    return [tensor.requires_grad_() for tensor in made], torch.randint(WORDS, (ROWS,), generator=generator)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("softcap", [None, CAP])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_loss_and_every_gradient_are_torchs(softcap: float | None, scale: float) -> None:
    (hidden, weight, bias), targets = tensors()
    found = summed_loss(hidden, Head(weight, bias, scale, softcap), targets)
    gradients = torch.autograd.grad(found, [hidden, weight, bias])
    logits = (hidden @ weight.t() + bias) * scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    wanted = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, [hidden, weight, bias]), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("small_pieces")
def test_bfloat16_is_within_its_rounding() -> None:
    """Logits are rounded once, and their gradients once: either by at most half of 2⁻⁷ of themselves."""
    (hidden, weight, _bias), targets = tensors(torch.bfloat16)
    found = summed_loss(hidden, Head(weight), targets)
    (gradient,) = torch.autograd.grad(found, [hidden])
    exact = hidden.detach().double().requires_grad_()
    wanted = F.cross_entropy(exact @ weight.detach().double().t(), targets, reduction="sum")
    (true,) = torch.autograd.grad(wanted, [exact])
    assert found.item() == pytest.approx(wanted.item(), rel=2**-7)
    assert (gradient - true).norm() < 2**-6 * true.norm()


def test_without_gradients_it_is_the_same_and_hidden_states_are_left_alone() -> None:
    (hidden, weight, _bias), targets = tensors()
    before = hidden.detach().clone()
    with torch.no_grad():
        quiet = summed_loss(hidden, Head(weight), targets)
    assert quiet == summed_loss(hidden, Head(weight), targets)
    assert torch.equal(hidden, before)


@pytest.mark.parametrize(("rows", "wanted"), [(1, 1), (20, 20), (21, 11), (50, 17), (60, 20)])
def test_chunks_are_of_equal_size(rows: int, wanted: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "CHUNK_BYTES", 20 * WORDS * 4)
    assert chunk_rows(rows, WORDS, 4) == wanted
