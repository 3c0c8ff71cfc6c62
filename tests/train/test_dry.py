"""The dry run against itself with all layers, and against the memory of real tensors."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM

from afina.model.lora import target_names
from afina.recipe.recipe import Adapter
from afina.train import loss
from afina.train.dry import Batch, Setup, dry_run, parameters_of, run_layers
from afina.train.saving import Saving
from bench import plan as bench
from tests.fakes.models import _SIZES, FAMILIES

BATCH = Batch(tokens=96, longest=40, trained=60)


def setup_of(family: str, layers: int, kind: str = "cuda", **adapter: object) -> Setup:
    make, extra = FAMILIES[family]
    config = make(**{**_SIZES, **extra, "num_hidden_layers": layers}, vocab_size=320)
    return Setup(config, torch.float32, Adapter.model_validate({"rank": 4, **adapter}), kind)  # type: ignore[arg-type]


SAVINGS = [Saving(), Saving("selective"), Saving("full", mlp_tile=48), Saving("offload", mlp_tile=24)]


def assert_line_meets_whole(setup: Setup, saving: Saving) -> None:
    line, whole = dry_run(setup, BATCH, saving), run_layers(setup, BATCH, saving, setup.config.num_hidden_layers)
    assert line.worst.peak == whole.worst.peak
    assert (line.flops, line.forward_flops, line.ram) == (whole.flops, whole.forward_flops, whole.ram)
    assert sum(size for name, size in line.worst.by_category.items() if name != "ram") == line.worst.peak


@pytest.mark.parametrize("method", ["lora", "full"])
def test_saving_a_checkpoint_is_part_of_the_run_and_copies_nothing(method: Literal["lora", "full"]) -> None:
    """It takes the tensors together as they lie: weights, what is trained, and its moments, without gradients or activations."""
    parts = run_layers(setup_of("llama", 2, "cpu", method=method), BATCH, Saving(), 2).parts
    held = parts["saving"].by_category
    assert parts["saving"].peak < parts["update"].peak
    assert held["optimizer"] > 0
    assert held.get("gradients", 0) == held.get("checkpoint", 0) == 0


def test_a_line_through_few_layers_meets_the_run_of_all() -> None:
    assert_line_meets_whole(setup_of("llama", 6), Saving("offload", mlp_tile=48))


def test_the_peak_is_what_a_real_training_holds() -> None:
    """The embedded model, in a process whose allocator gives memory back at once; of some 60 MiB a tenth is noise."""
    if sys.platform != "linux":
        pytest.skip("VmHWM is Linux's")
    case = bench.SMALL
    alive = dry_run(bench.setup_of(case), bench.batch_of(case), Saving(case.checkpointing), look=False).worst.peak
    resident = bench.measured_apart(len(bench.CASES), bench.ONE_THREAD | bench.GIVEN_BACK)
    assert alive == pytest.approx(resident, rel=0.1)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_few_chunks_of_the_loss_stand_for_all(method: Literal["lora", "full"], monkeypatch: pytest.MonkeyPatch) -> None:
    setup, batch = setup_of("llama", 2, "cpu", method=method), Batch(400, 200, 300)
    monkeypatch.setattr(loss, "CHUNK_BYTES", 4 * 300 * 20)  # 15 chunks
    found = dry_run(setup, batch, Saving())
    monkeypatch.setattr(loss, "DRY_CHUNKS", 100)
    assert dry_run(setup, batch, Saving()) == found


@pytest.mark.parametrize("quantize", ["int8", "nf4"])
def test_quantized_weights_are_planned_smaller(quantize: str) -> None:
    """Pins a bug: torch cannot move a weight without data, not even to where it is, and the plan of a QLoRA training failed."""
    dense, packed = (run_layers(setup_of("llama", 2, quantize=kind), BATCH, Saving(), 2).worst for kind in ("none", quantize))
    assert packed.by_category["weights"] < 0.6 * dense.by_category["weights"]
    assert packed.by_category["adapter"] == dense.by_category["adapter"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("saving", SAVINGS, ids=str)
def test_it_does_for_every_family(family: str, saving: Saving) -> None:
    assert_line_meets_whole(setup_of(family, 21 if family == "gemma3_text" else 9), saving)


def test_all_weights_are_planned_in_float32_with_two_moments_and_a_gradient() -> None:
    setup = setup_of("llama", 2, method="full")
    worst = run_layers(setup, BATCH, Saving(), 2).worst
    weights = 4 * parameters_of(setup.config)
    assert worst.by_category["trained weights"] == pytest.approx(weights, rel=0.02)
    assert worst.by_category["optimizer"] == pytest.approx(2 * weights, rel=0.02)
    assert "weights" not in worst.by_category
    copied = run_layers(replace(setup, dtype=torch.bfloat16), BATCH, Saving(), 2).parts["update"]
    assert copied.by_category["trained weights"] == pytest.approx(weights, rel=0.02)
    assert copied.by_category["weights"] == pytest.approx(weights / 2, rel=0.02)
    assert copied.by_category["gradients"] == pytest.approx(weights, rel=0.02)


def test_the_peak_of_all_weights_is_what_a_real_training_holds() -> None:
    if sys.platform != "linux":
        pytest.skip("VmHWM is Linux's")
    case = bench.SMALL_FULL
    alive = dry_run(bench.setup_of(case), bench.batch_of(case), Saving(case.checkpointing), look=False).worst.peak
    resident = bench.measured_apart(len(bench.CASES) + 1, bench.ONE_THREAD | bench.GIVEN_BACK)
    assert alive == pytest.approx(resident, rel=0.1)


def test_moments_in_8_bits_take_a_quarter_and_paged_ones_go_to_ram() -> None:
    make, extra = FAMILIES["llama"]
    config = make(**{**_SIZES, **extra, "hidden_size": 1024, "num_hidden_layers": 1}, vocab_size=320)
    plain = Setup(config, torch.float32, Adapter(method="full"), "cuda")
    dense, packed, paged = (
        run_layers(replace(plain, optimizer=kind), BATCH, Saving(), 1) for kind in ("adamw", "adamw_8bit", "paged_adamw_8bit")
    )
    whole = dense.parts["update"].by_category["optimizer"]
    assert 0.25 * whole < packed.parts["update"].by_category["optimizer"] < 0.27 * whole
    assert paged.parts["update"].by_category["optimizer"] < 0.02 * whole
    assert paged.ram > 0.24 * whole


def test_bfloat16_files_stay_so_in_the_leanest_ways() -> None:
    setup = setup_of("llama", 2, kind="cpu")
    setup.config.dtype = torch.bfloat16
    fast, lean = (run_layers(setup, BATCH, Saving(way), 2).worst for way in ("none", "full"))
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(setup.config)
    linear = sum(model.get_submodule(name).weight.numel() for name in target_names(model, "all-linear"))
    assert fast.by_category["weights"] - lean.by_category["weights"] == pytest.approx(2 * linear, rel=0.02)
