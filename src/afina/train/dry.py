"""A dry run: everything that a training does to memory, on fake tensors, without weights and without a device.

The step is the real one (``step.py`` on transformers' modelling with our layers). Fake tensors lie on the CPU and stand for the
target's; what a kernel allocates inside itself is modelled, and attention, whose blocks would be many: ``_Attention``.

All layers of a decoder are alike, or repeat with a period. So two small numbers of layers are run, and each part of the step is
continued along a straight line to the real number: ``tests/train/test_dry.py`` holds this equal to the run of all layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from afina.data.pack import Packed
from afina.model.decoder import decoder_layers, decoder_of
from afina.model.frozen import FrozenLinear
from afina.model.lora import add_lora, quantize_linear, target_names, trained_parameters
from afina.recipe.recipe import Adapter
from afina.train import attention, loss
from afina.train.attention import Layout
from afina.train.checkpoint import State, taken_apart
from afina.train.last_layer import prune_last_layer
from afina.train.muon import Muon
from afina.train.norms import join_norms
from afina.train.optimize import build_scaler
from afina.train.repeatable import flash_parts, is_repeatable
from afina.train.saving import Saving, apply_saving
from afina.train.step import packed_loss
from afina.train.storages import RAM, LiveStorages, Within
from afina.train.trainee import hand_on

CPU = torch.device("cpu")
TRAINED = "trained weights"  # category of all weights in float32, where all are trained
_SMALL, _PAGED, _BLOCK = 4096, 100_000, 256  # numbers: bitsandbytes' bounds for 8-bit moments
CUDA_GRANULE, CPU_GRANULE = 512, 64  # bytes: what torch's allocators round up to

Kind = Literal["cpu", "cuda"]
Optimizer = Literal["adamw", "muon", "adamw_8bit", "paged_adamw_8bit"]


def _while_decoding(args: tuple[Any, ...]) -> int:
    """What ``frozen.decode`` holds on the CPU: the numbers in float32, and codes or a second copy of the numbers."""
    kind, (rows, columns), _parts, after = args
    if kind == "dense":
        return 0
    count = int(rows * columns)
    numbers = count * (4 - int(after.element_size()))
    return numbers + (2 * count if kind == "nf4" else 4 * count)


# On CUDA a weight is decoded by a kernel that needs nothing more.
CUDA_WITHIN: Mapping[Any, Within] = MappingProxyType({})
CPU_WITHIN: Mapping[Any, Within] = MappingProxyType({torch.ops.afina.decoded: _while_decoding})


@dataclass(frozen=True)
class Batch:
    """The largest micro-batch of a run: its tokens, the tokens of its longest row, and those that are trained."""

    tokens: int
    longest: int
    trained: int


@dataclass(frozen=True)
class Setup:
    """What is run dry: a model by its configuration, its number type, what is trained of it, by which optimizer, and the kind of
    device.
    """

    config: PreTrainedConfig
    dtype: torch.dtype
    adapter: Adapter
    kind: Kind
    optimizer: Optimizer = "adamw"
    multiprocessors: int = 0  # of a GPU


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
    """The second step of a training on ``batch``, when the optimizer's state is there, and what a checkpoint takes together; with
    ``look``, a look at the validation loss too, which always needs less.
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
    packed = packed_of(batch)
    fixed_order = setup.multiprocessors if is_repeatable(setup.kind, saving.checkpointing) else 0
    with FakeTensorMode(), live, _attention(live, setup.kind, fixed_order), _tiles_of(setup.kind):
        model, trained = _fake_model(setup, layers, saving, live)
        apply_saving(model, saving, _CountedCopies(live))
        optimizer = _optimizer(setup, trained, live)
        with live.category("optimizer"):
            for parameter in trained:
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recorder = _Recorder(live, model, _period(setup.config))
        recorder.begin("forward", "activations")
        before = live.flops
        total = packed_loss(model, packed)
        live.flops += _flops_left_out(setup, batch)
        forward_flops = live.flops - before
        total.backward()
        flops = live.flops - before
        recorder.begin("update", "optimizer")
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        del total
        if look:
            recorder.begin("evaluation", "activations")
            with torch.no_grad():
                packed_loss(model, packed)
        recorder.begin("saving", "checkpoint")
        named = {str(number): parameter for number, parameter in enumerate(trained)}
        kept = taken_apart(State(named, optimizer, build_scaler(setup.dtype, CPU)))
        recorder.end()
        del kept
    return Dry(recorder.parts, forward_flops, flops)


