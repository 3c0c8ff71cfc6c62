"""The dry run against itself with all layers, and against the memory of real tensors."""

from __future__ import annotations

import sys

import pytest
import torch

from afina.recipe.recipe import Adapter
from afina.train.dry import Batch, Setup, dry_run, run_layers
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
