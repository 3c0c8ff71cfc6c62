"""LoRA adapters on disk, in PEFT's format to the letter: any tool that reads PEFT reads ours, and ours reads theirs.

``adapter_config.json`` and ``adapter_model.safetensors`` with ``base_model.model.<layer>.lora_A.weight`` (R, in),
``….lora_B.weight`` (out, R) and, for DoRA, ``….lora_magnitude_vector`` (out,). Written by ``peft.py``. What reads them needs no
torch: the processes that export do not have it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from afina.core.errors import DataError
from afina.core.files import read_json
from afina.core.translation import _

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
Number = TypeVar("Number", int, float)


# Starts of A and B that leave the base as it is. PEFT's others take a part out of its weights, and keep that to themselves.
_WHOLE_BASE = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class AdapterFiles:
    """An adapter's folder. ``pairs``: name of the base's weight → names of its A and B in ``weights_path``; ``magnitudes``: the
    same for DoRA's m.
    """

    folder: Path
    config: dict[str, Any]
    pairs: dict[str, tuple[str, str]]
    magnitudes: dict[str, str]

    @property
    def weights_path(self) -> Path:
        return self.folder / WEIGHTS

    def rank(self, weight_name: str) -> int:
        return int(by_pattern(self.config.get("rank_pattern") or {}, weight_name.removesuffix(".weight"), self.config["r"]))

    def alpha(self, weight_name: str) -> float:
        return float(
            by_pattern(self.config.get("alpha_pattern") or {}, weight_name.removesuffix(".weight"), self.config["lora_alpha"])
        )

    def scale(self, weight_name: str) -> float:
        """What B·A is multiplied by: alpha / R, or alpha / √R for rsLoRA."""
        return scale_of(self.rank(weight_name), self.alpha(weight_name), bool(self.config.get("use_rslora")))


def scale_of(rank: int, alpha: float, rslora: bool) -> float:
    return float(alpha / (rank**0.5 if rslora else rank))


def load_adapter(folder: Path) -> AdapterFiles:
    """The adapter in ``folder``. Raises DataError for what a merge could not honour: trained embeddings, biases, half pairs,
    a start that is not in the files.
    """
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise DataError(
                _("{folder} has no {name}").format(folder=folder, name=name), fix=_("name a folder with a PEFT adapter")
            )
    config = read_json(folder / CONFIG)
    unsupported = {
        "peft_type": config.get("peft_type") != "LORA",
        "init_lora_weights": config.get("init_lora_weights", True) not in _WHOLE_BASE,
        "modules_to_save": bool(config.get("modules_to_save")),
        "bias": config.get("bias", "none") != "none",
        "layer_replication": bool(config.get("layer_replication")),
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
    pairs, magnitudes = {}, {}
    for name in sorted(names):
        layer, _dot, kind = name.removeprefix(PREFIX).partition(".lora_")
        partner = name.replace(".lora_A.", ".lora_B.")
        if kind == "A.weight" and partner in names:
            pairs[f"{layer}.weight"] = (name, partner)
        elif kind == "magnitude_vector" and config.get("use_dora"):
            magnitudes[f"{layer}.weight"] = name
    known = {name for pair in pairs.values() for name in pair} | set(magnitudes.values())
    alone = magnitudes.keys() ^ pairs.keys() if config.get("use_dora") else set()
    if loose := names - known | alone:
        raise DataError(
            _("{path} holds tensors that are no pair of A and B: {names}").format(
                path=folder / WEIGHTS, names=", ".join(sorted(loose)[:3])
            ),
            fix=_("train the adapter as plain LoRA"),
        )
    return AdapterFiles(folder, config, pairs, magnitudes)


def by_pattern(patterns: Mapping[str, Number], module_name: str, default: Number) -> Number:
    """The value of the first pattern that matches, PEFT's rule."""
    return next((value for pattern, value in patterns.items() if matches(pattern, module_name)), default)


def matches(pattern: str, module_name: str) -> bool:
    """Whether the module's name ends with ``pattern``, whole parts of it, or ``pattern`` as an expression matches its end."""
    return re.match(rf"(.*\.)?({pattern})$", module_name) is not None
