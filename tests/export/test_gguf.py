"""The file itself: its types, written whole or not at all, with nothing in it that is no number."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from afina.core.errors import DataError, ResourceError
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export import gguf as export_gguf
from afina.export import tensor as export_tensor
from afina.export.gguf import bytes_of_file, write_gguf
from afina.model.base import Base, open_folder
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint
from tests.fakes.models import write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return open_folder(write_model(tmp_path_factory.mktemp("base"), "qwen2", hidden_size=64, intermediate_size=80), "base")


def written(path: Path, base: Base, kind: Any, progress: Any = None) -> export_gguf.FilePlan:
    tokenizer = Tokenizer.load(base.folder)
    weights = MergedWeights(Checkpoint(base.folder))
    template = choose_template("auto", tokenizer)
    return write_gguf(
        path, base=base, weights=weights, tokenizer=tokenizer, template=template, kind=kind, name="shop", progress=progress
    )


@pytest.mark.parametrize("kind", ["f32", "f16", "bf16", "q8_0"])
def test_matrices_have_the_wanted_type_and_norms_and_biases_stay_exact(kind: str, base: Base, tmp_path: Path) -> None:
    plan = written(tmp_path / "m.gguf", base, kind)
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["blk.0.attn_q.weight"] == kind.upper()
    assert types["blk.0.attn_norm.weight"] == types["blk.0.attn_q.bias"] == "F32"
    assert types["blk.0.ffn_down.weight"] == ("F16" if kind == "q8_0" else kind.upper())  # rows of 80 are no multiple of 32
    assert reader.fields["general.file_type"].contents() == {"f32": 0, "f16": 1, "bf16": 32, "q8_0": 7}[kind]
    assert (tmp_path / "m.gguf").stat().st_size <= bytes_of_file(plan)
    assert (tmp_path / "m.gguf").stat().st_size >= plan.data_bytes


def test_small_pieces_make_the_same_file(base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("f16", "q8_0"):
        written(tmp_path / f"whole-{kind}", base, kind)
        with monkeypatch.context() as patch:
            patch.setattr(export_tensor, "CHUNK_VALUES", 300)
            written(tmp_path / f"pieces-{kind}", base, kind)
        assert (tmp_path / f"whole-{kind}").read_bytes() == (tmp_path / f"pieces-{kind}").read_bytes()


def test_pieces_do_not_cut_a_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotary pairs are brought side by side within a head: a piece of half a head would mix them up."""
    llama = open_folder(write_model(tmp_path / "base", "llama"), "base")
    written(tmp_path / "whole", llama, "f32")
    monkeypatch.setattr(export_tensor, "CHUNK_VALUES", 100)
    written(tmp_path / "pieces", llama, "f32")
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_progress_ends_with_all_bytes(base: Base, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    plan = written(tmp_path / "m.gguf", base, "f16", lambda done, total: heard.append((done, total)))
    assert heard[-1] == (plan.data_bytes, plan.data_bytes)
    assert [done for done, _total in heard] == sorted(done for done, _total in heard)


def with_value(folder: Path, base: Base, value: float, dtype: torch.dtype = torch.float32) -> Base:
    shutil.copytree(base.folder, folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    return open_folder(folder, "broken")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_none_is_told_with_its_weight_and_leaves_no_file(value: float, base: Base, tmp_path: Path) -> None:
    broken = with_value(tmp_path / "base", base, value)
    (tmp_path / "m.gguf").write_text("an earlier export")
    with pytest.raises(DataError, match=r"model\.layers\.1\.mlp\.up_proj\.weight holds a number that is none"):
        written(tmp_path / "m.gguf", broken, "f16")
    assert (tmp_path / "m.gguf").read_text() == "an earlier export"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "m.gguf"]


def test_a_number_beyond_f16_is_an_error_and_fits_bf16(base: Base, tmp_path: Path) -> None:
    large = with_value(tmp_path / "base", base, 70000.0)
    with pytest.raises(DataError, match="reaches 70000; F16 ends at 65504"):
        written(tmp_path / "m.gguf", large, "f16")
    written(tmp_path / "m.gguf", large, "bf16")


def test_no_room_on_the_disk_is_known_before_anything_is_written(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: full)
    with pytest.raises(ResourceError, match=r"m\.gguf needs .* 1000 B are free"):
        written(tmp_path / "m.gguf", base, "f16")
    assert list(tmp_path.iterdir()) == []


def test_bf16_weights_come_through_bf16_untouched(base: Base, tmp_path: Path) -> None:
    half = with_value(tmp_path / "base", base, 0.5, torch.bfloat16)
    written(tmp_path / "m.gguf", half, "bf16")
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}["blk.1.ffn_up.weight"]
    stored = Checkpoint(half.folder).read("model.layers.1.mlp.up_proj.weight")
    np.testing.assert_array_equal(gguf.quants.dequantize(found.data, found.tensor_type), stored)
