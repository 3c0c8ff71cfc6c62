"""A base model in memory, by transformers' modelling: frozen, from safetensors only, nobody's code run."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from afina.core.errors import DataError, ResourceError
from afina.core.translation import _
from afina.model.adapter import load_adapter
from afina.model.base import Base
from afina.model.frozen import FrozenLinear, Kind
from afina.model.lora import put_lora, quantize_linear, target_names
from afina.model.nf4 import require_nf4
from afina.model.weights import Checkpoint, Weights

# Up to this many parameters, as the embedded model has, a training takes a minute at most: it is done in float32, which is more
# exact. From 7 million on bfloat16 takes four fifths of the time and less (two Zen 4 cores, micro-batches side by side).
_SMALL_PARAMETERS = 6_000_000
_NUMBERS_A_THREAD = 128 * 1024
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


class Precision(NamedTuple):
    """A number type and, in words, why it and no other."""

    dtype: torch.dtype
    reason: str


def choose_dtype(setting: Literal["auto", "float32", "bfloat16", "float16"], device: torch.device, parameters: int) -> Precision:
    """The number type to compute in. ``auto``: bfloat16 on CUDA from compute capability 8.0 on, and float16 below it; bfloat16 on
    a CPU that multiplies it by itself, for models that are not small; else float32.
    """
    if setting != "auto":
        return Precision(getattr(torch, setting), _("as the recipe says"))
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        if major >= 8:
            return Precision(torch.bfloat16, _("a GPU of compute capability {version}").format(version=f"{major}.{minor}"))
        reason = _("the GPU's compute capability {version} is below 8.0, where bfloat16 begins").format(
            version=f"{major}.{minor}"
        )
        return Precision(torch.float16, reason)
    if not _cpu_multiplies_bfloat16():
        return Precision(torch.float32, _("the CPU has no bfloat16 of its own"))
    if parameters <= _SMALL_PARAMETERS:
        return Precision(torch.float32, _("the model is small"))
    return Precision(torch.bfloat16, _("the CPU multiplies bfloat16 by itself"))


def _cpu_multiplies_bfloat16() -> bool:
    """Other x86 processors can be made to do it too, about nine times slower than float32."""
    if platform.machine() in ("x86_64", "AMD64"):
        found = torch.cpu.get_capabilities()
        return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def choose_threads(config: dict[str, Any], tokens: int) -> int:
    """CPU threads for ``tokens`` at once through a model of this width, at most what torch would take by itself.

    Small products are not worth sharing out: 512 tokens at a width of 256 are trained a third slower by two threads than by one
    where other programs work as well, 1,024 are trained faster. Threads that wait for each other sleep (``core/environment.py``);
    where they spin instead, two on two busy cores took 4 to 14 times as long as one.
    """
    return max(1, min(torch.get_num_threads(), tokens * int(config["hidden_size"]) // _NUMBERS_A_THREAD))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within the block torch computes by so many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    storage: torch.dtype | None = None,
    attention: str | None = None,
) -> PreTrainedModel:
    """The base in eval mode, all of it frozen; with ``adapter`` the saved update is active, not merged.

    ``storage``: linear weights that the files hold in this type stay in it, and are made ``dtype`` at each use. For bfloat16
    files and float32 computation that is half the memory and the same numbers. ``attention`` names one of transformers' own;
    left out, the fast one that the family can use. Weights are read one by one: a quantized model is never there in full.
    """
    if quantize == "nf4":
        require_nf4(device)
    implementation = attention or choose_attention(base.family)
    checkpoint = Checkpoint(base.folder)
    model = without_weights(base, dtype, implementation)
    wanted = dict(model.named_parameters())  # a tied one under its first name
    _require_shapes(checkpoint, wanted)
    if wanted.keys() <= set(checkpoint.names()):
        fill(model, partial(_tensor, checkpoint), wanted, dtype, device, quantize, storage)
        model.tie_weights()
    else:  # transformers knows older names of the weights
        model = _by_transformers(base, dtype, implementation)
        if quantize != "none":
            quantize_linear(model, quantize, device)
    model.config.use_cache = False
    model.requires_grad_(False)
    nn.Module.to(model, device)
    if adapter is not None:
        put_lora(model, load_adapter(adapter))
    model.eval()
    return model


class _EmptyOnMeta(TorchFunctionMode):
    """``torch.empty``, with which modules make room for weights, takes no memory. What is computed is real, as a rotary table."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return function(*args, **(kwargs or {}) | ({"device": "meta"} if function is torch.empty else {}))


