"""What llama.cpp has to know of each family of models: its keys, its names of the tensors, and what is done to them.

The configuration is taken as transformers understands it, so that both spellings (``rope_parameters``, or ``rope_theta`` with
``rope_scaling``) and every default mean here what they meant in training. Sources: llama.cpp's ``src/models/*.cpp`` reads these
keys; the tests compare each family's logits with torch's.

What llama.cpp would compute differently is an error, or a note where it begins only beyond some length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gguf
import numpy as np
from gguf import MODEL_ARCH
from transformers import AutoConfig

from afina.core.errors import DataError
from afina.core.translation import _
from afina.core.units import grouped
from afina.export.tensor import TensorPlan
from afina.export.vocabulary import KeyValue
from afina.model.base import Base
from afina.model.merge import MergedWeights
from afina.model.weights import Float32


@dataclass(frozen=True)
class Family:
    """How llama.cpp computes one family. ``rope_kinds``: the ways of stretching positions that it knows there."""

    arch: MODEL_ARCH
    rope_kinds: tuple[str, ...] = ("default", "linear", "yarn")
    activations: tuple[str, ...] = ("silu",)
    swaps_rotary_halves: bool = False  # q and k rows in the order of the original Llama code
    norm_shift: float = 0.0  # the model computes with 1 + weight, llama.cpp with the weight
    window_period: int = 0  # one layer in so many sees everything; 0: llama.cpp knows no sliding window here


FAMILIES: dict[str, Family] = {
    "llama": Family(MODEL_ARCH.LLAMA, rope_kinds=("default", "linear", "yarn", "llama3"), swaps_rotary_halves=True),
    "mistral": Family(MODEL_ARCH.LLAMA, swaps_rotary_halves=True),
    "qwen2": Family(MODEL_ARCH.QWEN2),
    "qwen3": Family(MODEL_ARCH.QWEN3),
    "gemma": Family(MODEL_ARCH.GEMMA, rope_kinds=("default",), activations=("gelu_pytorch_tanh", "gelu"), norm_shift=1.0),
    "gemma2": Family(
        MODEL_ARCH.GEMMA2, rope_kinds=("default",), activations=("gelu_pytorch_tanh",), norm_shift=1.0, window_period=2
    ),
    "gemma3_text": Family(
        MODEL_ARCH.GEMMA3, rope_kinds=("default", "linear"), activations=("gelu_pytorch_tanh",), norm_shift=1.0, window_period=6
    ),
    "phi3": Family(MODEL_ARCH.PHI3, rope_kinds=("default", "longrope")),
}


@dataclass(frozen=True)
class Layout:
    """A model as llama.cpp wants it: keys in order, tensors, tensors that are computed here, and what the user should know."""

    arch: str
    keys: dict[str, KeyValue]
    tensors: tuple[TensorPlan, ...]
    computed: dict[str, Float32] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def lay_out(base: Base, weights: MergedWeights) -> Layout:
    """The layout of ``base``. Raises DataError for a family or a setting that llama.cpp would compute otherwise."""
    family = FAMILIES.get(base.family)
    if family is None:
        raise DataError(
            _("{folder}: models of the kind {family!r} cannot be exported; afina exports {known}").format(
                folder=base.folder, family=base.family, known=", ".join(FAMILIES)
            ),
            fix=_("choose a base of one of these families"),
        )
    config = AutoConfig.for_model(**base.config).to_dict()
    _require_computable(base, family, config)
    rope = _rope(config)
    keys: dict[str, KeyValue] = {
        "block_count": int(config["num_hidden_layers"]),
        "context_length": int(config["max_position_embeddings"]),
        "embedding_length": int(config["hidden_size"]),
        "feed_forward_length": int(config["intermediate_size"]),
        "attention.head_count": int(config["num_attention_heads"]),
        "attention.head_count_kv": int(config["num_key_value_heads"]),
        "attention.key_length": _head_dim(config),
        "attention.value_length": _head_dim(config),
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "vocab_size": int(config["vocab_size"]),
        "rope.dimension_count": _rotary_dim(config, rope),
        "rope.freq_base": float(rope["rope_theta"]),
        **_rope_keys(config, rope),
        **_window_keys(family, config),
        **_softcap_keys(config),
    }
    arch = gguf.MODEL_ARCH_NAMES[family.arch]
    return Layout(
        arch=arch,
        keys={f"{arch}.{name}": value for name, value in keys.items()},
        tensors=_tensors(base, family, config, weights),
        computed=_rope_factors(config, rope),
        notes=_notes(family, config, rope),
    )


def _head_dim(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _rotary_dim(config: Mapping[str, Any], rope: Mapping[str, Any]) -> int:
    return int(_head_dim(config) * rope.get("partial_rotary_factor", 1.0))


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of the rotary positions; those of the layers that see everything where a model has two kinds."""
    parameters: dict[str, Any] = config["rope_parameters"]
    return dict(parameters.get("full_attention", parameters))