def _flops_left_out(setup: Setup, batch: Batch) -> int:
    """Those of the loss's chunks that a dry run does not make: logits, their gradient, and that of a trained output layer."""
    config = setup.config.get_text_config()
    rows = batch.trained - loss.DRY_CHUNKS * loss.chunk_rows(batch.trained, config.vocab_size, setup.dtype.itemsize)
    products = 3 if setup.adapter.method == "full" else 2
    return products * 2 * int(config.vocab_size * config.hidden_size) * max(0, rows)


class _Recorder:
    """Cuts the step into parts, so that each grows along a straight line with the number of layers: the backward pass of the
    two last and the two first periods of layers, and the rest. What lies between has its peaks between theirs.
    """

    def __init__(self, live: LiveStorages, model: PreTrainedModel, period: int) -> None:
        self.parts: dict[str, Part] = {}
        self._live = live
        self._name = ""
        layers = list(decoder_layers(model))
        for number, layer in enumerate(layers):
            from_end = len(layers) - 1 - number
            near, far = from_end < 2 * period, number < 2 * period
            name = f"backward -{from_end}" if near else f"backward {number}" if far else "backward"
            layer.register_forward_hook(self._marks(name))
        decoder_of(model).register_forward_hook(lambda *_ignored: self.begin("loss", "loss"))

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


def _fake_model(setup: Setup, layers: int, saving: Saving, live: LiveStorages) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """The model as a training has it, and its trained parameters."""
    config = copy.deepcopy(setup.config)
    config.num_hidden_layers = layers
    if "layer_types" in config.to_dict() and config.layer_types is not None:
        config.layer_types = config.layer_types[:layers]
    config.use_cache = False
    is_full = setup.adapter.method == "full"
    with live.category(TRAINED if is_full and setup.dtype == torch.float32 else "weights"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=setup.dtype, attn_implementation=attention.NAME)
        model.requires_grad_(False)
        if setup.adapter.quantize != "none":
            quantize_linear(model, setup.adapter.quantize, CPU)
        elif saving.is_lean and not is_full and setup.config.dtype == torch.bfloat16 and setup.dtype == torch.float32:
            _store_as_in_files(model)
    if is_full:
        trained = _train_all(model, setup.dtype, live)
    else:
        with live.category("adapter"):
            add_lora(model, setup.adapter, 0)
        trained = list(trained_parameters(model).values())
        for parameter in trained:
            parameter.requires_grad_(True)
            parameter.register_post_accumulate_grad_hook(lambda leaf: _as_gradient(live, leaf))
    join_norms(model)
    prune_last_layer(decoder_layers(model)[-1])
    model.train()
    return model, trained


def _store_as_in_files(model: PreTrainedModel) -> None:
    """As ``load_model`` does with ``storage``: the linear layers' weights stay in bfloat16."""
    for name in target_names(model, "all-linear"):
        parent, _dot, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        dense = owner.get_submodule(child)
        if isinstance(dense, nn.Linear):
            setattr(owner, child, FrozenLinear(dense.weight.detach().to(torch.bfloat16), "dense", dense.bias))


