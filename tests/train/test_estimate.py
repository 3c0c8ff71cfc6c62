"""The estimate beside the plan's dry run, on the bases that there are."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from afina.model.base import TINY, config_file, read_config
from afina.model.shape import read_shape
from afina.recipe.recipe import Adapter, Train
from afina.train.dry import Setup
from afina.train.estimate import PROGRAM_BYTES, Decoder, Estimate, Kind, decoder_of, estimate, most_tokens
from afina.train.plan import Plan, Wishes, make_plan
from afina.train.saving import Checkpointing
from afina.train.sizes import Rows
from afina.train.target import Target

ROWS = Rows(longest=300, step=4096, trained_share=0.7)


def tensors(
    base: str, adapter: Adapter, dtype: str, kind: Kind, free_bytes: int, checkpointing: Checkpointing | None = None
) -> Plan:
    """The plan where nothing is taken but by tensors."""
    setup = Setup(read_shape(base), getattr(torch, dtype), adapter, kind)
    target = Target("here", kind, free_bytes, {}, 1.0, 0, torch.float32, here=False)
    return make_plan(setup, target, ROWS, Wishes(checkpointing=checkpointing))


def sizes(base: str) -> Decoder:
    path = config_file(base)
    assert path is not None
    decoder = decoder_of(read_config(path))
    assert decoder is not None
    return decoder


def estimated(base: str, kind: Kind, *, adapter: Adapter | None = None, **train: Any) -> Estimate:
    return estimate(sizes(base), adapter or Adapter(), Train(**train), ROWS, kind)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_small_base_is_estimated_a_little_above_its_plan(method: str) -> None:
    adapter = Adapter.model_validate({"method": method})
    planned = tensors("tiny", adapter, "float32", "cpu", 10**12).chosen
    found = estimated("tiny", "cpu", adapter=adapter)
    assert 1.0 <= (found.needed_bytes - PROGRAM_BYTES["cpu"]) / planned.needed_bytes < 1.4
    assert 1.0 <= found.flops / planned.flops_a_token < 1.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "kind", "dtype", "quantize"),
    [
        ("qwen2.5-7b", "cpu", "float32", "nf4"),
        ("mistral-7b", "cuda", "bfloat16", "none"),
    ],
)
def test_a_large_base_is_estimated_within_a_tenth_of_its_plan(base: str, kind: Kind, dtype: str, quantize: str) -> None:
    adapter = Adapter.model_validate({"quantize": quantize})
    found = estimated(base, kind, adapter=adapter)
    roomy = tensors(base, adapter, dtype, kind, 10**15).chosen
    lean = tensors(base, adapter, dtype, kind, 1, "full").chosen
    assert (found.needed_bytes - PROGRAM_BYTES[kind]) / roomy.needed_bytes == pytest.approx(1, abs=0.1)
    assert (found.least_bytes - PROGRAM_BYTES[kind]) / lean.needed_bytes == pytest.approx(1, abs=0.15)
    assert found.flops / roomy.flops_a_token == pytest.approx(1, abs=0.1)


def test_what_the_recipe_saves_is_estimated_less() -> None:
    plain = estimated("qwen3-8b", "cpu")
    assert estimated("qwen3-8b", "cpu", adapter=Adapter(quantize="nf4")).needed_bytes < plain.needed_bytes
    assert estimated("qwen3-8b", "cpu", dtype="bfloat16").needed_bytes < plain.needed_bytes
    assert estimated("qwen3-8b", "cpu", micro_tokens=512).needed_bytes < plain.needed_bytes
    assert estimated("qwen3-8b", "cpu", adapter=Adapter(rank=64)).needed_bytes > plain.needed_bytes
    assert estimated("qwen3-8b", "cpu", adapter=Adapter(targets=("q_proj",))).needed_bytes < plain.needed_bytes
    assert plain.least_bytes < plain.needed_bytes


def test_of_another_kind_of_model_nothing_is_estimated() -> None:
    assert decoder_of({"model_type": "mamba", "hidden_size": 64}) is None
    assert decoder_of({"text_config": read_config(TINY / "config.json")}) == sizes("tiny")


@pytest.mark.parametrize(("width", "tokens"), [(64, 4096), (256, 2048), (320, 1536), (576, 1024), (4096, 1024)])
def test_narrow_models_get_more_tokens_at_once_on_a_cpu(width: int, tokens: int) -> None:
    assert most_tokens("cpu", width) == tokens
    assert most_tokens("cuda", width) == 16384
