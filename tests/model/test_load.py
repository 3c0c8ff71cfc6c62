"""A base in memory: the numbers that transformers loads, in less memory where that is asked for, and nothing made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from afina.core.errors import DataError
from afina.model import load
from afina.model.base import resolve_base
from afina.model.frozen import FrozenLinear, decode, form
from afina.model.load import choose_dtype, choose_threads, load_model
from tests.fakes.models import FAMILIES, write_model

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 9, 17, 33, 4]])


def loaded(folder: Path, dtype: torch.dtype = torch.float32, **settings: Any) -> Any:
    return load_model(resolve_base(str(folder)), dtype=dtype, device=CPU, attention="eager", **settings)


def by_transformers(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager")


def change_weights(folder: Path, change: Any) -> None:
    path = folder / "model.safetensors"
    tensors = change(load_file(path))
    save_file(tensors, path, metadata={"format": "pt"})


def in_bfloat16(folder: Path) -> Path:
    change_weights(folder, lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()})
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_what_transformers_loads(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = in_bfloat16(write_model(tmp_path, family))
    ours, theirs = loaded(folder, dtype), by_transformers(folder, dtype)
    assert torch.equal(ours(input_ids=IDS).logits, theirs(input_ids=IDS).logits)
    wanted = theirs.state_dict()
    assert ours.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in ours.state_dict().items())
    assert not any(parameter.requires_grad for parameter in ours.parameters())


@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layer_is_the_embedding_where_they_are_tied(tied: bool, tmp_path: Path) -> None:
    model = loaded(write_model(tmp_path, tie_word_embeddings=tied))
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    assert torch.equal(model(input_ids=IDS).logits, by_transformers(tmp_path)(input_ids=IDS).logits)


def test_older_names_of_the_weights_are_known_too(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    wanted = loaded(folder)(input_ids=IDS).logits
    change_weights(folder, lambda tensors: {name.removeprefix("model."): tensor for name, tensor in tensors.items()})
    assert torch.equal(loaded(folder)(input_ids=IDS).logits, wanted)
    quantized = loaded(folder, quantize="nf4")
    assert isinstance(quantized.model.layers[0].mlp.up_proj, FrozenLinear)


@pytest.mark.parametrize("family", ["llama", "qwen2", "phi3"])
def test_bfloat16_weights_that_stay_so_compute_the_same_in_half_the_memory(family: str, tmp_path: Path) -> None:
    folder = in_bfloat16(write_model(tmp_path, family))
    lean, dense = loaded(folder, storage=torch.bfloat16), loaded(folder)
    assert torch.equal(lean(input_ids=IDS).logits, dense(input_ids=IDS).logits)
    parts = [form(layer)[2][0] for layer in lean.model.layers.modules() if isinstance(layer, FrozenLinear)]
    weights = [layer.weight for layer in dense.model.layers.modules() if isinstance(layer, nn.Linear)]
    assert sum(part.nbytes for part in parts) * 2 == sum(weight.nbytes for weight in weights) > 0


def test_float32_weights_are_not_rounded_to_the_storage_type(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    assert torch.equal(loaded(folder, storage=torch.bfloat16)(input_ids=IDS).logits, loaded(folder)(input_ids=IDS).logits)


@pytest.mark.parametrize(("quantize", "step"), [("int8", 0.5 / 127), ("nf4", 0.16)])
def test_quantized_weights_are_those_of_the_base_but_for_their_rounding(
    quantize: Literal["int8", "nf4"], step: float, tmp_path: Path
) -> None:
    """``step``: half the widest gap between two levels, as a share of the largest weight of the row or block."""
    folder = write_model(tmp_path, "qwen2", tie_word_embeddings=False)
    model, dense = loaded(folder, quantize=quantize), by_transformers(folder)
    names = [name for name, module in model.named_modules() if isinstance(module, FrozenLinear)]
    assert len(names) == 2 * 7
    for name in names:
        layer, weight = model.get_submodule(name), dense.get_submodule(name).weight
        kind, shape, parts = form(layer)
        off = (decode(kind, shape, parts, torch.float32) - weight).abs()
        assert 0 < off.max() <= step * weight.abs().amax(1).max() * 1.01
        assert torch.equal(layer.bias, dense.get_submodule(name).bias) if layer.bias is not None else True
    assert isinstance(model.get_output_embeddings(), nn.Linear)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_weights_that_do_not_fit_the_configuration_are_named_with_both_shapes(
    quantize: Literal["none", "nf4"], tmp_path: Path
) -> None:
    folder = write_model(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 160}))
    with pytest.raises(DataError, match=r"model\.layers\.\d\.mlp\.\w+\.weight is \[.*\] in the weights and \[.*160.*\] by"):
        loaded(folder, quantize=quantize)


def test_a_weight_that_is_missing_is_an_error_and_not_made_up(tmp_path: Path) -> None:
    folder = write_model(tmp_path)
    gone = "model.layers.1.mlp.up_proj.weight"
    change_weights(folder, lambda tensors: {name: tensor for name, tensor in tensors.items() if name != gone})
    with pytest.raises(DataError, match=r"lacks 1 weights that config\.json asks for: model\.layers\.1\.mlp\.up_proj\.weight"):
        loaded(folder)


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [((9, 0), torch.bfloat16, "capability 9.0"), ((8, 0), torch.bfloat16, "8.0"), ((7, 5), torch.float16, "7.5 is below 8.0")],
)
def test_a_gpus_number_type_follows_from_its_compute_capability(
    capability: tuple[int, int], dtype: torch.dtype, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    chosen = choose_dtype("auto", torch.device("cuda"), 10**9)
    assert chosen.dtype == dtype
    assert reason in chosen.reason


@pytest.mark.parametrize(
    ("native", "parameters", "dtype"),
    [(True, 10**9, torch.bfloat16), (True, 10**6, torch.float32), (False, 10**9, torch.float32)],
)
def test_a_cpu_computes_in_bfloat16_only_where_it_has_it(
    native: bool, parameters: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "_cpu_multiplies_bfloat16", lambda: native)
    assert choose_dtype("auto", CPU, parameters).dtype == dtype


@pytest.mark.parametrize("setting", ["float32", "bfloat16", "float16"])
def test_a_number_type_that_is_asked_for_is_taken(setting: Literal["float32", "bfloat16", "float16"]) -> None:
    assert choose_dtype(setting, CPU, 1).dtype == getattr(torch, setting)


@pytest.mark.parametrize(
    ("width", "tokens", "threads"), [(256, 512, 1), (256, 1024, 2), (64, 1024, 1), (4096, 512, 2), (4096, 8192, 2)]
)
def test_small_products_are_not_shared_out(width: int, tokens: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert choose_threads({"hidden_size": width}, tokens) == threads
