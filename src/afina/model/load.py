"""A base model in memory, by transformers' modelling: frozen, from safetensors only, nobody's code run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from afina.core.errors import DataError, ResourceError
from afina.core.translation import _
from afina.model.adapter import load_adapter
from afina.model.base import Base
from afina.model.lora import put_lora, quantize_linear
from afina.model.nf4 import require_nf4

# Below this many parameters the CPU's float32 is as fast as its bfloat16 (measured on two Zen 4 cores), and more exact.
_SMALL_PARAMETERS = 20_000_000
_WIDTH_A_THREAD = 256
_ATTENTION = {"gemma2": "eager"}  # its soft-capped scores are not in torch's fused kernel


def choose_device(setting: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on. Raises ResourceError where CUDA is asked for and not there."""
    available = torch.cuda.is_available()
    if setting == "cuda" and not available:
        raise ResourceError(
            _("train.device is cuda, and torch {version} finds no CUDA device").format(version=torch.__version__),
            fix=_("look with: afina doctor; or --set train.device=cpu"),
        )
    return torch.device("cuda" if available and setting != "cpu" else "cpu")


def choose_dtype(
    setting: Literal["auto", "float32", "bfloat16", "float16"], device: torch.device, parameters: int
) -> torch.dtype:
    """``auto``: on CUDA bfloat16 from compute capability 8.0 on and float16 below; on a CPU that computes it natively bfloat16
    for models that are not small.
    """
    if setting != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[setting]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native and parameters > _SMALL_PARAMETERS else torch.float32


def choose_threads(config: dict[str, Any]) -> int:
    """CPU threads for a model of this width, at most what torch would take by itself.

    Small matrices are not worth sharing out: their threads mostly wait for each other. On two cores with other work on them, a
    training at a width of 256 was 14 times slower with two threads than with one.
    """
    return max(1, min(torch.get_num_threads(), int(config["hidden_size"]) // _WIDTH_A_THREAD))


def choose_attention(family: str) -> str:
    """transformers' fastest implementation that is exact for the family, with a cache of keys or without."""
    return _ATTENTION.get(family, "sdpa")


def load_model(
    base: Base,
    *,
    dtype: torch.dtype,
    device: torch.device,
    adapter: Path | None = None,
    quantize: Literal["none", "int8", "nf4"] = "none",
    attention: str | None = None,
) -> PreTrainedModel:
    """The base in eval mode, all of it frozen; with ``adapter`` the saved update is active, not merged.

    ``attention`` names one of transformers' implementations; left out, the fast one that the family can use.
    """
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if quantize == "nf4":
        require_nf4(device)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=dtype,
            attn_implementation=attention or choose_attention(base.family),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise DataError(
            _("the base {name} cannot be loaded: {reason}").format(name=base.folder, reason=str(error).splitlines()[0]),
            fix=_("download the base model again"),
        ) from error
    model.config.use_cache = False
    model.requires_grad_(False)
    if quantize != "none":
        quantize_linear(model, quantize, device)
    nn.Module.to(model, device)
    if adapter is not None:
        put_lora(model, load_adapter(adapter))
    model.eval()
    return model