def _train_all(model: PreTrainedModel, dtype: torch.dtype, live: LiveStorages) -> list[nn.Parameter]:
    """As ``whole_model`` does: float32 parameters; in a smaller ``dtype`` the model computes with copies of them."""
    model.requires_grad_(True)
    own = list(model.parameters())
    if dtype == torch.float32:
        for parameter in own:
            parameter.register_post_accumulate_grad_hook(lambda leaf: _as_gradient(live, leaf))
        return own
    masters = []
    for parameter in own:
        with live.category(TRAINED):
            master = nn.Parameter(torch.zeros_like(parameter, dtype=torch.float32))

        def pass_on(copy: Tensor, master: Tensor = master) -> None:
            hand_on(copy, master)
            _as_gradient(live, master)

        parameter.register_post_accumulate_grad_hook(pass_on)
        masters.append(master)
    return masters


def _optimizer(setup: Setup, trained: Sequence[nn.Parameter], live: LiveStorages) -> torch.optim.Optimizer:
    if setup.optimizer == "adamw":
        return torch.optim.AdamW(trained, fused=True)
    if setup.optimizer == "muon":
        tokens = setup.config.get_text_config().vocab_size  # rows of the embeddings and of the output layer
        matrices = [parameter for parameter in trained if parameter.dim() == 2 and len(parameter) != tokens]
        others = [parameter for parameter in trained if parameter.dim() != 2 or len(parameter) == tokens]
        groups: list[dict[str, Any]] = [{"params": matrices, "is_matrix": True}, *([{"params": others}] if others else [])]
        return Muon(groups, lr=1.0)
    return _Moments8Bit(trained, live, is_paged=setup.optimizer == "paged_adamw_8bit")