def _rope_keys(config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, KeyValue]:
    keys: dict[str, KeyValue] = {}
    local = config["rope_parameters"].get("sliding_attention")
    if local is not None:
        keys["rope.freq_base_swa"] = float(local["rope_theta"])
    kind = rope["rope_type"]
    if kind in ("linear", "yarn", "longrope"):
        keys["rope.scaling.type"] = kind
    if kind in ("yarn", "longrope"):
        keys["rope.scaling.original_context_length"] = int(rope["original_max_position_embeddings"])
    if kind in ("linear", "yarn"):
        keys["rope.scaling.factor"] = _stretch(config, rope)
    if kind == "yarn":
        # llama.cpp multiplies by 1 + 0.1 ln(factor) by itself; what is written is what it should multiply by besides.
        keys["rope.scaling.attn_factor"] = _attention_factor(config, rope) / _mscale(_stretch(config, rope))
        keys["rope.scaling.yarn_beta_fast"] = float(rope.get("beta_fast") or 32)
        keys["rope.scaling.yarn_beta_slow"] = float(rope.get("beta_slow") or 1)
    if kind == "longrope":
        keys["rope.scaling.attn_factor"] = _attention_factor(config, rope)
    return keys


def _stretch(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    return float(rope.get("factor") or config["max_position_embeddings"] / rope["original_max_position_embeddings"])


def _attention_factor(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    """What the rotated queries and keys are multiplied by (YaRN: Peng et al. 2023, eq. 22; LongRoPE: Ding et al. 2024)."""
    if rope.get("attention_factor") is not None:
        return float(rope["attention_factor"])
    stretch = _stretch(config, rope)
    if rope["rope_type"] == "longrope":
        return math.sqrt(1 + math.log(stretch) / math.log(rope["original_max_position_embeddings"])) if stretch > 1 else 1.0
    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return _mscale(stretch, rope["mscale"]) / _mscale(stretch, rope["mscale_all_dim"])
    return _mscale(stretch)


def _mscale(stretch: float, weight: float = 1.0) -> float:
    return 1.0 if stretch <= 1 else 0.1 * weight * math.log(stretch) + 1.0


def _rope_factors(config: Mapping[str, Any], rope: Mapping[str, Any]) -> dict[str, Float32]:
    """Tensors by which llama.cpp divides the rotary frequencies, one number a pair."""
    if rope["rope_type"] == "longrope":
        return {f"rope_factors_{length}.weight": np.array(rope[f"{length}_factor"], np.float32) for length in ("long", "short")}
    if rope["rope_type"] != "llama3":
        return {}
    dim = _rotary_dim(config, rope)
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, dim, 2) / dim)  # (dim / 2,)
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * np.pi)  # full turns within the original context
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    # Fast ones stay (1), slow ones are stretched (factor), and between the two the frequency goes over linearly.
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return {"rope_freqs.weight": (1.0 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)}


def _window_keys(family: Family, config: Mapping[str, Any]) -> dict[str, KeyValue]:
    if not family.window_period:
        return {}
    keys: dict[str, KeyValue] = {"attention.sliding_window": int(config["sliding_window"])}
    if not _has_period(config, family.window_period):  # left out where it is what llama.cpp assumes
        # The period, for a list of layers is read by some versions of llama.cpp and passed over in silence by others.
        keys["attention.sliding_window_pattern"] = next(period for period in _periods(config) if _has_period(config, period))
    return keys


def _periods(config: Mapping[str, Any]) -> range:
    """All that there can be of ``_has_period``."""
    return range(len(config["layer_types"]) + 2)


def _has_period(config: Mapping[str, Any], period: int) -> bool:
    """Whether the last of so many layers sees everything and the others a window; 0: all of them a window."""
    windows = [kind == "sliding_attention" for kind in config["layer_types"]]
    return windows == [not period or bool((layer + 1) % period) for layer in range(len(windows))]


