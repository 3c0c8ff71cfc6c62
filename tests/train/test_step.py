"""The loss and its gradients against transformers' and PEFT's own."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
import transformers
from torch.nn import functional as F

from afina.data.conversation import Source
from afina.data.pack import micro_batches, pack
from afina.data.render import Row
from afina.model.adapter import save_adapter
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora, lora_layers
from afina.recipe.recipe import Adapter
from afina.train import attention
from afina.train.step import mean_loss, packed_loss
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.rows import row_of
from tests.fakes.training import CPU, made_up_rows


def reference_loss(model: torch.nn.Module, rows: list[Row]) -> torch.Tensor:
    """Each row alone through transformers' whole model, with torch's cross-entropy."""
    total = torch.zeros(())
    for row in rows:
        logits = model(input_ids=torch.tensor([list(row.ids)])).logits[0, :-1].float()
        labels = torch.tensor([token if on else -100 for token, on in zip(row.ids, row.trained, strict=True)])[1:]
        total = total + F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return total


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_give_the_loss_and_gradients_of_peft_on_rows_alone(family: str, tmp_path: Path) -> None:
    attention.register()
    base = resolve_base(str(write_model(tmp_path / "base", family)))
    rows = made_up_rows(6)
    settings = Adapter(rank=4, alpha=6)
    model = load_model(base, dtype=torch.float32, device=CPU, attention=attention.NAME)
    add_lora(model, settings, seed=3)
    layers = dict(lora_layers(model))
    for number, layer in enumerate(layers.values()):
        torch.manual_seed(number)
        layer.b.data.normal_(std=0.05)
        layer.requires_grad_(True)
    save_adapter(tmp_path / "adapter", settings, "base", {name: (layer.a, layer.b) for name, layer in layers.items()})
    whole = transformers.AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(whole, tmp_path / "adapter", is_trainable=True).eval()

    ours_total = torch.zeros(())
    for batch in micro_batches(rows, 128):
        loss = packed_loss(model, batch)
        loss.backward()
        ours_total += loss.detach()
    wanted = reference_loss(theirs, rows)
    wanted.backward()

    assert ours_total.item() == pytest.approx(wanted.item(), rel=2e-6)
    gradients = dict(theirs.named_parameters())
    for name, layer in layers.items():
        for letter, parameter in (("A", layer.a), ("B", layer.b)):
            expected = gradients[f"base_model.model.{name}.lora_{letter}.default.weight"].grad
            assert expected is not None
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
            assert parameter.grad.abs().max() > 0


@pytest.mark.parametrize("micro_tokens", [90, 200, 4000])
def test_the_cut_into_micro_batches_does_not_change_the_loss(micro_tokens: int, tmp_path: Path) -> None:
    attention.register()
    base = resolve_base(str(write_model(tmp_path)))
    model = load_model(base, dtype=torch.float32, device=CPU, attention=attention.NAME)
    rows = made_up_rows(11)
    assert mean_loss(model, rows, micro_tokens) == pytest.approx(mean_loss(model, rows, 1), rel=1e-5)


def test_a_row_cannot_see_the_row_before_it(tmp_path: Path) -> None:
    attention.register()
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU, attention=attention.NAME)
    first, second, other = made_up_rows(3)
    alone = packed_loss(model, pack([second])).item()
    for neighbour in (first, other):
        both = packed_loss(model, pack([neighbour, second])).item() - packed_loss(model, pack([neighbour])).item()
        assert both == pytest.approx(alone, rel=1e-4)


def test_untrained_tokens_have_no_gradient(tmp_path: Path) -> None:
    """Changing a target that is not trained changes nothing, changing one that is does."""
    attention.register()
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU, attention=attention.NAME)
    row = row_of((5, 6, 7, 8, 9), (False, False, False, True, True), Source("r", 1))
    assert pack([row]).targets == [8, 9]
    assert pack([row]).inputs == [2, 3]
    more = row_of((5, 6, 7, 8, 9, 11, 12), (False, False, False, True, True, False, False), Source("r", 1))
    assert packed_loss(model, pack([row])).item() == packed_loss(model, pack([more])).item()


def test_an_adapter_at_step_zero_is_the_base(tmp_path: Path) -> None:
    base = resolve_base(str(write_model(tmp_path)))
    plain = load_model(base, dtype=torch.float32, device=CPU)
    ids = torch.tensor([[5, 6, 7, 8]])
    before = plain(input_ids=ids).logits.clone()
    add_lora(plain, Adapter(rank=4), seed=1)
    assert torch.equal(plain(input_ids=ids).logits, before)


def test_nf4_is_close_to_the_dense_base_and_trains(tmp_path: Path) -> None:
    attention.register()
    base = resolve_base(str(write_model(tmp_path)))
    rows = made_up_rows(4)
    dense = load_model(base, dtype=torch.float32, device=CPU, attention=attention.NAME)
    quantized = load_model(base, dtype=torch.float32, device=CPU, quantize="nf4", attention=attention.NAME)
    assert mean_loss(quantized, rows, 500) == pytest.approx(mean_loss(dense, rows, 500), rel=0.1)
    assert mean_loss(quantized, rows, 500) != mean_loss(dense, rows, 500)
    add_lora(quantized, Adapter(rank=4), seed=1)
    for _name, layer in lora_layers(quantized):
        layer.requires_grad_(True)
    packed_loss(quantized, pack(rows)).backward()
    assert all(layer.b.grad is not None and layer.b.grad.abs().max() > 0 for _name, layer in lora_layers(quantized))
