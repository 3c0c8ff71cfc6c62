"""A training on an NVIDIA GPU: the CPU's loss and gradients, the same bits each time, every way to save memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import bitsandbytes.functional
import pytest
import torch
from torch.nn import functional as F

from afina.core.events import Metric
from afina.data.pack import pack
from afina.model import nf4
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora, trained_parameters
from afina.recipe.recipe import Adapter
from afina.train.loss import Head, chunk_rows, summed_loss
from afina.train.repeatable import repeatable
from afina.train.saving import Saving, apply_saving
from afina.train.step import packed_loss, prepare
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.training import CPU, made_up_rows, run_training, steps_in, weights_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("default"),  # of kernels and compilers, which differ from card to card
]
CUDA = torch.device("cuda")
# A bfloat16 has 8 bits: each of some dozen roundings along the way moves a number by at most 1/256 of itself, and they do not all
# point the same way.
LOSS, GRADIENT = 2e-2, 0.1


def loss_and_gradients(
    base: Path,
    device: torch.device,
    dtype: torch.dtype,
    adapter: Adapter,
    *,
    shared: int = 0,
    compiled: bool = False,
    saving: Saving | None = None,
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss a token of one packed micro-batch, and the gradients on the CPU in float32."""
    model = load_model(resolve_base(str(base)), dtype=dtype, device=device, quantize=adapter.quantize)
    add_lora(model, adapter, seed=3)
    assert prepare(model, compiled=compiled) == []
    apply_saving(model, saving or Saving())
    parameters = trained_parameters(model)
    for number, (name, parameter) in enumerate(parameters.items()):
        if name.endswith("lora_B.weight"):
            noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.data += 0.05 * noise.to(parameter)
        parameter.requires_grad_(True)
    batch = pack(made_up_rows(6, shared=shared), share=bool(shared))
    model.train()
    with repeatable(device):
        loss = packed_loss(model, batch) / len(batch.targets)
        loss.backward()
    gradients = {name: parameter.grad.float().cpu() for name, parameter in parameters.items() if parameter.grad is not None}
    assert gradients.keys() == parameters.keys()
    return loss.item(), gradients


