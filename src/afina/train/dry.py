"""A dry run: everything that a training does to memory, on fake tensors, without weights and without a device.

The step is the real one (``step.py`` on transformers' modelling with our layers). Fake tensors lie on the CPU and stand for the
target's; what a kernel of the target allocates inside itself is modelled: attention on CUDA by ``_Flash``.

All layers of a decoder are alike, or repeat with a period. So two small numbers of layers are run, and each part of the step is
continued along a straight line to the real number: ``tests/train/test_dry.py`` holds this equal to the run of all layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_layers import GradientCheckpointingLayer

from afina.data.pack import Packed
from afina.model import frozen  # noqa: F401  # registers the operation afina::decoded
from afina.model.lora import add_lora, lora_layers, quantize_linear
from afina.recipe.recipe import Adapter
from afina.train import attention
from afina.train.memory import RAM, LiveStorages
from afina.train.saving import Saving, apply_saving
from afina.train.step import packed_loss

NAME = "afina_dry"
CPU = torch.device("cpu")
CUDA_GRANULE, CPU_GRANULE = 512, 64  # bytes: what torch's allocators round up to

Kind = Literal["cpu", "cuda"]


def _first(args: tuple[Any, ...]) -> int:
    tensor: Tensor = args[0]
    return tensor.numel() * tensor.element_size()


def _while_decoding(args: tuple[Any, ...]) -> int:
    """What ``frozen.decode`` holds on the CPU: the numbers in float32, and codes or a second copy of the numbers."""
    kind, (rows, columns), _parts, after = args
    count, in_float32 = rows * columns, after.dtype == torch.float32
    numbers = 0 if in_float32 else 4 * count - after.element_size() * count
    return numbers + (2 * count if kind == "nf4" else 4 * count)


# logsumexp keeps exp(x - max). On CUDA a weight is decoded by a kernel that needs nothing more.
CUDA_WITHIN = {torch.ops.aten.logsumexp: _first}
CPU_WITHIN = {torch.ops.aten.logsumexp: _first, torch.ops.afina.decoded: _while_decoding}


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch of a run: its tokens, the tokens of its longest row, and those that are trained."""

    tokens: int
    longest: int
    trained: int


@dataclass(frozen=True)
class Setup:
    """What is run dry: a model by its configuration, its number type, the adapter on it, and the kind of device."""

    config: PreTrainedConfig
    dtype: torch.dtype
    adapter: Adapter
    kind: Kind


@dataclass(frozen=True)
class Part:
    """The peak of a part of the run: bytes on the device, by category, and the most that lay in RAM for it."""

    peak: int
    by_category: Mapping[str, int]
    ram: int


@dataclass(frozen=True)
class Dry:
    """Peaks of the parts of a training, and the floating-point operations of the forward pass and of all of a micro-batch."""

    parts: Mapping[str, Part]
    forward_flops: int
    flops: int

    @property
    def worst(self) -> Part:
        return max(self.parts.values(), key=lambda part: part.peak)

    @property
    def ram(self) -> int:
        return max(part.ram for part in self.parts.values())


