"""Layer by layer is the same as whole, for each family and each way of keeping weights; and it leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from afina.core.errors import DataError, ResourceError
from afina.infer.score import log_probabilities
from afina.model import streamed
from afina.model.base import Base, open_folder
from afina.model.load import load_model
from afina.model.streamed import Passage, StreamedModel, bytes_needed
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.models import FAMILIES, write_model

CPU = torch.device("cpu")
PASSAGES = [
    Passage(tuple(7 * place % 300 + 3 for place in range(100)), (1, 50, 99)),  # beyond the windows of Gemma 2 and 3
    Passage((5, 9, 17, 33, 4), (4,)),
    Passage(tuple(range(40, 60)), (2, 3, 19)),
]


def whole(base: Base, **settings: Any) -> list[torch.Tensor]:
    model = load_model(base, dtype=torch.float32, device=CPU, **settings)
    return [log_probabilities(model, row.ids, row.places) for row in PASSAGES]


def by_layers(base: Base, folder: Path, **settings: Any) -> list[torch.Tensor]:
    return list(StreamedModel(base, device=CPU, folder=folder, **settings).log_probabilities(PASSAGES))


def furthest(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    assert [logs.shape for logs in one] == [logs.shape for logs in other]
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_numbers_are_those_of_the_whole_model(family: str, tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path / "base", family, num_hidden_layers=3), "base")
    write_peft_adapter(tmp_path / "adapter", base.folder, size=0.05, use_rslora=family == "qwen2", use_dora=family == "llama")
    plain, adapted = by_layers(base, tmp_path), by_layers(base, tmp_path, adapter=tmp_path / "adapter")
    assert furthest(plain, whole(base)) < 1e-5
    assert furthest(adapted, whole(base, adapter=tmp_path / "adapter")) < 1e-5
    assert furthest(plain, adapted) > 1e-2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "base"]


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_an_adapter_stands_beside_the_quantized_weights_that_it_was_trained_on(quantize: str, tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama"), "base")
    write_peft_adapter(tmp_path / "adapter", base.folder, size=0.05)
    settings: dict[str, Any] = {"adapter": tmp_path / "adapter", "quantize": quantize}
    rounded = by_layers(base, tmp_path, **settings)
    assert furthest(rounded, whole(base, **settings)) < 1e-5
    assert furthest(rounded, by_layers(base, tmp_path, adapter=tmp_path / "adapter")) > 1e-3


def test_sixteen_bit_files_several_groups_of_places_and_pieces_of_the_output_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "base", "mistral", tie_word_embeddings=False)
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.setattr(streamed, "_HEAD_PLACES", 3)
    monkeypatch.setattr(streamed, "_HEAD_BYTES", 4 * 64 * 100)
    base = open_folder(folder, "base")
    assert furthest(by_layers(base, tmp_path), whole(base)) < 1e-5


def test_one_layer_at_a_time_has_weights(tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama", num_hidden_layers=4), "base")
    seen: list[tuple[str, list[int]]] = []

    @contextmanager
    def watch(model: Any, layer: str) -> Iterator[None]:
        seen.append((layer, [n for n, one in enumerate(model.model.layers) if not one.mlp.up_proj.weight.is_meta]))
        yield

    model = StreamedModel(base, device=CPU, folder=tmp_path)
    model.states([(5, 6, 7)], [(2,)], watch)
    assert seen == [(f"model.layers.{number}", [number]) for number in range(4)]


def test_a_missing_weight_and_one_of_another_shape_are_told_before_any_work(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "base", "llama")
    tensors = load_file(folder / "model.safetensors")
    gone = "model.layers.1.mlp.up_proj.weight"
    save_file({name: tensor for name, tensor in tensors.items() if name != gone}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=rf"lacks 1 weights that config\.json asks for: {gone}"):
        StreamedModel(open_folder(folder, "base"), device=CPU, folder=tmp_path)
    save_file({**tensors, gone: tensors[gone][:5].contiguous()}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(DataError, match=rf"{gone} is \[5, 64\] in the weights"):
        StreamedModel(open_folder(folder, "base"), device=CPU, folder=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    import resource

    base = open_folder(write_model(tmp_path / "base", "llama"), "base")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(ResourceError, match="the disk is full"):
            by_layers(base, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_memory_that_is_foretold_grows_with_a_layer_and_with_the_rows(tmp_path: Path) -> None:
    small = open_folder(write_model(tmp_path / "small", "llama"), "small")
    deep = open_folder(write_model(tmp_path / "deep", "llama", num_hidden_layers=6), "deep")
    wide = open_folder(write_model(tmp_path / "wide", "llama", intermediate_size=65536), "wide")
    assert bytes_needed(small, 100) == bytes_needed(deep, 100)
    assert bytes_needed(wide, 100) > bytes_needed(small, 100)
    assert bytes_needed(wide, 1000) > bytes_needed(wide, 100)
