"""LoRA adapters on disk, in PEFT's format to the letter: any tool that reads PEFT reads ours, and ours reads theirs.

``adapter_config.json`` and ``adapter_model.safetensors`` with ``base_model.model.<layer>.lora_A.weight`` (R, in) and
``….lora_B.weight`` (out, R).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from afina.core.errors import DataError
from afina.core.files import read_json, write_atomic, write_json
from afina.core.translation import _
from afina.recipe.recipe import Adapter

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's folder. ``pairs``: name of the base's weight → names of its A and B in ``weights_path``."""

    folder: Path
    config: dict[str, Any]
    pairs: dict[str, tuple[str, str]]

    @property
    def weights_path(self) -> Path:
        return self.folder / WEIGHTS

    def rank(self, weight_name: str) -> int:
        return int(_by_pattern(self.config.get("rank_pattern"), weight_name, self.config["r"]))

    def alpha(self, weight_name: str) -> float:
        return float(_by_pattern(self.config.get("alpha_pattern"), weight_name, self.config["lora_alpha"]))

    def scale(self, weight_name: str) -> float:
        """What B·A is multiplied by: alpha / R, or alpha / √R for rsLoRA."""
        return scale_of(self.rank(weight_name), self.alpha(weight_name), bool(self.config.get("use_rslora")))


def scale_of(rank: int, alpha: float, rslora: bool) -> float:
    return float(alpha / (rank**0.5 if rslora else rank))


def save_adapter(folder: Path, adapter: Adapter, base_name: str, layers: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Writes the adapter whole or not at all; ``layers``: module name (``model.layers.0.self_attn.q_proj``) → A (R, in), B (out,
    R).
    """
    tensors = {}
    for name, (a, b) in layers.items():
        tensors[f"{PREFIX}{name}.lora_A.weight"] = a.detach().cpu().contiguous()
        tensors[f"{PREFIX}{name}.lora_B.weight"] = b.detach().cpu().contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    write_json(
        folder / CONFIG,
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base_name,
            "r": adapter.rank,
            "lora_alpha": adapter.alpha,
            "lora_dropout": adapter.dropout,
            "use_rslora": adapter.rslora,
            "use_dora": False,
            "bias": "none",
            "target_modules": sorted({name.rsplit(".", 1)[1] for name in layers}),
            "modules_to_save": None,
            "fan_in_fan_out": False,
            "inference_mode": True,
        },
    )


def load_adapter(folder: Path) -> AdapterFiles:
    """The adapter in ``folder``. Raises DataError for what a merge could not honour: DoRA, trained embeddings, biases, half
    pairs.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise DataError(
                _("{folder} has no {name}").format(folder=folder, name=name), fix=_("name a folder with a PEFT adapter")
            )
    config = read_json(folder / CONFIG)
    unsupported = {
        "peft_type": config.get("peft_type") != "LORA",
        "use_dora": bool(config.get("use_dora")),
        "modules_to_save": bool(config.get("modules_to_save")),
        "bias": config.get("bias", "none") != "none",
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
    }
    if wrong := [f"{key}={config.get(key)!r}" for key, bad in unsupported.items() if bad]:
        raise DataError(
            _("{path} asks for {settings}, which afina cannot merge").format(path=folder / CONFIG, settings=", ".join(wrong)),
            fix=_("train the adapter as plain LoRA"),
        )
    try:
        with safe_open(folder / WEIGHTS, framework="numpy") as file:
            names = set(file.keys())
    except SafetensorError as error:
        raise DataError(
            _("{path} cannot be read: {reason}").format(path=folder / WEIGHTS, reason=error), fix=_("train again: afina train")
        ) from None
    pairs = {}
    for name in sorted(names):
        if not name.endswith(".lora_A.weight"):
            continue
        partner = name.replace(".lora_A.", ".lora_B.")
        if partner in names:
            pairs[name.removeprefix(PREFIX).replace(".lora_A.weight", ".weight")] = (name, partner)
    if loose := names - {name for pair in pairs.values() for name in pair}:
        raise DataError(
            _("{path} holds tensors that are no pair of A and B: {names}").format(
                path=folder / WEIGHTS, names=", ".join(sorted(loose)[:3])
            ),
            fix=_("train the adapter as plain LoRA"),
        )
    return AdapterFiles(folder, config, pairs)


def _by_pattern(patterns: dict[str, Any] | None, weight_name: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that the module's name ends with, or that matches its end as an expression."""
    module = weight_name.removesuffix(".weight")
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default
