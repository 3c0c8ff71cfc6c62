"""Merging row by row gives what PEFT's own merge gives, for every way in which PEFT scales an update."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from afina.core.errors import DataError
from afina.model import nf4
from afina.model.adapter import load_adapter
from afina.model.merge import MergedWeights
from afina.model.weights import Checkpoint
from tests.fakes.adapters import write_peft_adapter
from tests.fakes.models import write_model

Q = "model.layers.0.self_attn.q_proj.weight"


@pytest.mark.filterwarnings("ignore:Using Rank-Stabilized LoRA with rank_pattern")
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("llama", {"use_rslora": True, "lora_alpha": 3}),
        (
            "llama",
            {"rank_pattern": {"q_proj": 8, "layers.1.mlp.up_proj": 2}, "alpha_pattern": {"q_proj": 1, r".*\.1\..*o_proj": 32}},
        ),
        ("qwen2", {"use_rslora": True, "rank_pattern": {"down_proj": 9}}),
        ("phi3", {}),
        ("llama", {"use_dora": True, "rank_pattern": {"q_proj": 8}}),
        ("qwen2", {"use_dora": True, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]}),
        ("gemma2", {"target_modules": ["q_proj", "down_proj"]}),
    ],
    ids=["plain", "rslora", "patterns", "rslora and pattern", "fused", "dora", "dora and rslora", "some layers"],
)
def test_merged_rows_are_those_of_peft(family: str, settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", family)
    adapted: Any = write_peft_adapter(tmp_path / "adapter", base, **settings)
    wanted = adapted.merge_and_unload().state_dict()
    merged = MergedWeights(Checkpoint(base), tmp_path / "adapter")
    changed = 0
    for name in merged.names():
        rows = merged.shape(name)[0]
        got = np.concatenate([merged.read(name, start, start + 5) for start in range(0, rows, 5)])
        np.testing.assert_allclose(got, wanted[name].numpy(), rtol=0, atol=2e-6, err_msg=name)
        changed += not np.array_equal(got, Checkpoint(base).read(name))
    assert changed == len(load_adapter(tmp_path / "adapter").pairs)


def test_without_an_adapter_the_weights_are_the_bases_own(tmp_path: Path) -> None:
    base = write_model(tmp_path)
    checkpoint = Checkpoint(base)
    merged = MergedWeights(checkpoint)
    assert merged.names() == checkpoint.names()
    assert merged.dtype(Q) == "F32"
    np.testing.assert_array_equal(merged.read(Q, 3, 9), checkpoint.read(Q, 3, 9))


def change_adapter(folder: Path, change: Any) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_an_adapter_of_another_base_is_an_error(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_peft_adapter(tmp_path / "adapter", base)
    other = write_model(tmp_path / "other", num_hidden_layers=1)
    with pytest.raises(DataError, match=r"belongs to another base: there is no weight model\.layers\.1\."):
        MergedWeights(Checkpoint(other), tmp_path / "adapter")
    wider = write_model(tmp_path / "wider", intermediate_size=160)
    with pytest.raises(DataError, match="belongs to another base: .* is 64×160, the update is 64×128 of rank 4"):
        MergedWeights(Checkpoint(wider), tmp_path / "adapter")


def test_magnitudes_of_another_base_are_an_error(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    write_peft_adapter(tmp_path / "adapter", base, use_dora=True)
    change_adapter(
        tmp_path / "adapter", lambda tensors: tensors.update({f"base_model.model.{Q[:-7]}.lora_magnitude_vector": torch.ones(9)})
    )
    with pytest.raises(DataError, match="belongs to another base"):
        MergedWeights(Checkpoint(base), tmp_path / "adapter")


def test_an_update_of_the_output_layer_that_shares_the_embedding_is_an_error(tmp_path: Path) -> None:
    """Tied weights: the file has no lm_head, so the update would be lost without a word."""
    base = write_model(tmp_path / "base")
    write_peft_adapter(tmp_path / "adapter", base)

    def add_head(tensors: dict[str, torch.Tensor]) -> None:
        tensors["base_model.model.lm_head.lora_A.weight"] = torch.ones(4, 64)
        tensors["base_model.model.lm_head.lora_B.weight"] = torch.ones(300, 4)

    change_adapter(tmp_path / "adapter", add_head)
    with pytest.raises(DataError, match=r"there is no weight lm_head\.weight"):
        MergedWeights(Checkpoint(base), tmp_path / "adapter")


def test_a_rank_that_is_not_the_configured_one_is_an_error(tmp_path: Path) -> None:
    """The scale is alpha / rank: with the wrong rank each update would count for too much or too little."""
    base = write_model(tmp_path / "base")
    write_peft_adapter(tmp_path / "adapter", base)
    config_path = tmp_path / "adapter" / "adapter_config.json"
    config = json.loads(config_path.read_text())
    config_path.write_text(json.dumps({**config, "r": 8}))
    with pytest.raises(DataError, match="of rank 4"):
        MergedWeights(Checkpoint(base), tmp_path / "adapter")


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}, {"use_dora": True}], ids=["plain", "rslora", "dora"])
def test_a_merged_folder_read_again_by_a_fresh_process_is_base_and_adapter(settings: dict[str, Any], tmp_path: Path) -> None:
    base = write_model(tmp_path / "base")
    adapted: Any = write_peft_adapter(tmp_path / "adapter", base, **settings)
    merged = MergedWeights(Checkpoint(base), tmp_path / "adapter")
    shutil.copytree(base, tmp_path / "merged")
    tensors = {name: torch.from_numpy(merged.read(name)) for name in merged.names()}
    save_file(tensors, tmp_path / "merged" / "model.safetensors", {"format": "pt"})
    code = (
        "import sys, numpy, torch, transformers\n"
        "model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)\n"
        "with torch.no_grad(): numpy.save(sys.argv[2], model(torch.arange(3, 40)[None]).logits.numpy())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "merged"), str(tmp_path / "logits.npy")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    got = np.load(tmp_path / "logits.npy")
    with torch.no_grad():
        wanted = adapted(torch.arange(3, 40)[None]).logits.numpy()
        adapted.disable_adapter_layers()
        bare = adapted(torch.arange(3, 40)[None]).logits.numpy()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-4)
    assert np.abs(got - bare).max() > 0.1


@pytest.mark.parametrize("shape", [(70, 24), (130, 128), (3, 5)])
def test_weights_in_nf4_are_read_in_pieces_as_they_are_whole(shape: tuple[int, int], tmp_path: Path) -> None:
    """Rows that end in the middle of a block, and a last block that is not full."""
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(4)).bfloat16()
    save_file({"w": weight}, tmp_path / "model.safetensors")
    wanted = nf4.decode(nf4.encode(weight), shape, torch.float32).numpy()
    merged = MergedWeights(Checkpoint(tmp_path), None, ["w"])
    assert np.array_equal(merged.read("w"), wanted)
    for start, stop in ((0, 1), (1, 2), (1, shape[0]), (2, None), (0, 10_000)):
        assert np.array_equal(merged.read("w", start, stop), wanted[start:stop])
