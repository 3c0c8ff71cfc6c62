"""Adapters: PEFT's files to the letter, and refusals of what a merge could not honour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import peft
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from afina.core.errors import DataError, RecipeError
from afina.model.adapter import load_adapter
from afina.model.base import resolve_base
from afina.model.frozen import form
from afina.model.load import load_model
from afina.model.lora import adapter_tensors, add_lora, lora_layers, target_names, trained_parameters
from afina.model.peft import save_adapter
from afina.recipe.recipe import Adapter
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.models import write_model

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 17, 33, 4]])


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"rslora": True},
    "some layers": {"targets": ["q_proj", "down_proj"], "alpha": 3},
    "patterns": {"ranks": {"down_proj": 9, r".*\.1\..*o_proj": 2}, "alphas": {"q_proj": 1, "layers.1.mlp.up_proj": 32}},
    "dora": {"dora": True},
    "dora with all": {"dora": True, "rslora": True, "ranks": {"q_proj": 8}, "alphas": {"k_proj": 5}},
    "pissa": {"init": "pissa"},
    "pissa with all": {"init": "pissa", "rslora": True, "ranks": {"q_proj": 8}, "alphas": {"k_proj": 5}},
    "pissa and dora": {"init": "pissa", "dora": True},
}


def model_with_adapter(base_folder: Path, settings: dict[str, Any], **loading: Any) -> tuple[Any, Adapter]:
    """A model with a fresh adapter."""
    model = load_model(resolve_base(str(base_folder)), dtype=torch.float32, device=CPU, **loading)
    adapter = Adapter.model_validate({"rank": 4, "alpha": 8, **settings})
    add_lora(model, adapter, seed=1)
    return model, adapter


def disturb(model: Any) -> None:
    """As after a training: nothing is what it was at the start."""
    generator = torch.Generator().manual_seed(0)
    for parameter in trained_parameters(model).values():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)


def make_adapter(folder: Path, base_folder: Path, **settings: Any) -> None:
    """An adapter that does something, saved by us."""
    model, adapter = model_with_adapter(base_folder, settings)
    disturb(model)
    save_adapter(folder, adapter, "base", adapter_tensors(model))


def in_transformers(base: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_a_fresh_adapter_leaves_the_base_as_it_is(
    settings: dict[str, Any], quantize: Literal["none", "nf4"], tmp_path: Path
) -> None:
    base = write_model(tmp_path)
    plain = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU, quantize=quantize)
    model, _adapter = model_with_adapter(base, settings, quantize=quantize)
    torch.testing.assert_close(model(input_ids=IDS).logits, plain(input_ids=IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Using Rank-Stabilized LoRA with rank_pattern")
@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS)
def test_peft_reads_our_adapter_and_computes_what_we_compute(settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "qwen2")  # has biases
    model, adapter = model_with_adapter(base, settings)
    disturb(model)
    save_adapter(tmp_path / "adapter", adapter, "base", adapter_tensors(model))
    trained = model.eval()(input_ids=IDS).logits
    ours = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU, adapter=tmp_path / "adapter")
    plain = in_transformers(base)
    before = plain(input_ids=IDS).logits.clone()
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    wanted = theirs(input_ids=IDS).logits
    torch.testing.assert_close(trained, wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours(input_ids=IDS).logits, wanted, rtol=1e-4, atol=1e-5)
    assert (wanted - before).abs().max() > 1e-2


def test_the_configuration_holds_what_peft_writes_for_the_same_adapter(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    settings = {
        "dora": True,
        "rslora": True,
        "ranks": {"q_proj": 8},
        "alphas": {"k_proj": 5},
        "dropout": 0.1,
        "targets": ["q_proj"],
    }
    make_adapter(tmp_path / "ours", base, **{**settings, "targets": ["q_proj", "k_proj"]})
    write_peft_adapter(
        tmp_path / "theirs", base, use_dora=True, use_rslora=True, rank_pattern={"q_proj": 8}, alpha_pattern={"k_proj": 5},
        lora_dropout=0.1, target_modules=["q_proj", "k_proj"],
    )  # fmt: skip
    ours, theirs = (json.loads((tmp_path / side / "adapter_config.json").read_text()) for side in ("ours", "theirs"))
    theirs["target_modules"].sort()
    assert ours == {key: theirs[key] for key in ours} | {"base_model_name_or_path": "base"}


@pytest.mark.filterwarnings("ignore:Using Rank-Stabilized LoRA with rank_pattern")
@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["q_proj", "up_proj"], "rank_pattern": {"up_proj": 8}, "alpha_pattern": {"q_proj": 2}},
        {"use_rslora": True, "rank_pattern": {"down_proj": 2}},
        {"use_dora": True, "alpha_pattern": {r".*\.1\..*o_proj": 32}},
    ],
    ids=["patterns", "rslora", "dora"],
)
def test_we_read_the_adapter_that_peft_writes(settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", "qwen2")
    theirs = write_peft_adapter(tmp_path / "adapter", base, **settings)
    ours = load_model(resolve_base(str(base)), dtype=torch.float32, device=CPU, adapter=tmp_path / "adapter")
    torch.testing.assert_close(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "dropout"),
    [({}, 0.0), ({}, 0.2), ({"dora": True}, 0.0), ({"dora": True}, 0.2), ({"init": "pissa"}, 0.0)],
    ids=str,
)
def test_a_step_gives_pefts_gradients(settings: dict[str, Any], dropout: float, tmp_path: Path) -> None:
    """The same start, the same noise: then each gradient is PEFT's, which for PiSSA trains on a changed base."""
    base = write_model(tmp_path, "qwen2")
    ours, _adapter = model_with_adapter(base, {**settings, "dropout": dropout})
    config = peft.LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, use_dora="dora" in settings, use_rslora="rslora" in settings,
        target_modules="all-linear", init_lora_weights=settings.get("init", True), task_type="CAUSAL_LM",
    )  # fmt: skip
    theirs: Any = peft.get_peft_model(in_transformers(base), config)
    names = {f"base_model.model.{name}": name for name in trained_parameters(ours)}
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad and "init" not in settings:
            own = trained_parameters(ours)[names[_as_saved(name)]]
            own.data += 0.05 * torch.randn(own.shape, generator=torch.Generator().manual_seed(own.numel()))
            parameter.data.copy_(own)
    for model in (ours, theirs):
        torch.manual_seed(4)
        model.train()
        model(input_ids=IDS, labels=IDS).loss.backward()
    own_gradients = {f"base_model.model.{name}": parameter.grad for name, parameter in trained_parameters(ours).items()}
    their_gradients = {
        _as_saved(name): parameter.grad for name, parameter in theirs.named_parameters() if parameter.requires_grad
    }
    assert own_gradients.keys() == their_gradients.keys()
    sign = _signs(ours, theirs) if "init" in settings else {}
    for name, gradient in their_gradients.items():
        wanted = gradient * sign.get(name, torch.ones(()))
        torch.testing.assert_close(own_gradients[name], wanted, rtol=1e-3, atol=2e-5 * float(wanted.abs().max()), msg=name)