def dry_run(setup: Setup, batch: Batch, saving: Saving, look: bool = True) -> Dry:
    """The second step of a training on ``batch``, when the optimizer's state is there; with ``look``, a look at the validation
    loss too, which always needs less.
    """
    layers, period = int(setup.config.num_hidden_layers), _period(setup.config)
    few = 4 * period + layers % period
    if layers <= few + period:
        return run_layers(setup, batch, saving, layers, look)
    low, high = (run_layers(setup, batch, saving, count, look) for count in (few, few + period))
    return _continued(low, high, (layers - few) // period)


def run_layers(setup: Setup, batch: Batch, saving: Saving, layers: int, look: bool = True) -> Dry:
    """The dry run of a model with so many layers, all of them run."""
    granule, within = (CUDA_GRANULE, CUDA_WITHIN) if setup.kind == "cuda" else (CPU_GRANULE, CPU_WITHIN)
    live = LiveStorages(granule, within, {torch.ops.afina.decoded: "quantization"})
    packed = _packed(batch)
    with FakeTensorMode(), live, _attention(live, setup.kind, packed.starts):
        model, trained = _fake_model(setup, layers, live)
        apply_saving(model, saving, _CountedCopies(live))
        optimizer = torch.optim.AdamW(trained, fused=True)
        with live.category("optimizer"):
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recorder = _Recorder(live, model, _period(setup.config))
        recorder.begin("forward", "activations")
        before = live.flops
        loss = packed_loss(model, packed)
        forward_flops = live.flops - before
        loss.backward()
        flops = live.flops - before
        recorder.begin("update", "optimizer")
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        del loss
        if look:
            recorder.begin("evaluation", "activations")
            with torch.no_grad():
                packed_loss(model, packed)
        recorder.end()
    return Dry(recorder.parts, forward_flops, flops)


class _Recorder:
    """Cuts the step into parts, so that each grows along a straight line with the number of layers: the backward pass of the
    two last and the two first periods of layers, and the rest. What lies between has its peaks between theirs.
    """

    def __init__(self, live: LiveStorages, model: PreTrainedModel, period: int) -> None:
        self.parts: dict[str, Part] = {}
        self._live = live
        self._name = ""
        layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
        for number, layer in enumerate(layers):
            from_end = len(layers) - 1 - number
            near, far = from_end < 2 * period, number < 2 * period
            name = f"backward -{from_end}" if near else f"backward {number}" if far else "backward"
            layer.register_forward_hook(self._marks(name))
        model.get_decoder().register_forward_hook(lambda *_ignored: self.begin("loss", "loss"))

    def begin(self, name: str, category: str) -> None:
        self.end()
        self._name = name
        self._live.begin_peak()
        self._live.enter_category(category)

    def end(self) -> None:
        if not self._name:
            return
        found = Part(self._live.peak, self._live.at_peak, self._live.ram_peak)
        known = self.parts.get(self._name)
        self.parts[self._name] = found if known is None or found.peak > known.peak else known

    def _marks(self, name: str) -> Any:
        """A forward hook after which the backward pass of the layer begins a part of its own."""

        def mark(_module: nn.Module, _args: Any, output: Tensor) -> None:
            if output.requires_grad:
                output.register_hook(lambda _gradient: self.begin(name, "activations"))

        return mark


class _CountedCopies:
    """Copies that count as RAM."""

    def __init__(self, live: LiveStorages) -> None:
        self._live = live

    def away(self, tensor: Tensor) -> Tensor:
        with self._live.category(RAM):
            return tensor.clone()

    def back(self, copied: Tensor) -> Tensor:
        return copied.clone()


def _fake_model(setup: Setup, layers: int, live: LiveStorages) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """The model as a training has it, and its trained parameters."""
    config = copy.deepcopy(setup.config)
    config.num_hidden_layers = layers
    if "layer_types" in config.to_dict() and config.layer_types is not None:
        config.layer_types = config.layer_types[:layers]
    config.use_cache = False
    with live.category("weights"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=setup.dtype, attn_implementation=NAME)
        model.requires_grad_(False)
        if setup.adapter.quantize != "none":
            quantize_linear(model, setup.adapter.quantize, CPU)
    trained = []
    with live.category("adapter"):
        add_lora(model, setup.adapter, 0)
        for _name, layer in lora_layers(model):
            for parameter in (layer.a, layer.b):
                parameter.requires_grad_(True)
                parameter.register_post_accumulate_grad_hook(lambda leaf: _as_gradient(live, leaf))
                trained.append(parameter)
    model.train()
    return model, trained


def _as_gradient(live: LiveStorages, leaf: Tensor) -> None:
    if leaf.grad is not None:
        live.assign(leaf.grad, "gradients")


def _packed(batch: Batch) -> Packed:
    """A micro-batch of these sizes, its rows as long as the longest one."""
    starts = [*range(0, batch.tokens, batch.longest), batch.tokens]
    positions = [place % batch.longest for place in range(batch.tokens)]
    return Packed((), [0] * batch.tokens, positions, starts, list(range(batch.trained)), [0] * batch.trained)


def _period(config: PreTrainedConfig) -> int:
    """After how many layers their kinds repeat."""
    kinds = config.to_dict().get("layer_types")
    if not kinds:
        return 1
    return next(size for size in range(1, len(kinds) + 1) if all(kind == kinds[n % size] for n, kind in enumerate(kinds)))


def _continued(low: Dry, high: Dry, periods: int) -> Dry:
    """The straight line through two runs, ``periods`` periods above the lower one."""

    def line(a: int, b: int) -> int:
        return a + (b - a) * periods

    parts = {}
    for name, part in low.parts.items():
        if name == "backward":
            continue
        other = high.parts[name]
        names = {**part.by_category, **other.by_category}
        by_category = {key: line(part.by_category.get(key, 0), other.by_category.get(key, 0)) for key in names}
        parts[name] = Part(line(part.peak, other.peak), by_category, line(part.ram, other.ram))
    return replace(low, parts=parts, forward_flops=line(low.forward_flops, high.forward_flops), flops=line(low.flops, high.flops))


# ── attention ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _attention(live: LiveStorages, kind: Kind, starts: list[int]) -> Iterator[None]:
    """Makes NAME the attention of a packed row: on the CPU the real one, on CUDA one that allocates what FlashAttention does."""
    pairs = sum((stop - start) ** 2 // 2 for start, stop in zip(starts, starts[1:]))

    def flash(_module: nn.Module, q: Tensor, k: Tensor, v: Tensor, _mask: Tensor | None, **_options: Any) -> tuple[Tensor, None]:
        out: Tensor = _Flash.apply(q, k, v, live, pairs, len(starts) - 1)  # type: ignore[no-untyped-call]
        return out, None

    def real(module: nn.Module, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, **options: Any) -> tuple[Tensor, None]:
        live.flops += 4 * q.shape[1] * q.shape[3] * pairs
        return attention.packed_attention(module, q, k, v, mask, **{**options, "cu_seq_lens_q": _Borders(starts)})

    AttentionInterface.register(NAME, flash if kind == "cuda" else real)
    AttentionMaskInterface.register(NAME, lambda *_args, **_kwargs: None)
    yield


class _Borders:
    """Borders of rows that are known though all tensors are fake."""

    def __init__(self, starts: list[int]) -> None:
        self._starts = starts

    def tolist(self) -> list[int]:
        return self._starts


class _Flash(torch.autograd.Function):
    """What FlashAttention 2 allocates for rows of unequal length (``mha_varlen_fwd`` and ``mha_varlen_bwd`` in its
    ``flash_api.cpp``, which torch uses too): linear in the tokens. The backward pass sums dQ in float32 and, where several heads
    share keys and values, makes dK and dV for each head before it adds them up.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, live: LiveStorages, pairs: int, rows: int) -> Tensor:
        heads, tokens, width = q.shape[1:]
        out = q.new_empty(1, tokens, heads, width)
        log_sums = q.new_empty(heads, tokens, dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, log_sums)
        ctx.live, ctx.flops, ctx.rows = live, 4 * heads * width * pairs, rows
        live.flops += ctx.flops
        return out

    @staticmethod
    def backward(ctx: Any, *_grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, _out, log_sums = ctx.saved_tensors
        ctx.live.flops += ctx.flops * 5 // 2  # five products in the place of two
        heads, tokens, width = q.shape[1:]
        padded = tokens + 128 * ctx.rows
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        sums = log_sums.new_empty(padded, heads, -(-width // 32) * 32)
        slopes = log_sums.new_empty(heads, padded)
        shared = [q.new_empty(tokens, heads, width) for _each in "kv"] if k.shape[1] != heads else []
        del sums, slopes, shared
        return dq, dk, dv, None, None, None
