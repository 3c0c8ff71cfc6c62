"""Writing a LoRA adapter as PEFT's files; ``adapter.py`` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from afina.core.files import write_atomic, write_json
from afina.model.adapter import CONFIG, PREFIX, WEIGHTS
from afina.recipe.recipe import Adapter


def save_adapter(folder: Path, adapter: Adapter, base_name: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes the adapter whole or not at all; ``tensors`` as ``lora.adapter_tensors`` gives them."""
    folder.mkdir(parents=True, exist_ok=True)
    named = {PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomic(folder / WEIGHTS, save(named, metadata={"format": "pt"}))
    write_json(folder / CONFIG, peft_config(adapter, base_name, tensors))


def peft_config(adapter: Adapter, base_name: str, names: Iterable[str]) -> dict[str, Any]:
    """``adapter_config.json`` for the tensors ``names``.

    PiSSA is saved with twice the rank (see ``lora``), and alpha such that the scale stays: alpha / R or, for rsLoRA, alpha / √R.
    """
    times = 2 if adapter.init == "pissa" else 1
    alpha_times = times**0.5 if adapter.rslora else times
    layers = {name.split(".lora_")[0] for name in names}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "auto_mapping": None,
        "base_model_name_or_path": base_name,
        "revision": None,
        "inference_mode": True,
        "r": adapter.rank * times,
        "lora_alpha": adapter.alpha * alpha_times,
        "lora_dropout": adapter.dropout,
        "rank_pattern": {pattern: rank * times for pattern, rank in adapter.ranks.items()},
        "alpha_pattern": {pattern: alpha * alpha_times for pattern, alpha in adapter.alphas.items()},
        "use_rslora": adapter.rslora,
        "use_dora": adapter.dora,
        "init_lora_weights": True,
        "target_modules": sorted({layer.rsplit(".", 1)[-1] for layer in layers}),
        "exclude_modules": None,
        "layers_to_transform": None,
        "layers_pattern": None,
        "layer_replication": None,
        "modules_to_save": None,
        "trainable_token_indices": None,
        "bias": "none",
        "lora_bias": False,
        "fan_in_fan_out": False,
        "loftq_config": {},
        "megatron_config": None,
        "megatron_core": "megatron.core",
    }