def without_weights(base: Base, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    """The base's modules; their parameters take no memory. Raises DataError where transformers does not know it."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        config = AutoConfig.from_pretrained(base.folder, trust_remote_code=False, local_files_only=True)
        with _EmptyOnMeta():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise _not_loaded(base, error) from error
    return model


def _by_transformers(base: Base, dtype: torch.dtype, attention: str) -> PreTrainedModel:
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=dtype,
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise _not_loaded(base, error) from error
    model: PreTrainedModel
    model, report = loaded
    if missing := sorted(report["missing_keys"]):
        raise _lacking(base.folder, missing)
    return model


def _lacking(folder: Path, names: Sequence[str]) -> DataError:
    return DataError(
        _("{folder} lacks {count} weights that config.json asks for: {names}").format(
            folder=folder, count=len(names), names=", ".join(names[:3])
        ),
        fix=_("take config.json and *.safetensors of the same model: download it again"),
    )


def _not_loaded(base: Base, error: Exception) -> DataError:
    return DataError(
        _("the base {name} cannot be loaded: {reason}").format(name=base.folder, reason=str(error).splitlines()[0]),
        fix=_("download the base model again"),
    )


def _require_shapes(checkpoint: Weights, wanted: Mapping[str, Tensor]) -> None:
    """Raises DataError for the first weight that has another shape in the files than by the configuration."""
    for name in set(checkpoint.names()) & wanted.keys():
        if checkpoint.shape(name) != tuple(wanted[name].shape):
            raise DataError(
                _("{folder}: {name} is {found} in the weights and {wanted} by config.json").format(
                    folder=checkpoint.folder, name=name, found=list(checkpoint.shape(name)), wanted=list(wanted[name].shape)
                ),
                fix=_("take config.json and *.safetensors of the same model: download it again"),
            )


def require_all(weights: Weights, wanted: Mapping[str, Tensor]) -> None:
    """Raises DataError where one of the weights ``wanted`` is not there under its name, or has another shape."""
    _require_shapes(weights, wanted)
    if missing := sorted(wanted.keys() - set(weights.names())):
        raise _lacking(weights.folder, missing)


def fill(
    model: PreTrainedModel,
    read: Callable[[str], Tensor],
    names: Iterable[str],
    dtype: torch.dtype,
    device: torch.device,
    quantize: Literal["none", "int8", "nf4"],
    storage: torch.dtype | None,
) -> None:
    """Puts the weights ``names`` into ``model``, each in the form that it is kept in before the next one is read."""
    inner = set(target_names(model, "all-linear"))
    for name in names:
        owner_name, _dot, child = name.rpartition(".")
        tensor = read(name)
        kind: Kind = "dense" if quantize == "none" else quantize
        if child == "weight" and owner_name in inner and (kind != "dense" or tensor.dtype == storage != dtype):
            linear = FrozenLinear(tensor.to(device), kind, model.get_submodule(owner_name).bias)  # type: ignore[arg-type]
            parent, _dot, last = owner_name.rpartition(".")
            setattr(model.get_submodule(parent), last, linear)
        else:
            setattr(model.get_submodule(owner_name), child, nn.Parameter(tensor.to(device, dtype), requires_grad=False))


def _tensor(checkpoint: Checkpoint, name: str) -> Tensor:
    tensor = torch.from_numpy(checkpoint.stored(name))
    return tensor.view(torch.bfloat16) if checkpoint.dtype(name) == "BF16" else tensor
