"""Adapters: PEFT's files to the letter, and refusals of what a merge could not honour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from afina.core.errors import DataError, RecipeError
from afina.model.adapter import load_adapter, save_adapter
from afina.model.base import resolve_base
from afina.model.load import load_model
from afina.model.lora import add_lora, lora_layers, target_names
from afina.recipe.recipe import Adapter
from tests.fakes.models import write_model

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 17, 33, 4]])


def make_adapter(folder: Path, base_folder: Path, **settings: Any) -> None:
    """An adapter whose B is not zero, saved by us."""
    model = load_model(resolve_base(str(base_folder)), dtype=torch.float32, device=CPU)
    adapter = Adapter.model_validate({"rank": 4, "alpha": 8, **settings})
    add_lora(model, adapter, seed=1)
    torch.manual_seed(0)
    for _name, layer in lora_layers(model):
        layer.b.data.normal_(std=0.1)
    save_adapter(folder, adapter, "base", {name: (layer.a, layer.b) for name, layer in lora_layers(model)})


@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"targets": ["q_proj", "down_proj"], "alpha": 3}])
def test_peft_reads_our_adapter_and_computes_what_we_compute(settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    make_adapter(tmp_path / "adapter", base, **settings)
    ours = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU, adapter=tmp_path / "adapter")
    plain = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    before = plain(input_ids=IDS).logits.clone()
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    wanted = theirs(input_ids=IDS).logits
    torch.testing.assert_close(ours(input_ids=IDS).logits, wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - before).abs().max() > 1e-2


def test_we_read_the_adapter_that_peft_writes(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    config = peft.LoraConfig(
        r=4, lora_alpha=6, target_modules=["q_proj", "up_proj"], rank_pattern={"up_proj": 8}, alpha_pattern={"q_proj": 2}
    )
    theirs = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config).eval()
    torch.manual_seed(0)
    for name, parameter in theirs.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    theirs.save_pretrained(str(tmp_path / "adapter"))
    ours = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU, adapter=tmp_path / "adapter")
    torch.testing.assert_close(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save=['lm_head']"),
        ({"bias": "all"}, "bias='all'"),
        ({"peft_type": "IA3"}, "peft_type='IA3'"),
    ],
)
def test_an_adapter_that_a_merge_could_not_honour_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    make_adapter(tmp_path / "adapter", write_model(tmp_path / "base"))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError) as caught:
        load_adapter(tmp_path / "adapter")
    assert message in caught.value.what


def test_an_adapter_of_another_base_is_refused_and_not_left_out_in_silence(tmp_path: Path) -> None:
    make_adapter(tmp_path / "adapter", write_model(tmp_path / "base"))
    fewer = resolve_base(str(write_model(tmp_path / "fewer", num_hidden_layers=1)))
    wider = resolve_base(str(write_model(tmp_path / "wider", hidden_size=32)))
    with pytest.raises(DataError, match=r"there is no linear layer model\.layers\.1"):
        load_model(fewer, dtype=torch.float32, device=CPU, adapter=tmp_path / "adapter")
    with pytest.raises(DataError, match="has another shape"):
        load_model(wider, dtype=torch.float32, device=CPU, adapter=tmp_path / "adapter")


def test_all_linear_means_every_linear_layer_but_the_head(tmp_path: Path) -> None:
    model = load_model(resolve_base(str(write_model(tmp_path, tie_word_embeddings=False))), dtype=torch.float32, device=CPU)
    names = target_names(model, "all-linear")
    assert len(names) == 2 * 7
    assert not any("lm_head" in name for name in names)


def test_an_unknown_target_is_an_error_that_names_what_there_is(tmp_path: Path) -> None:
    model = load_model(resolve_base(str(write_model(tmp_path))), dtype=torch.float32, device=CPU)
    with pytest.raises(RecipeError, match="no linear layer named query") as caught:
        target_names(model, ("query", "v_proj"))
    assert "q_proj" in caught.value.fix