def _as_saved(name: str) -> str:
    return name.replace(".lora_magnitude_vector.default.weight", ".lora_magnitude_vector").replace(".default", "")


@torch.no_grad()
def _signs(ours: Any, theirs: Any) -> dict[str, Tensor]:
    """A singular vector's sign is free: where PEFT has the other one, its gradient has it too."""
    found = {}
    own = {f"base_model.model.{name}": parameter for name, parameter in trained_parameters(ours).items()}
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:
            along = 1 if "lora_A" in name else 0
            found[_as_saved(name)] = (own[_as_saved(name)] * parameter).sum(along, keepdim=True).sign()
    return found


@pytest.mark.parametrize("setting", ["ranks", "alphas"])
def test_a_pattern_that_matches_nothing_is_an_error(setting: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"adapter\.{setting}: no layer with an adapter matches 'query'") as caught:
        model_with_adapter(write_model(tmp_path), {setting: {"query": 8, "q_proj": 2}})
    assert "layers.0.self_attn.q_proj" in caught.value.fix
    assert "down_proj" in caught.value.fix


def test_pissa_needs_a_rank_that_the_weights_have(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"rank 40, and model\.layers\.0\.self_attn\.k_proj has only 32 directions"):
        model_with_adapter(write_model(tmp_path), {"init": "pissa", "rank": 40})


def test_pissa_starts_at_the_largest_directions_and_saves_twice_the_rank(tmp_path: Path) -> None:
    model, adapter = model_with_adapter(write_model(tmp_path / "base"), {"init": "pissa"})
    for _name, layer in lora_layers(model):
        weight = form(layer.frozen)[2][0]
        first = layer.scale * (layer.b @ layer.a)
        rest = torch.linalg.svdvals(weight - first)
        torch.testing.assert_close(rest[: -adapter.rank], torch.linalg.svdvals(weight)[adapter.rank :], rtol=1e-3, atol=1e-4)
    assert not any(layer.has_learned() for _name, layer in lora_layers(model))
    disturb(model)
    assert all(layer.has_learned() for _name, layer in lora_layers(model))
    save_adapter(tmp_path / "adapter", adapter, "base", adapter_tensors(model))
    assert json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["r"] == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa'"),
        ({"layer_replication": [[0, 1]]}, "layer_replication=[[0, 1]]"),
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


@pytest.mark.parametrize("wrong", ["a magnitude is missing", "magnitudes without DoRA"])
def test_magnitudes_that_do_not_fit_the_configuration_are_an_error(wrong: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    make_adapter(folder, write_model(tmp_path / "base"), dora=True)
    if wrong == "a magnitude is missing":
        tensors = load_file(folder / "adapter_model.safetensors")
        tensors.pop("base_model.model.model.layers.0.mlp.up_proj.lora_magnitude_vector")
        save_file(tensors, folder / "adapter_model.safetensors")
    else:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "use_dora": False}))
    with pytest.raises(DataError, match="no pair of A and B"):
        load_adapter(folder)


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
