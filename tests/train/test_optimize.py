"""Groups, schedules and the scale of float16: what the optimizer is told, and that it does what it was told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from afina.core.errors import ResourceError
from afina.core.events import Event
from afina.model.base import resolve_base
from afina.model.load import choose_dtype, load_model
from afina.model.lora import add_lora
from afina.recipe.recipe import Adapter, Train
from afina.train.optimize import build_optimizer, learning_rate, parameter_groups, require_optimizer
from afina.train.trainee import adapter_on, whole_model
from tests.fakes.models import write_model
from tests.fakes.training import CPU, Killed, kill_after, run_training, steps_in, weights_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"), "qwen2")


def rates(schedule: str) -> list[float]:
    settings = Train.model_validate({"learning_rate": 1.0, "warmup": 0.1, "schedule": schedule})
    return [learning_rate(step, 100, settings) for step in range(100)]


@pytest.mark.parametrize(
    ("schedule", "middle", "late", "last"),
    [("cosine", 0.5, 0.030, 0.001), ("linear", 0.5, 0.111, 0.012), ("constant", 1.0, 1.0, 1.0), ("wsd", 1.0, 0.5, 0.05)],
)
def test_the_learning_rate_rises_over_the_warm_up_and_follows_its_schedule(
    schedule: str, middle: float, late: float, last: float
) -> None:
    course = rates(schedule)
    assert course[:10] == pytest.approx([0.1 * n for n in range(1, 11)])
    assert course[10] == 1.0
    assert course[55] == pytest.approx(middle)
    assert course[90] == pytest.approx(late, abs=1e-3)
    assert course[99] == pytest.approx(last, abs=1e-3)
    assert course[10:] == sorted(course[10:], reverse=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_biases_and_embeddings_are_not_pulled_towards_zero(dtype: torch.dtype, base: Path) -> None:
    files = resolve_base(str(base))
    model = load_model(files, dtype=torch.float32, device=CPU)
    trainee = whole_model(model, files, dtype)  # in bfloat16 what is trained is a copy of what the model computes with
    groups = parameter_groups(model, trainee.parameters, Train(weight_decay=0.1, optimizer="muon"))
    names = {id(parameter): name for name, parameter in trainee.parameters.items()}
    spared = {names[id(member)] for group in groups if group["weight_decay"] == 0 for member in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(trainee.parameters)
    assert spared == {name for name in trainee.parameters if name.endswith(("norm.weight", "bias")) or "embed_tokens" in name}
    matrices = {names[id(member)] for group in groups if group["is_matrix"] for member in group["params"]}
    assert matrices == trainee.parameters.keys() - spared - {"lm_head.weight"}


def test_lora_plus_gives_the_matrices_b_a_larger_step(base: Path, tmp_path: Path) -> None:
    """Adam's first step has the size of the learning rate: B, which starts at zero, is then its ratio times as large."""
    for ratio in (1.0, 16.0):
        run_training(base, tmp_path / str(ratio), lora_plus=ratio, max_steps=1, warmup=0, adapter=Adapter(rank=4))
    plain, plus = (weights_of(tmp_path / str(ratio)) for ratio in (1.0, 16.0))
    for name, value in plain.items():
        expected = 16 * value if "lora_B" in name else value
        torch.testing.assert_close(plus[name], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"), [("schedule", "constant"), ("weight_decay", 0.5), ("neftune", 20.0), ("clip", 0.01), ("warmup", 0.5)]
)
def test_each_setting_changes_what_is_learned(key: str, value: object, base: Path, tmp_path: Path) -> None:
    changed_setting: dict[str, Any] = {key: value}
    run_training(base, tmp_path / "plain", epochs=1, evaluate_every=100)
    run_training(base, tmp_path / "changed", epochs=1, evaluate_every=100, **changed_setting)
    plain, changed = weights_of(tmp_path / "plain"), weights_of(tmp_path / "changed")
    assert any(not torch.equal(plain[name], changed[name]) for name in plain)


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_an_8_bit_optimizer_without_a_gpu_is_refused_before_anything_is_loaded(name: str) -> None:
    settings = Train.model_validate({"optimizer": name})
    with pytest.raises(ResourceError, match=f"train.optimizer is {name}, which needs an NVIDIA GPU; the training is on cpu"):
        require_optimizer(settings, CPU)
    require_optimizer(Train(), CPU)


def test_the_8_bit_optimizer_is_bitsandbytes_own(base: Path) -> None:
    """Its groups are ours; its moments are bytes. (It also runs on a CPU, slowly, so that this can be seen everywhere.)"""
    model = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU)
    add_lora(model, Adapter(rank=64), 1)
    parameters = adapter_on(model, Adapter(rank=64), "base").parameters
    optimizer = build_optimizer(model, parameters, Train(optimizer="adamw_8bit", lora_plus=4))
    assert [group["ratio"] for group in optimizer.param_groups] == [1.0, 4.0]
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    large = next(parameter for parameter in parameters.values() if parameter.numel() >= 4096)
    assert optimizer.state[large]["state1"].dtype == torch.uint8


def test_float16_is_scaled_and_learns_like_float32(base: Path, tmp_path: Path) -> None:
    """On a CPU too, slowly, so that this can be seen everywhere."""
    seen: list[Event] = []
    adapter = Adapter(rank=4)
    half = run_training(base, tmp_path / "half", seen.append, adapter=adapter, dtype=torch.float16)
    whole = run_training(base, tmp_path / "whole", adapter=adapter)
    assert half.best_loss == pytest.approx(whole.best_loss, rel=2e-3)
    assert all(step.values["loss_scale"] == 65536 for step in steps_in(seen))


def test_a_float16_run_that_is_killed_goes_on_with_its_scale(base: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings: dict[str, Any] = {"dtype": torch.float16, "epochs": 1, "learning_rate": 0.02}
    run_training(base, whole, **settings)
    with pytest.raises(Killed):
        run_training(base, killed, kill_after(3), **settings)
    run_training(base, killed, **settings)
    ours, theirs = weights_of(killed), weights_of(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_float16_is_a_choice_of_the_recipe() -> None:
    assert choose_dtype("float16", CPU, 1).dtype == torch.float16
