"""Quantized files are llama.cpp's, byte for byte: its choice of types and its rounding, against its own quantizer."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from afina.core.errors import DataError, ResourceError
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export import encode, kernels
from afina.export.check import check_numbers
from afina.export.encode import Encoders, Piece, encoders, pieces_of, process_bytes
from afina.export.gguf import FilePlan, write_gguf
from afina.export.kernels import quantize
from afina.export.mix import ModelFacts, type_of
from afina.export.tensor import TensorPlan
from afina.model.base import Base, open_folder
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint, Float32
from afina.recipe.kinds import KINDS, Kind
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.llama_quantize import llama_quantize
from tests.fakes.models import write_model

QUANTIZED: tuple[Kind, ...] = ("q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q3_k_m", "iq4_xs")
SHAPES: dict[str, dict[str, Any]] = {
    "llama, tied": {"family": "llama", "num_attention_heads": 8, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "mistral, own output": {
        "family": "mistral",
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    },
    "qwen3, narrow": {"family": "qwen3", "hidden_size": 160, "intermediate_size": 224, "head_dim": 32},
    "gemma2": {"family": "gemma2"},
    "phi3": {"family": "phi3", "tie_word_embeddings": False},
}


@pytest.fixture(scope="module", params=SHAPES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Ten layers: enough that first, last and middle ones are told apart."""
    shape = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 10, **SHAPES[request.param]}
    return open_folder(write_model(tmp_path_factory.mktemp("base"), shape.pop("family"), **shape), "base")


def written(path: Path, base: Base, kind: Kind, adapter: Path | None = None, **more: Any) -> FilePlan:
    tokenizer = Tokenizer.load(base.folder)
    weights = MergedWeights(Checkpoint(base.folder), adapter)
    template = choose_template("auto", tokenizer)
    return write_gguf(path, base=base, weights=weights, tokenizer=tokenizer, template=template, kind=kind, name="shop", **more)


@pytest.mark.parametrize("kind", QUANTIZED)
def test_a_file_is_the_one_that_llama_cpp_makes_of_ours(kind: Kind, base: Base, tmp_path: Path) -> None:
    written(tmp_path / "f32.gguf", base, "f32")
    theirs = gguf.GGUFReader(llama_quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", kind))
    written(tmp_path / "ours.gguf", base, kind)
    ours = gguf.GGUFReader(tmp_path / "ours.gguf")
    assert [(t.name, t.tensor_type.name, t.shape.tolist()) for t in ours.tensors] == [
        (t.name, t.tensor_type.name, t.shape.tolist()) for t in theirs.tensors
    ]
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert np.array_equal(mine.data, other.data), mine.name
    assert {key: field.contents() for key, field in ours.fields.items() if not key.startswith("GGUF.")} == {
        key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")
    }
    assert (tmp_path / "ours.gguf").stat().st_size == (tmp_path / "theirs.gguf").stat().st_size


@pytest.mark.parametrize("kind", QUANTIZED)
def test_an_adapter_is_worked_in_before_the_numbers_are_rounded(kind: Kind, tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512), "base")
    adapter = tmp_path / "adapter"
    write_peft_adapter(adapter, base.folder, size=0.05)
    written(tmp_path / "f32.gguf", base, "f32", adapter)
    theirs = gguf.GGUFReader(llama_quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", kind))
    plan = written(tmp_path / "ours.gguf", base, kind, adapter)
    ours = gguf.GGUFReader(tmp_path / "ours.gguf")
    assert all(np.array_equal(mine.data, other.data) for mine, other in zip(ours.tensors, theirs.tensors, strict=True))
    weights = MergedWeights(Checkpoint(base.folder), adapter)
    assert 0 < check_numbers(tmp_path / "ours.gguf", plan, weights).worst_error < 0.2
    alone = MergedWeights(Checkpoint(base.folder))
    assert check_numbers(tmp_path / "f32.gguf", written(tmp_path / "f32.gguf", base, "f32"), alone).worst_error == 0


@pytest.mark.parametrize("kind", ["q4_k_m", "q5_k_s", "iq4_xs"])
def test_compiled_kernels_give_the_same_file(kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512), "base")
    adapter = tmp_path / "adapter"
    write_peft_adapter(adapter, base.folder, size=0.05)
    importance = {f"blk.0.{name}.weight": np.linspace(0, 2, 256, dtype=np.float32) for name in ("attn_q", "attn_v", "ffn_up")}
    written(tmp_path / "few.gguf", base, kind, adapter, importance=importance)
    asked: list[bool] = []

    class Watched(Encoders):
        def __init__(
            self, weights: MergedWeights, importance: Mapping[str, Float32], count: int, *, compiled: bool = False
        ) -> None:
            asked.append(compiled)
            super().__init__(weights, importance, count, compiled=compiled)

    monkeypatch.setattr(encode, "_COMPILE_VALUES", 0)
    monkeypatch.setattr(encode, "_COMPILE_SLOW_VALUES", 0)
    monkeypatch.setattr(encode, "Encoders", Watched)
    written(tmp_path / "many.gguf", base, kind, adapter, importance=importance)
    assert asked == [True]
    assert (tmp_path / "many.gguf").read_bytes() == (tmp_path / "few.gguf").read_bytes()


