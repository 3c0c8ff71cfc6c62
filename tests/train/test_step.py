"""The loss and its gradients against transformers' and PEFT's own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import peft
import pytest
import torch
import transformers
from torch.nn import functional as F

from afina.data.conversation import Source
from afina.data.pack import micro_batches, pack
from afina.data.render import Row
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import adapter_tensors, add_lora, lora_layers, trained_parameters
from afina.model.peft import save_adapter
from afina.recipe.recipe import Adapter
from afina.train.step import mean_loss, packed_loss, prepare
from tests.fakes.models import FAMILIES, write_model
from tests.fakes.rows import row_of
from tests.fakes.training import CPU, made_up_rows


def reference_loss(model: torch.nn.Module, rows: list[Row]) -> torch.Tensor:
    """Each row alone through transformers' whole model, with torch's cross-entropy."""
    total = torch.zeros(())
    for row in rows:
        logits = model(input_ids=torch.tensor([list(row.ids)]), use_cache=False).logits[0, :-1].float()
        labels = torch.tensor([token if on else -100 for token, on in zip(row.ids, row.trained, strict=True)])[1:]
        total = total + F.cross_entropy(logits, labels, ignore_index=-100, reduction="sum")
    return total


@pytest.mark.parametrize("shared", [0, 20])
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_give_the_loss_and_gradients_of_peft_on_rows_alone(family: str, shared: int, tmp_path: Path) -> None:
    """With what the rows share computed once, and the last layer only where it is used."""
    base = resolve_base(str(write_model(tmp_path / "base", family)))
    rows = made_up_rows(6, shared=shared)
    settings = Adapter(rank=4, alpha=6)
    model = load_model(base, dtype=torch.float32, device=CPU)
    add_lora(model, settings, seed=3)
    assert prepare(model) == []
    layers = dict(lora_layers(model))
    for number, layer in enumerate(layers.values()):
        torch.manual_seed(number)
        layer.b.data.normal_(std=0.05)
        layer.requires_grad_(True)
    save_adapter(tmp_path / "adapter", settings, "base", adapter_tensors(model))
    whole = transformers.AutoModelForCausalLM.from_pretrained(base.folder, dtype=torch.float32, attn_implementation="eager")
    theirs = peft.PeftModel.from_pretrained(whole, tmp_path / "adapter", is_trainable=True).eval()

    ours_total = torch.zeros(())
    batches = micro_batches(rows, 200)
    assert len(batches) > 1
    assert {batch.shared for batch in batches} == {shared}
    for batch in batches:
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


@pytest.mark.parametrize("family", FAMILIES)
def test_bfloat16_is_packed_in_every_family_too(family: str, tmp_path: Path) -> None:
    """Logits that transformers rounds to bfloat16 are no reason to say that the output layer is an unknown one."""
    model = load_model(resolve_base(str(write_model(tmp_path, family))), dtype=torch.bfloat16, device=CPU)
    assert prepare(model) == []


OTHERS: dict[str, tuple[dict[str, object], str]] = {
    "gpt2": ({"n_embd": 64, "n_layer": 2, "n_head": 4}, "the last layer is computed whole"),
    "gpt_neox": ({}, ""),
    "cohere": ({"logit_scale": 0.25}, ""),
    "granite": ({"logits_scaling": 4.0}, ""),
    "mixtral": ({"num_local_experts": 4}, ""),
    "mamba": ({"state_size": 8}, "rows are computed one by one"),
    "gpt_oss": ({"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 16}, "rows are computed one by one"),
    "recurrent_gemma": ({}, "rows are computed one by one"),
    "llama4_text": (
        {"head_dim": 16, "num_local_experts": 2, "intermediate_size_mlp": 128, "attention_chunk_size": 64},
        "its attention sees chunks of tokens",
    ),
    "gemma3n_text": (
        {
            "head_dim": 16,
            "vocab_size_per_layer_input": 300,
            "hidden_size_per_layer_input": 16,
            "laurel_rank": 8,
            "num_kv_shared_layers": 0,
            "activation_sparsity_pattern": [0.0, 0.0],
            "altup_num_inputs": 2,
            "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        "the last layer is computed whole",
    ),
}


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_are_right_or_computed_row_by_row(family: str) -> None:
    changes, remark = OTHERS[family]
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, vocab_size=300, **{**sizes, "num_key_value_heads": 2, **changes})
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    rows = made_up_rows(4, shared=12)
    with torch.no_grad():
        wanted = reference_loss(model, rows).item()
        remarks = prepare(model)
        ours = packed_loss(model, pack(rows)).item()
    assert ours == pytest.approx(wanted, rel=2e-6)
    assert [remark in words for words in remarks] == [True] * bool(remark)


@pytest.mark.parametrize("count", [2, 5])
def test_the_last_layer_is_computed_only_where_it_is_used(count: int, tmp_path: Path) -> None:
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU)
    prepare(model)
    batch = pack(made_up_rows(count, shared=20))
    seen: list[int] = []
    model.get_decoder().layers[-1].mlp.register_forward_hook(lambda _module, args, _out: seen.append(args[0].shape[1]))
    packed_loss(model, batch)
    rows = [(start, stop) for start, stop in zip(batch.starts, batch.starts[1:])]
    firsts = [min(place for place in batch.inputs if start <= place < stop) for start, stop in rows]
    assert seen == [sum(stop - first for first, (_start, stop) in zip(firsts, rows)) + 1]  # and the last shared place
    assert seen[0] < len(batch.ids)


@pytest.mark.parametrize("micro_tokens", [90, 200, 4000])
def test_the_cut_into_micro_batches_does_not_change_the_loss(micro_tokens: int, tmp_path: Path) -> None:
    base = resolve_base(str(write_model(tmp_path)))
    model = load_model(base, dtype=torch.float32, device=CPU)
    prepare(model)
    rows = made_up_rows(11)
    assert mean_loss(model, rows, micro_tokens) == pytest.approx(mean_loss(model, rows, 1), rel=1e-5)


def test_a_row_cannot_see_the_row_before_it(tmp_path: Path) -> None:
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU)
    prepare(model)
    first, second, other = made_up_rows(3)
    alone = packed_loss(model, pack([second])).item()
    for neighbour in (first, other):
        both = packed_loss(model, pack([neighbour, second])).item() - packed_loss(model, pack([neighbour])).item()
        assert both == pytest.approx(alone, rel=1e-4)


def test_untrained_tokens_have_no_gradient(tmp_path: Path) -> None:
    """Changing a target that is not trained changes nothing, changing one that is does."""
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU)
    prepare(model)
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


@pytest.mark.parametrize(("quantize", "off"), [("int8", 0.02), ("nf4", 0.1)])
def test_a_quantized_base_is_close_to_the_dense_one_and_trains(
    quantize: Literal["int8", "nf4"], off: float, tmp_path: Path
) -> None:
    base = resolve_base(str(write_model(tmp_path)))
    rows = made_up_rows(4)
    dense = load_model(base, dtype=torch.float32, device=CPU)
    prepare(dense)
    quantized = load_model(base, dtype=torch.float32, device=CPU, quantize=quantize)
    assert mean_loss(quantized, rows, 500) == pytest.approx(mean_loss(dense, rows, 500), rel=off)
    assert mean_loss(quantized, rows, 500) != mean_loss(dense, rows, 500)
    add_lora(quantized, Adapter(rank=4), seed=1)
    packed_loss(quantized, pack(rows)).backward()
    assert all(layer.b.grad is not None and layer.b.grad.abs().max() > 0 for _name, layer in lora_layers(quantized))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_compiled_layers_give_the_same_loss_and_gradients(family: str, tmp_path: Path) -> None:
    base = resolve_base(str(write_model(tmp_path, family, num_hidden_layers=3)))
    rows = made_up_rows(6, shared=20)
    found = []
    for compiled in (False, True):
        model = load_model(base, dtype=torch.float32, device=CPU)
        add_lora(model, Adapter(rank=4), seed=3)
        for number, layer in enumerate(layer for _name, layer in lora_layers(model)):
            torch.manual_seed(number)
            layer.b.data.normal_(std=0.05)
            layer.requires_grad_(True)
        prepare(model, compiled=compiled)
        loss = torch.stack([packed_loss(model, batch) for batch in micro_batches(rows, 200)]).sum()
        loss.backward()
        found.append((loss.detach(), {name: p.grad for name, p in trained_parameters(model).items()}))
    (plain, gradients), (loss, compiled_gradients) = found
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=0)
    for name, wanted in gradients.items():
        assert wanted is not None
        torch.testing.assert_close(compiled_gradients[name], wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