def _softcap_keys(config: Mapping[str, Any]) -> dict[str, KeyValue]:
    names = ("attn_logit_softcapping", "final_logit_softcapping")
    return {name: float(config[name]) for name in names if config.get(name) is not None}


def _require_computable(base: Base, family: Family, config: Mapping[str, Any]) -> None:
    """Raises DataError, with all reasons, for settings under which llama.cpp's numbers would not be the model's."""
    rope = _rope(config)
    activation = config.get("hidden_activation") or config.get("hidden_act")
    capped = config.get("attn_logit_softcapping") is not None, config.get("final_logit_softcapping") is not None
    wrong = {
        f"hidden_act={activation!r}": activation not in family.activations,
        f"rope_type={rope['rope_type']!r}": rope["rope_type"] not in family.rope_kinds,
        f"partial_rotary_factor={rope.get('partial_rotary_factor')}": rope.get("partial_rotary_factor", 1.0) != 1.0
        and base.family != "phi3",
        f"rope truncate={rope.get('truncate')}": rope["rope_type"] == "yarn" and rope.get("truncate") is False,
        f"query_pre_attn_scalar={config.get('query_pre_attn_scalar')}": not _query_scale_is_known(base.family, config),
        f"attn_logit_softcapping={config.get('attn_logit_softcapping')}": capped[0] != (base.family == "gemma2"),
        f"final_logit_softcapping={config.get('final_logit_softcapping')}": base.family == "gemma2" and not capped[1],
        "layer_types without a period": family.window_period > 0
        and not any(_has_period(config, one) for one in _periods(config)),
        "use_bidirectional_attention=True": bool(config.get("use_bidirectional_attention")),
        f"pretraining_tp={config.get('pretraining_tp')}": config.get("pretraining_tp", 1) not in (None, 1),
    }
    if reasons := [setting for setting, is_wrong in wrong.items() if is_wrong]:
        raise DataError(
            _("{path}: llama.cpp cannot compute a {family} model with {settings}").format(
                path=base.folder / "config.json", family=base.family, settings=", ".join(reasons)
            ),
            fix=_("choose another base; this one can be trained and compared, not exported"),
        )


def _query_scale_is_known(family: str, config: Mapping[str, Any]) -> bool:
    """llama.cpp divides queries by √head_dim; by √(width / heads) in the two models that it knows by their number of layers."""
    if "query_pre_attn_scalar" not in config:
        return True
    by_width = (family, config["num_hidden_layers"]) in (("gemma2", 46), ("gemma3_text", 62))
    expected = config["hidden_size"] // config["num_attention_heads"] if by_width else _head_dim(config)
    return bool(config["query_pre_attn_scalar"] == expected)


def _notes(family: Family, config: Mapping[str, Any], rope: Mapping[str, Any]) -> tuple[str, ...]:
    notes = []
    window = config.get("sliding_window")
    uses_window = not family.window_period and config.get("use_sliding_window", True)
    if window is not None and uses_window and window < config["max_position_embeddings"]:
        text = _("beyond {window} tokens llama.cpp computes otherwise than the model was made: it knows no sliding window here")
        notes.append(text.format(window=grouped(window)))
    if rope["rope_type"] == "longrope":
        text = _("a served context above {limit} tokens changes short answers too: llama.cpp then takes the long factors for all")
        notes.append(text.format(limit=grouped(rope["original_max_position_embeddings"])))
    return tuple(notes)


def _tensors(base: Base, family: Family, config: Mapping[str, Any], weights: MergedWeights) -> tuple[TensorPlan, ...]:
    names = gguf.get_tensor_name_map(family.arch, int(config["num_hidden_layers"]))
    tied = bool(config["tie_word_embeddings"])
    planned = []
    for source in weights.names():
        if source.endswith("rotary_emb.inv_freq") or (source == "lm_head.weight" and tied):
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise DataError(
                _("{folder}: llama.cpp has no place for the tensor {name} in a {family} model").format(
                    folder=base.folder, name=source, family=base.family
                ),
                fix=_("choose another base; this one can be trained and compared, not exported"),
            )
        projection = source.rsplit(".", 2)[-2]
        heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}.get(projection, 0)
        planned.append(
            TensorPlan(
                name=name,
                source=source,
                shape=weights.shape(source),
                heads=int(heads) if family.swaps_rotary_halves else 0,
                shift=family.norm_shift if source.endswith("norm.weight") else 0.0,
            )
        )
    return tuple(planned)
