"""Muon: equal to torch's own, AdamW for what is no matrix, resumed bit for bit, planned as it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.recipe.recipe import Adapter, Train
from afina.train.dry import Batch, Setup, run_layers
from afina.train.muon import Muon, orthogonal
from afina.train.optimize import build_optimizer, parameter_groups
from afina.train.saving import Saving
from afina.train.trainee import whole_model
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.training import CPU, Killed, kill_after, run_training, weights_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"), "qwen2")


def random_steps(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, count: int = 5) -> None:
    torch.manual_seed(3)
    for _step in range(count):
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter) * 0.01
        optimizer.step()


def copies(shapes: list[tuple[int, ...]]) -> list[nn.Parameter]:
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(shape)) for shape in shapes]


@pytest.mark.parametrize("shape", [(16, 64), (64, 16), (32, 32)])
def test_the_matrices_move_as_by_torchs_muon(shape: tuple[int, int]) -> None:
    """Torch's works in bfloat16 and ours in float32: the steps differ by its rounding, a hundredth of their size."""
    ours, theirs, start = copies([shape, shape]), copies([shape, shape]), copies([shape, shape])
    random_steps(ours, Muon([{"params": ours, "is_matrix": True, "weight_decay": 0.1}], lr=0.01))
    random_steps(theirs, torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    for mine, other, before in zip(ours, theirs, start, strict=True):
        step = other - before
        assert (mine - other).norm() < 0.02 * step.norm()
        assert (mine - other).abs().max() < 0.05 * step.abs().max()


def test_what_is_no_matrix_moves_as_by_torchs_adamw() -> None:
    ours, theirs = copies([(64,), (50, 8)]), copies([(64,), (50, 8)])
    random_steps(ours, Muon([{"params": ours, "weight_decay": 0.1}], lr=0.01))
    random_steps(theirs, torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1, fused=True))
    assert all(torch.equal(mine, other) for mine, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shape", [(8, 40), (40, 8), (24, 24)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int]) -> None:
    torch.manual_seed(5)
    matrix = torch.randn(3, *shape)
    left, _values, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonal(matrix)
    values = torch.linalg.svdvals(made)
    assert 0.3 < float(values.min()) <= float(values.max()) < 1.3  # the smallest of a square one rise last
    turned = left.mT @ made @ right.mT  # diagonal, as far as the directions are the same
    assert (turned - torch.diag_embed(turned.diagonal(dim1=-2, dim2=-1))).abs().max() < 1e-3


def test_a_gradient_of_zero_moves_nothing() -> None:
    """LoRA's matrix A gets none in the first step, for B is zero there."""
    assert torch.equal(orthogonal(torch.zeros(2, 4, 6)), torch.zeros(2, 4, 6))


def test_embeddings_and_norms_are_adamws(base: Path) -> None:
    files = resolve_base(str(base))
    model = load_model(files, dtype=torch.float32, device=CPU)
    trainee = whole_model(model, files, torch.float32)
    settings = Train(optimizer="muon")
    moved = {
        id(member)
        for group in parameter_groups(model, trainee.parameters, settings)
        if group["is_matrix"]
        for member in group["params"]
    }
    for name, parameter in trainee.parameters.items():
        assert (id(parameter) in moved) == ("proj.weight" in name), name
    assert isinstance(build_optimizer(model, trainee.parameters, settings), Muon)


@pytest.mark.parametrize("adapter", [Adapter(rank=4), Adapter(method="full")], ids=["lora", "full"])
def test_a_run_that_is_killed_ends_as_one_that_was_not(adapter: Adapter, base: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optimizer": "muon", "epochs": 1, "learning_rate": 0.01, "adapter": adapter, "save_every": 1}
    whole = run_training(base, tmp_path / "whole", **settings)
    with pytest.raises(Killed):
        run_training(base, tmp_path / "killed", kill_after(3), **settings)
    run_training(base, tmp_path / "killed", **settings)
    ours, theirs = weights_of(tmp_path / "killed"), weights_of(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert whole.first_loss is not None
    assert whole.best_loss is not None
    assert whole.best_loss < whole.first_loss


def test_its_one_sum_of_gradients_takes_half_of_adamws_moments() -> None:
    make, extra = FAMILIES["llama"]
    sizes: dict[str, Any] = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 1}
    config = make(**{**extra, **sizes, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64}, vocab_size=320)
    plain = Setup(config, torch.float32, Adapter(method="full"), "cpu")

    def held(setup: Setup) -> int:
        return run_layers(setup, Batch(64, 64, 32), Saving(), 1).parts["forward"].by_category["optimizer"]

    adamw, muon = held(plain), held(replace(plain, optimizer="muon"))
    matrices, others = _numbers(config)
    assert adamw == pytest.approx(2 * 4 * (matrices + others), rel=0.01)
    assert muon == pytest.approx(4 * (matrices + 2 * others), rel=0.01)


def _numbers(config: Any) -> tuple[int, int]:
    """Of the matrices within the layers, and of the rest."""
    width, inner = config.hidden_size, config.intermediate_size
    keys = config.num_key_value_heads * config.head_dim
    queries = config.num_attention_heads * config.head_dim
    matrices = 2 * width * queries + 2 * width * keys + 3 * width * inner
    tables = config.vocab_size * width * (1 if config.tie_word_embeddings else 2)
    return matrices, tables + 3 * width
