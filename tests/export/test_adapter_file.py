"""The adapter as a file of its own: llama.cpp's converter writes the same tensors, and beside a base it is the merged model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from afina.core.errors import DataError, RecipeError
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.adapter_file import write_adapter_file
from afina.export.families import lay_out
from afina.export.gguf import write_gguf
from afina.export.ladder import closeness, told_by_llama
from afina.infer.llama import LlamaServer
from afina.model.base import open_folder
from afina.model.merge import MergedWeights
from afina.model.streamed import Passage
from afina.model.weights import Checkpoint
from afina.recipe.load import validate
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.llama_convert import llama_convert_adapter
from tests.fakes.models import FAMILIES, write_model

PASSAGES = [Passage(tuple(range(3, 40)), (1, 9, 36)), Passage(tuple(range(50, 70)), (4,))]


def write(folder: Path, family: str = "llama", **settings: Any) -> Path:
    """A base, an adapter, and the adapter's file."""
    base = open_folder(write_model(folder / "base", family), "base")
    write_peft_adapter(folder / "adapter", base.folder, **{"size": 0.05, **settings})
    layout = lay_out(base, MergedWeights(Checkpoint(base.folder)))
    write_adapter_file(folder / "adapter.gguf", folder=folder / "adapter", layout=layout, name="shop")
    return folder / "adapter.gguf"


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: np.array(tensor.data) for tensor in gguf.GGUFReader(path).tensors}


def key(path: Path, name: str) -> Any:
    return gguf.GGUFReader(path).fields[name].contents()


@pytest.mark.parametrize("family", [pytest.param(name, marks=() if name == "llama" else pytest.mark.slow) for name in FAMILIES])
def test_the_tensors_are_those_of_llama_cpps_own_converter(family: str, tmp_path: Path) -> None:
    ours = write(tmp_path, family)
    theirs = tmp_path / "theirs.gguf"
    llama_convert_adapter(tmp_path / "base", tmp_path / "adapter", theirs)
    mine, other = tensors(ours), tensors(theirs)
    assert mine.keys() == other.keys()
    assert len(mine) == 2 * len(MergedWeights(Checkpoint(tmp_path / "base"), tmp_path / "adapter")._adapter.pairs)  # type: ignore[union-attr]
    assert all(np.array_equal(mine[name], other[name]) for name in mine)
    for name in ("general.type", "general.architecture", "adapter.type", "adapter.lora.alpha"):
        assert key(ours, name) == key(theirs, name)


SCALES: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "ranks and alphas of some layers": {"rank_pattern": {"down_proj": 8}, "alpha_pattern": {"v_proj": 32}},
    "rslora with ranks of some layers": {"use_rslora": True, "rank_pattern": {"q_proj": 2}},
}


@pytest.mark.parametrize("case", SCALES)
def test_beside_the_base_it_answers_as_the_merged_file(case: str, tmp_path: Path) -> None:
    beside = write(tmp_path, **SCALES[case])
    base = open_folder(tmp_path / "base", "base")
    tokenizer = Tokenizer.load(base.folder)
    template = choose_template("auto", tokenizer)
    for name, adapter in (("base", None), ("merged", tmp_path / "adapter")):
        weights = MergedWeights(Checkpoint(base.folder), adapter)
        write_gguf(
            tmp_path / f"{name}.gguf",
            base=base,
            weights=weights,
            tokenizer=tokenizer,
            template=template,
            kind="f32",
            name="shop",
        )
    vocabulary = int(base.config["vocab_size"])
    with LlamaServer(tmp_path / "merged.gguf", context=256, exact=True) as server:
        merged = told_by_llama(server, PASSAGES, vocabulary)
    with LlamaServer(tmp_path / "base.gguf", context=256, exact=True, adapter=beside) as server:
        together = told_by_llama(server, PASSAGES, vocabulary)
    with LlamaServer(tmp_path / "base.gguf", context=256, exact=True) as server:
        alone = told_by_llama(server, PASSAGES, vocabulary)
    assert np.allclose(np.concatenate(together.losses), np.concatenate(merged.losses), atol=1e-4)
    assert np.abs(np.concatenate(alone.losses) - np.concatenate(merged.losses)).max() > 0.05
    whole = told_whole(merged, vocabulary)
    assert closeness(whole, together).divergence < 1e-7
    assert closeness(whole, alone).divergence > 1e-3


def told_whole(told: Any, vocabulary: int) -> Any:
    """As torch tells it: log-probabilities by token."""
    rows = []
    for ids, logs in zip(told.ids, told.logs, strict=True):
        row = np.full(vocabulary, -60.0)
        row[ids] = logs
        rows.append(row)
    return replace(told, logs=tuple(rows))


@pytest.mark.slow
def test_llama_cpps_converter_forgets_that_rslora_scales_otherwise_and_ours_does_not(tmp_path: Path) -> None:
    ours = write(tmp_path, use_rslora=True)
    theirs = tmp_path / "theirs.gguf"
    llama_convert_adapter(tmp_path / "base", tmp_path / "adapter", theirs)
    assert key(theirs, "adapter.lora.alpha") == 8.0
    assert key(ours, "adapter.lora.alpha") == 8.0 * 4**0.5


def test_dora_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a DoRA adapter cannot be a file of its own"):
        write(tmp_path, use_dora=True)
    assert not (tmp_path / "adapter.gguf").exists()


@pytest.mark.parametrize("adapter", [{"dora": True}, {"method": "full"}])
def test_a_recipe_whose_adapter_cannot_stand_alone_is_refused_before_training(adapter: dict[str, Any]) -> None:
    tree = {"name": "shop", "data": {"examples": ["a.jsonl"]}, "adapter": adapter, "export": {"adapter_file": True}}
    with pytest.raises(RecipeError, match=r"export\.adapter_file"):
        validate(tree, "recipe.yaml")