class _Moments8Bit(torch.optim.Optimizer):
    """What bitsandbytes' AdamW8bit keeps (``Optimizer2State.init_state``): moments in 8 bits with a scale for 256 of them, those
    of small parameters in float32. Paged ones lie in RAM, from 100,000 numbers on, when the device is full.
    """

    def __init__(self, trained: Sequence[nn.Parameter], live: LiveStorages, *, is_paged: bool) -> None:
        super().__init__(trained, {})
        self._live, self._is_paged = live, is_paged

    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002  # as torch declares it
        for parameter in self.param_groups[0]["params"]:
            if parameter in self.state:
                continue
            count = parameter.numel()
            kind = torch.float32 if count < _SMALL else torch.uint8
            with self._live.category(RAM if self._is_paged and count >= _PAGED else "optimizer"):
                moments = [torch.zeros(count, dtype=kind) for _each in range(2)]
            scales = [torch.zeros(-(-count // _BLOCK)) for _each in range(2)] if kind == torch.uint8 else []
            self.state[parameter] = {"moments": moments, "scales": scales}


def parameters_of(config: PreTrainedConfig) -> int:
    """How many parameters a model of this configuration has."""
    with FakeTensorMode():
        return sum(parameter.numel() for parameter in AutoModelForCausalLM.from_config(config).parameters())


def largest_linear(config: PreTrainedConfig) -> int:
    """How many weights the largest of the linear layers has, but for the output layer; 0 where there are none."""
    with FakeTensorMode():
        model = AutoModelForCausalLM.from_config(config)
        head = model.get_output_embeddings()
        layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module is not head]
        return max((layer.weight.numel() for layer in layers), default=0)


def _as_gradient(live: LiveStorages, leaf: Tensor) -> None:
    if leaf.grad is not None:
        live.assign(leaf.grad, "gradients")


def packed_of(batch: Batch) -> Packed:
    """A micro-batch of these sizes, its rows as long as the longest one; the trained tokens are the last ones."""
    starts = [*range(0, batch.tokens, batch.longest), batch.tokens]
    positions = [place % batch.longest for place in range(batch.tokens)]
    inputs = list(range(batch.tokens - batch.trained, batch.tokens))
    return Packed((), [0] * batch.tokens, positions, 0, starts, inputs, [0] * batch.trained)


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
def _attention(live: LiveStorages, kind: Kind, fixed_order: int) -> Iterator[None]:
    """Makes ``attention.NAME`` allocate what the attention of the target does, linear in the tokens, and compute nothing.

    ``fixed_order``: the multiprocessors among which sums are shared out in a fixed order; 0 where the order is not fixed.
    """

    def dry(
        _module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        _mask: Tensor | None,
        *,
        layout: Layout | None = None,
        softcap: float | None = None,
        **_options: Any,
    ) -> tuple[Tensor, None]:
        whole = attention.Document((0, query.shape[2]), (0, query.shape[2]))  # a family whose rows are computed one by one
        documents = (whole,) if layout is None else layout.documents
        if layout is not None and layout.take is not None:
            key, value = layout.take(key, value)
        q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # (T, H, D), (T, K, D)
        fused = kind == "cuda" and q.dtype != torch.float32 and softcap is None
        parts = flash_parts(fixed_order, len(documents), q.shape[1]) if fixed_order else 1
        out: Tensor = _Attention.apply(q, k, v, live, documents, fused, softcap is not None, parts)  # type: ignore[no-untyped-call]
        return out[None], None

    AttentionInterface.register(attention.NAME, dry)
    AttentionMaskInterface.register(attention.NAME, lambda *_args, **_kwargs: None)
    try:
        yield
    finally:
        attention.register()


@contextmanager
def _tiles_of(kind: Kind) -> Iterator[None]:
    """Fake tensors lie on the CPU: the loss takes the target's tiles all the same."""
    before = loss.TILE_BYTES["cpu"]
    loss.TILE_BYTES["cpu"] = loss.TILE_BYTES[kind]
    try:
        yield
    finally:
        loss.TILE_BYTES["cpu"] = before


class _Attention(torch.autograd.Function):
    """``fused``: what FlashAttention 2 allocates for rows of unequal length (``mha_varlen_fwd`` and ``mha_varlen_bwd`` in its
    ``flash_api.cpp``, which torch uses too). Its backward pass sums dQ in float32, in as many ``parts`` as a fixed order asks
    for, and, where several heads share keys and values, makes dK and dV for each head before it adds them up. Else what
    ``attention.py`` does by itself, a block of queries at a time.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        live: LiveStorages,
        documents: Sequence[attention.Document],
        fused: bool,
        capped: bool,
        parts: int,
    ) -> Tensor:
        pairs = [(d.queries[1] - d.queries[0], d.shared + d.keys[1] - d.keys[0]) for d in documents]
        flops = 4 * q.shape[1] * q.shape[2] * sum(queries * keys - queries**2 // 2 for queries, keys in pairs)
        live.flops += flops
        out = torch.empty(q.shape, dtype=q.dtype)
        block = q.shape[1] * attention.BLOCK * max(keys for _queries, keys in pairs)  # scores
        if fused:
            log_sums = q.new_empty(q.shape[1], q.shape[0], dtype=torch.float32)
            ctx.save_for_backward(q, k, v, out, log_sums)
        else:
            _hold(q, block * (5 if capped else 2))
            ctx.save_for_backward(q, k, v)
        ctx.settings = (live, flops, len(documents), fused, block * (6 if capped else 3), parts)
        return out

    @staticmethod
    def backward(ctx: Any, *_grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors[:3]
        live, flops, rows, fused, block, summed = ctx.settings
        live.flops += flops * 5 // 2  # five products in the place of two
        tokens, heads, width = q.shape
        dq, dk, dv = (torch.empty(tensor.shape, dtype=q.dtype) for tensor in (q, k, v))
        if fused:
            padded = tokens + 128 * rows
            sums = torch.empty(summed, padded, heads, -(-width // 32) * 32, dtype=torch.float32)
            slopes = torch.empty(heads, padded, dtype=torch.float32)
            shared = [torch.empty(q.shape, dtype=q.dtype) for _each in "kv"] if k.shape[1] != heads else []
            del sums, slopes, shared
        else:
            parts = [torch.empty(k.shape, dtype=q.dtype) for _each in "kv"]  # of one document
            _hold(q, block)
            del parts
        return dq, dk, dv, None, None, None, None, None


def _hold(like: Tensor, count: int) -> None:
    """So many numbers are there for a moment."""
    like.new_empty(count)
