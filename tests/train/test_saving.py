"""What saves memory changes nothing: the same loss, the same gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from afina.core.errors import ResourceError
from afina.data.pack import Packed, pack
from afina.model.base import resolve_base
from afina.model.decoder import decoder_layers
from afina.model.load import load_model
from afina.model.lora import add_lora, lora_layers, trained_parameters
from afina.recipe.recipe import Adapter
from afina.train import attention
from afina.train.last_layer import prune_last_layer
from afina.train.saving import Saving, apply_saving
from afina.train.step import packed_loss
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.training import made_up_rows

CPU = torch.device("cpu")
SAVINGS = [
    Saving("selective"),
    Saving("full"),
    Saving("offload"),
    Saving("none", mlp_tile=50),
    Saving("full", mlp_tile=50),
    Saving("offload", mlp_tile=16),
]


class ClonedCopies:
    """Copies that count themselves, in the place of pinned RAM."""

    def __init__(self) -> None:
        self.count = 0

    def away(self, tensor: Tensor) -> Tensor:
        self.count += 1
        return tensor.clone()

    def back(self, copy: Tensor) -> Tensor:
        return copy.clone()


def trained_model(folder: Path, adapter: Adapter | None = None) -> PreTrainedModel:
    attention.register()
    model = load_model(resolve_base(str(folder)), dtype=torch.float32, device=CPU, attention=attention.NAME)
    add_lora(model, adapter or Adapter(rank=4, alpha=8), seed=1)
    for number, (_name, layer) in enumerate(lora_layers(model)):
        torch.manual_seed(number)
        layer.b.data.normal_(std=0.05)
    for parameter in trained_parameters(model).values():
        parameter.requires_grad_(True)
    model.train()
    return model


def loss_and_gradients(model: PreTrainedModel, batch: Packed) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(5)
    loss = packed_loss(model, batch)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_same(one: tuple[float, dict[str, Tensor]], other: tuple[float, dict[str, Tensor]]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=1e-5, atol=1e-5 * float(gradient.abs().max()), msg=name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: write_model(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_saving_gives_the_same_loss_and_gradients(family: str, folders: dict[str, Path]) -> None:
    batch = pack(made_up_rows(4))
    plain = loss_and_gradients(trained_model(folders[family]), batch)
    assert len(plain[1]) >= 8
    for saving in SAVINGS:
        model, copies = trained_model(folders[family]), ClonedCopies()
        apply_saving(model, saving, copies)
        assert_same(plain, loss_and_gradients(model, batch))
        assert copies.count == (1 if saving.checkpointing == "offload" else 0)  # two layers, and the last one's input stays


def test_a_last_layer_that_is_left_half_way_is_saved_on_too(folders: dict[str, Path]) -> None:
    batch = pack(made_up_rows(4))
    plain = loss_and_gradients(trained_model(folders["llama"]), batch)
    for saving in SAVINGS:
        model = trained_model(folders["llama"])
        prune_last_layer(decoder_layers(model)[-1])
        apply_saving(model, saving, ClonedCopies())
        assert_same(plain, loss_and_gradients(model, batch))


def test_the_noise_of_dropout_is_the_same_the_second_time(folders: dict[str, Path]) -> None:
    adapter, batch = Adapter(rank=4, alpha=8, dropout=0.3), pack(made_up_rows(4))
    plain = loss_and_gradients(trained_model(folders["llama"], adapter), batch)
    for saving in (Saving("selective"), Saving("full"), Saving("full", mlp_tile=1000)):
        model = trained_model(folders["llama"], adapter)
        apply_saving(model, saving)
        assert_same(plain, loss_and_gradients(model, batch))


def test_an_adapter_on_the_mlp_alone_needs_no_gradient_below_it(folders: dict[str, Path]) -> None:
    adapter, batch = Adapter(rank=4, targets=("down_proj",)), pack(made_up_rows(4))
    plain = loss_and_gradients(trained_model(folders["llama"], adapter), batch)
    for saving in (Saving("selective"), Saving("full", mlp_tile=40)):
        model = trained_model(folders["llama"], adapter)
        apply_saving(model, saving)
        assert_same(plain, loss_and_gradients(model, batch))


def tokens_through_the_mlp(model: PreTrainedModel) -> list[int]:
    """A list that grows by a count of tokens each time that the first layer's MLP is run."""
    seen: list[int] = []
    inner = model.get_decoder().layers[0].mlp.act_fn
    inner.register_forward_hook(lambda _module, args, _out: seen.append(args[0].shape[1]))
    return seen


@pytest.mark.parametrize(("checkpointing", "times"), [("none", 1), ("selective", 2), ("full", 2)])
def test_the_mlp_is_computed_as_often_as_the_table_says(checkpointing: str, times: int, folders: dict[str, Path]) -> None:
    """Pins that a checkpointed layer with tiles runs its MLP twice and not three times."""
    batch = pack(made_up_rows(4))
    for tile in (None, 50):
        model = trained_model(folders["llama"])
        apply_saving(model, Saving(checkpointing, mlp_tile=tile))  # type: ignore[arg-type]
        seen = tokens_through_the_mlp(model)
        loss_and_gradients(model, batch)
        assert sum(seen) == (2 if tile and checkpointing == "none" else times) * len(batch.ids)


def test_without_gradients_nothing_is_computed_again(folders: dict[str, Path]) -> None:
    model = trained_model(folders["llama"])
    apply_saving(model, Saving("full", mlp_tile=50))
    seen = tokens_through_the_mlp(model)
    batch = pack(made_up_rows(4))
    with torch.no_grad():
        packed_loss(model, batch)
    assert sum(seen) == len(batch.ids)


def test_offload_on_the_cpu_is_refused_with_words(folders: dict[str, Path]) -> None:
    with pytest.raises(ResourceError, match="moves activations from a GPU to RAM"):
        apply_saving(trained_model(folders["llama"]), Saving("offload"))


@pytest.mark.gpu
def test_copies_in_pinned_ram_come_back_as_they_went(folders: dict[str, Path]) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batch = pack(made_up_rows(4))
    plain = loss_and_gradients(torch.nn.Module.to(trained_model(folders["llama"]), "cuda"), batch)
    model = torch.nn.Module.to(trained_model(folders["llama"]), "cuda")
    apply_saving(model, Saving("offload", mlp_tile=16))
    assert_same(plain, loss_and_gradients(model, batch))
