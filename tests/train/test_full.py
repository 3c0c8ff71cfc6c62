"""All weights trained: transformers' own gradients, and a folder that is a base like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from afina.core.errors import DataError
from afina.data.pack import micro_batches
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.recipe.load import validate
from afina.train.step import packed_loss, prepare
from afina.train.trainee import FULL, whole_model
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.training import ALL_WEIGHTS, CPU, Killed, assert_bit_equal, kill_after, made_up_rows, run_training, weights_of
from tests.train.test_step import reference_loss


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_has_transformers_own_gradient(family: str, tmp_path: Path) -> None:
    base = resolve_base(str(write_model(tmp_path, family)))
    rows = made_up_rows(6)
    model = load_model(base, dtype=torch.float32, device=CPU)
    parameters = whole_model(model, base, torch.float32).parameters
    assert prepare(model) == []
    for batch in micro_batches(rows, 128):
        packed_loss(model, batch).backward()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32, attn_implementation="eager")
    reference_loss(theirs, rows).backward()
    wanted = dict(theirs.named_parameters())
    assert parameters.keys() == wanted.keys()
    for name, parameter in parameters.items():
        expected = wanted[name].grad
        assert expected is not None
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
        assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("family", ["llama", "mistral"], ids=["tied output layer", "output layer of its own"])
def test_what_is_left_is_the_trained_model_for_transformers(family: str, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", family)
    trained = run_training(base, tmp_path / "run", adapter=ALL_WEIGHTS, learning_rate=2e-3, epochs=4)
    assert trained.first_loss is not None
    assert trained.best_loss is not None
    assert trained.best_loss <= trained.first_loss
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "run" / FULL, dtype=torch.float32)
    tokens = sum(row.trained_tokens for row in made_up_rows(6, seed=1))
    loss = float(reference_loss(theirs, made_up_rows(6, seed=1)).detach()) / tokens
    assert loss == pytest.approx(trained.best_loss, rel=1e-5)
    assert ("lm_head.weight" in weights_of(tmp_path / "run")) == (family == "mistral")
    resolve_base(str(tmp_path / "run" / FULL))  # with its tokenizer


def test_a_killed_training_of_all_weights_resumes_bit_for_bit(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    run_training(base, tmp_path / "alone", adapter=ALL_WEIGHTS, epochs=1)
    with pytest.raises(Killed):
        run_training(base, tmp_path / "killed", kill_after(3), adapter=ALL_WEIGHTS, epochs=1)
    run_training(base, tmp_path / "killed", adapter=ALL_WEIGHTS, epochs=1)
    assert_bit_equal(tmp_path / "killed", tmp_path / "alone")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_smaller_type_computes_on_float32_weights(dtype: torch.dtype, tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    settings: dict[str, Any] = {"adapter": ALL_WEIGHTS, "learning_rate": 2e-3, "epochs": 1, "clip": 100.0}
    small = run_training(base, tmp_path / "small", dtype=dtype, **settings)
    exact = run_training(base, tmp_path / "exact", **settings)
    assert small.best_loss == pytest.approx(exact.best_loss, rel=5e-3)
    ours, theirs = weights_of(tmp_path / "small"), weights_of(tmp_path / "exact")
    assert all(weight.dtype == torch.float32 for weight in ours.values())
    assert any(not torch.equal(weight, weight.to(dtype).float()) for weight in ours.values())
    assert all((ours[name] - theirs[name]).abs().mean() < 2e-3 for name in ours)


def test_weights_in_4_bits_cannot_be_trained() -> None:
    tree = {"name": "x", "data": {"examples": ["x.jsonl"]}, "adapter": {"method": "full", "quantize": "nf4"}}
    with pytest.raises(Exception, match="such weights are frozen"):
        validate(tree, "recipe.yaml")


def test_weights_with_other_names_in_memory_are_told(tmp_path: Path) -> None:
    base = resolve_base(str(write_model(tmp_path)))
    model = load_model(base, dtype=torch.float32, device=CPU)
    model.register_parameter("extra", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(DataError, match="have other names in memory, .*: extra"):
        whole_model(model, base, torch.float32)