def test_models_of_80_layers_get_better_values_as_in_llama_cpp(tmp_path: Path) -> None:
    shape: dict[str, Any] = {
        "hidden_size": 256,
        "intermediate_size": 256,
        "num_hidden_layers": 80,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
    }
    base = open_folder(write_model(tmp_path / "base", "llama", **shape), "base")
    written(tmp_path / "f32.gguf", base, "f32")
    for kind in ("q4_k_s", "q3_k_m"):
        theirs = gguf.GGUFReader(llama_quantize(tmp_path / "f32.gguf", tmp_path / "theirs.gguf", kind))
        plan = written(tmp_path / "ours.gguf", base, kind)
        assert [tensor.type for tensor in plan.tensors] == [tensor.tensor_type for tensor in theirs.tensors]


@pytest.mark.parametrize("rounded", [(), ("w",)], ids=["as it is", "through NF4"])
def test_a_process_takes_the_memory_that_is_planned(rounded: tuple[str, ...], tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("VmHWM is Linux's")
    shape = (8192, 1024)
    save_file({"w": torch.ones(shape, dtype=torch.bfloat16)}, tmp_path / "model.safetensors")
    with Encoders(MergedWeights(Checkpoint(tmp_path), None, rounded), {}, 1) as encoders_:
        for _bytes in encoders_.encoded(pieces_of(TensorPlan("w", "w", shape), gguf.GGMLQuantizationType.Q8_0)):
            pass
        status = Path(f"/proc/{encoders_._children[0]._process.pid}/status").read_text(encoding="ascii")
    highest = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    planned = process_bytes(8192 * 1024 if rounded else 0)
    assert 0.6 * planned < highest < 1.1 * planned


def test_several_processes_give_the_bytes_of_one(tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512), "base")
    weights = MergedWeights(Checkpoint(base.folder))
    plan = written(tmp_path / "m.gguf", base, "q4_k_m")
    pieces = [
        Piece(tensor.plan, tensor.type, start, min(start + tensor.plan.row_unit, tensor.shape[0]))
        for tensor in plan.tensors
        if tensor.plan is not None
        for start in range(0, tensor.shape[0], tensor.plan.row_unit * 8)[:3]
    ]
    with Encoders(weights, {}, 2) as two, Encoders(weights, {}, 1) as one:
        assert list(two.encoded(pieces)) == list(one.encoded(pieces))


def test_few_numbers_that_need_no_native_code_are_rounded_here() -> None:
    weights = MergedWeights.__new__(MergedWeights)
    with encoders(weights, {gguf.GGMLQuantizationType.Q8_0}, 1000) as encoder:
        assert isinstance(encoder, encode.Encoder)


def test_a_process_that_crashes_is_an_error_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512), "base")
    monkeypatch.setattr(encode, "_CODE", "import os, sys; sys.stderr.write('ggml_abort: no\\n'); sys.stderr.flush(); os.abort()")
    with pytest.raises(ResourceError, match="ggml_abort: no"):
        written(tmp_path / "m.gguf", base, "q4_k_m")
    assert list(tmp_path.iterdir()) == [tmp_path / "base"]


def test_a_weight_that_is_no_number_is_named_from_the_other_process(tmp_path: Path) -> None:
    base = open_folder(write_model(tmp_path / "base", "llama", hidden_size=256, intermediate_size=512), "base")
    adapter = tmp_path / "adapter"
    write_peft_adapter(adapter, base.folder, size=float("nan"))
    with pytest.raises(DataError, match="holds a number that is none"):
        written(tmp_path / "m.gguf", base, "q4_k_m", adapter)
    assert not (tmp_path / "m.gguf").exists()


def test_importance_spares_the_columns_that_matter() -> None:
    rows = np.random.default_rng(7).standard_normal((64, 512), np.float32)
    importance = np.where(np.arange(512) % 4 == 0, 100.0, 0.01).astype(np.float32)
    matters = importance > 1

    def error(weights: Float32 | None) -> float:
        data = np.frombuffer(quantize(rows, gguf.GGMLQuantizationType.Q4_K, weights), np.uint8).reshape(64, -1)
        got = gguf.quants.dequantize(data, gguf.GGMLQuantizationType.Q4_K)
        return float(np.square(got - rows)[:, matters].sum())

    assert error(importance) < 0.8 * error(None)


def test_a_type_without_its_kernel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "native_kernel", lambda: None)
    rows = np.zeros((1, 256), np.float32)
    with pytest.raises(ResourceError, match=r"q3_k.*on Linux and macOS only"):
        quantize(rows, gguf.GGMLQuantizationType.Q3_K)
    assert quantize(rows, gguf.GGMLQuantizationType.Q4_K) == bytes(144)


def test_every_kind_has_a_type_for_a_matrix_and_vectors_stay_exact() -> None:
    facts = ModelFacts(layers=4, has_output=True, gqa=1)
    for kind in KINDS:
        assert (
            type_of("blk.0.attn_q.weight", (256, 256), kind, facts)
            .name.lower()
            .startswith(kind.removesuffix("_m").removesuffix("_s"))
        )
        assert type_of("blk.0.attn_norm.weight", (256,), kind, facts) is gguf.GGMLQuantizationType.F32


def test_pieces_cover_all_rows_in_whole_heads() -> None:
    plan = TensorPlan("blk.0.attn_q.weight", "q", (8192, 4096), heads=64)
    pieces = list(pieces_of(plan, gguf.GGMLQuantizationType.Q4_K))
    assert len(pieces) > 1
    assert [piece.start for piece in pieces[1:]] == [piece.stop for piece in pieces[:-1]]
    assert (pieces[0].start, pieces[-1].stop) == (0, 8192)
    assert all(piece.stop % plan.row_unit == 0 for piece in pieces)