def largest_distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Of a gradient, as a share of its norm."""
    return max(float((one[name] - other[name]).norm() / other[name].norm()) for name in other)


@pytest.mark.parametrize("shared", [0, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gpu_s_loss_and_gradients_are_the_cpu_s(family: str, shared: int, tmp_path: Path) -> None:
    base = write_model(tmp_path, family)
    adapter = Adapter(rank=4, alpha=6)
    wanted, gradients = loss_and_gradients(base, CPU, torch.float32, adapter, shared=shared)
    full, full_gradients = loss_and_gradients(base, CUDA, torch.float32, adapter, shared=shared)
    half, half_gradients = loss_and_gradients(base, CUDA, torch.bfloat16, adapter, shared=shared)
    assert full == pytest.approx(wanted, rel=1e-5)
    assert largest_distance(full_gradients, gradients) < 1e-4
    assert half == pytest.approx(wanted, rel=LOSS)
    assert largest_distance(half_gradients, gradients) < GRADIENT


@pytest.mark.parametrize(
    "changes",
    [{"quantize": "nf4"}, {"quantize": "int8"}, {"dora": True}, {"rslora": True, "quantize": "nf4"}],
    ids=str,
)
def test_every_kind_of_adapter_and_of_frozen_weight_is_the_cpu_s(changes: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path)
    adapter = Adapter(rank=4, alpha=6, **changes)
    wanted, gradients = loss_and_gradients(base, CPU, torch.float32, adapter)
    full, full_gradients = loss_and_gradients(base, CUDA, torch.float32, adapter)
    half, _gradients = loss_and_gradients(base, CUDA, torch.bfloat16, adapter)
    assert full == pytest.approx(wanted, rel=1e-4)
    assert largest_distance(full_gradients, gradients) < 1e-3
    assert half == pytest.approx(wanted, rel=LOSS)


@pytest.mark.parametrize("saving", [Saving("selective"), Saving("full", 16), Saving("offload", 16)], ids=str)
def test_what_is_computed_again_changes_nothing(saving: Saving, tmp_path: Path) -> None:
    base, adapter = write_model(tmp_path), Adapter(rank=4, alpha=6, quantize="nf4", dropout=0.1)
    torch.manual_seed(5)
    wanted, gradients = loss_and_gradients(base, CUDA, torch.bfloat16, adapter, shared=20)
    torch.manual_seed(5)
    loss, found = loss_and_gradients(base, CUDA, torch.bfloat16, adapter, shared=20, saving=saving)
    assert loss == pytest.approx(wanted, rel=LOSS)  # dropout draws again; tiles draw in another order
    assert found.keys() == gradients.keys()
    whole = adapter.model_copy(update={"dropout": 0.0})
    wanted, gradients = loss_and_gradients(base, CUDA, torch.bfloat16, whole, shared=20)
    loss, found = loss_and_gradients(base, CUDA, torch.bfloat16, whole, shared=20, saving=saving)
    assert loss == pytest.approx(wanted, rel=1e-3)
    assert largest_distance(found, gradients) < 2e-2


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_compiled_layers_change_nothing(quantize: Literal["none", "nf4"], tmp_path: Path) -> None:
    base, adapter = write_model(tmp_path), Adapter(rank=4, alpha=6, quantize=quantize)
    wanted, gradients = loss_and_gradients(base, CUDA, torch.float32, adapter)
    loss, found = loss_and_gradients(base, CUDA, torch.float32, adapter, compiled=True)
    assert loss == pytest.approx(wanted, rel=1e-5)
    assert largest_distance(found, gradients) < 1e-4


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_same_gradient_each_time_bit_for_bit(family: str, tmp_path: Path) -> None:
    base, adapter = write_model(tmp_path, family), Adapter(rank=4, alpha=6)
    found = [loss_and_gradients(base, CUDA, torch.bfloat16, adapter, shared=20) for _time in range(5)]
    for loss, gradients in found[1:]:
        assert loss == found[0][0]
        assert all(torch.equal(gradients[name], found[0][1][name]) for name in gradients)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_loss_of_many_chunks_and_tiles_is_torch_s(dtype: torch.dtype) -> None:
    rows, width, words = 300, 64, 128_256
    generator = torch.Generator().manual_seed(3)
    hidden, weight = (torch.randn(shape, generator=generator).to(CUDA, dtype) for shape in ((rows, width), (words, width)))
    targets = torch.randint(words, (rows,), generator=generator).to(CUDA)
    assert chunk_rows(rows, words, dtype.itemsize) < rows
    with repeatable(CUDA):
        found = summed_loss(hidden.requires_grad_(), Head(weight), targets)
        (gradient,) = torch.autograd.grad(found, [hidden])
    exact = hidden.detach().double().requires_grad_()
    wanted = F.cross_entropy(exact @ weight.double().t(), targets, reduction="sum")
    (true,) = torch.autograd.grad(wanted, [exact])
    rounding = 2**-6 if dtype == torch.bfloat16 else 1e-5
    assert found.item() == pytest.approx(wanted.item(), rel=rounding)
    assert (gradient - true).norm() < rounding * true.norm()


def test_nf4_is_the_cpu_s_and_bitsandbytes_own() -> None:
    weight = torch.randn(520, 1024, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    ours, theirs = nf4.encode(weight.to(CUDA)), nf4.encode(weight)
    codes, state = bitsandbytes.functional.quantize_4bit(
        weight.to(CUDA), blocksize=64, compress_statistics=True, quant_type="nf4"
    )
    # A mean is summed up in another order there, and a number that lies between two levels may go to either.
    for name, other in (("codes", codes.view(-1)), ("scale_codes", state.absmax)):
        found = getattr(ours, name).cpu()
        assert (found == getattr(theirs, name)).float().mean() > 0.999
        assert (found == other.cpu()).float().mean() > 0.999
    torch.testing.assert_close(ours.scale_mean.cpu(), theirs.scale_mean)
    decoded = nf4.decode(ours, (520, 1024), torch.bfloat16)
    again = nf4.decode(nf4.NF4(*(part.cpu() for part in ours)), (520, 1024), torch.bfloat16)
    torch.testing.assert_close(decoded.cpu(), again, rtol=2**-7, atol=0)
    assert (decoded == bitsandbytes.functional.dequantize_4bit(codes, state)).float().mean() > 0.99


@pytest.mark.parametrize(
    ("dtype", "optimizer", "adapter"),
    [
        (torch.bfloat16, "adamw", Adapter(rank=4, alpha=8)),
        (torch.float16, "adamw", Adapter(rank=4, alpha=8)),
        (torch.bfloat16, "adamw_8bit", Adapter(rank=64, alpha=64)),  # from 4,096 numbers on the moments have 8 bits
        (torch.bfloat16, "paged_adamw_8bit", Adapter(rank=64, alpha=64)),
        (torch.bfloat16, "adamw", Adapter(method="full")),
    ],
    ids=str,
)
def test_a_training_learns(dtype: torch.dtype, optimizer: str, adapter: Adapter, tmp_path: Path) -> None:
    seen: list[Any] = []
    rows = made_up_rows(24)
    run_training(
        write_model(tmp_path / "base"), tmp_path / "run", seen.append, adapter, dtype=dtype, device=CUDA, optimizer=optimizer,
        rows=rows, val_rows=rows[:4], epochs=12,
    )  # fmt: skip
    steps: list[Metric] = steps_in(seen)
    assert all(step.values["gradient_norm"] > 0 for step in steps[1:])
    assert steps[-1].values["loss"] < 0.8 * steps[0].values["loss"]
    assert all(tensor.isfinite().all() for tensor in weights_of(tmp_path / "run").values())


def test_a_training_killed_at_random_moments_ends_with_the_same_weights(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    command = [sys.executable, "-m", "tests.fakes.killed_trainings", str(base), str(tmp_path / "runs"), "3", "1", "lora", "cuda"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 3
    assert found["resumed"] > 0
    assert found["equal"] == found["finished"] > 0
    print(found)
