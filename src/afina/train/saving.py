"""What is kept between the forward and the backward pass, and what is computed again instead. None of it changes the result.

    checkpointing   kept of each layer                            computed again in the backward pass
    none            everything                                    nothing
    selective       all but what norms and the MLP make inside    norms and the MLP
    full            its input                                     the layer
    offload         its input, in RAM                             the layer

Norms and the MLP look at one token at a time, so they can work on ``tile`` tokens at once: what they make inside is then there
for one tile only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from afina.core.errors import ResourceError
from afina.core.translation import _
from afina.model.decoder import decoder_layers
from afina.train.attention import Layout

Checkpointing = Literal["none", "selective", "full", "offload"]
NORM_TILES = 4


@dataclass(frozen=True)
class Saving:
    """``mlp_tile``: tokens that the MLP works on at once; norms, which make less, take NORM_TILES times as many. None: all."""

    checkpointing: Checkpointing = "none"
    mlp_tile: int | None = None

    @property
    def is_lean(self) -> bool:
        """Whether memory is so short that weights which are bfloat16 in the files stay so, where float32 is computed."""
        return self.checkpointing in {"full", "offload"}


class Copies(Protocol):
    """Where the inputs of layers are while they are not needed."""

    def away(self, tensor: Tensor) -> Tensor: ...

    def back(self, copy: Tensor) -> Tensor: ...


class PinnedCopies:
    """Copies in pinned RAM. The way there runs beside the computation, on a stream of its own; the way back is waited for."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)

    def away(self, tensor: Tensor) -> Tensor:
        copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            copy.copy_(tensor, non_blocking=True)
        tensor.record_stream(self._stream)  # its memory is not given to others before the copy is done
        return copy

    def back(self, copy: Tensor) -> Tensor:
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return copy.to(self._device, non_blocking=True)


def apply_saving(model: PreTrainedModel, saving: Saving, copies: Copies | None = None) -> None:
    """Makes ``model`` save memory as ``saving`` says, wherever gradients are computed. To be called once.

    ``copies`` is where ``offload`` puts the inputs of layers; left out: in pinned RAM, for a model on CUDA. Raises ResourceError
    for ``offload`` on the CPU.
    """
    layers = list(decoder_layers(model))
    if saving.checkpointing == "selective" or saving.mlp_tile is not None:
        for module, tiles in [part for layer in layers for part in _token_wise(layer)]:
            module.forward = _recomputed(module, saving.mlp_tile and tiles * saving.mlp_tile)
    if saving.checkpointing == "offload":
        chosen = copies or _pinned(model.device)
        for layer in layers[:-1]:  # the last one's input is needed at once
            layer.forward = _checkpointed(layer.forward, chosen)
        layers[-1].forward = _checkpointed(layers[-1].forward, None)
    if saving.checkpointing == "full":
        for layer in layers:
            layer.forward = _checkpointed(layer.forward, None)


def _pinned(device: torch.device) -> Copies:
    if device.type != "cuda":
        raise ResourceError(
            _("train.checkpointing is offload, which moves activations from a GPU to RAM; on the CPU they are there already"),
            fix="--set train.checkpointing=full",
        )
    return PinnedCopies(device)


def _token_wise(layer: nn.Module) -> Iterator[tuple[nn.Module, int]]:
    """The modules in a decoder layer that look at one token at a time, and how many tiles each takes at once: its norms, those of
    heads too, and its MLP.
    """
    for name, module in layer.named_modules():
        if name.rpartition(".")[2].endswith("norm"):
            yield module, NORM_TILES
        elif name == "mlp":
            yield module, 1


def _checkpointed(run: Callable[..., Any], copies: Copies | None) -> Callable[..., Any]:
    """``run`` of which only the first argument is kept; torch computes the rest again."""

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        layout = kwargs.get("layout")
        left_half_way = isinstance(layout, Layout) and not layout.documents  # see last_layer.py: little is kept, no way back
        if left_half_way or not torch.is_grad_enabled():
            return run(hidden, *args, **kwargs)
        if copies is None:
            return checkpoint(run, hidden, *args, use_reentrant=False, **kwargs)
        shape = hidden.shape  # what else checkpoint keeps is small (nothing, or a tensor of its own without numbers) and stays

        def away(tensor: Tensor) -> tuple[Tensor, bool]:
            return (copies.away(tensor), True) if tensor.shape == shape else (tensor, False)

        def back(kept: tuple[Tensor, bool]) -> Tensor:
            return copies.back(kept[0]) if kept[1] else kept[0]

        with saved_tensors_hooks(away, back):  # within, checkpoint uses hooks of its own
            return checkpoint(run, hidden, *args, use_reentrant=False, **kwargs)

    return forward


def _recomputed(module: nn.Module, tile: int | None) -> Callable[[Tensor], Tensor]:
    """``module``'s forward of which nothing but the input is kept, on ``tile`` tokens at once."""
    run: Callable[[Tensor], Tensor] = module.forward

    def forward(x: Tensor) -> Tensor:
        trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if not torch.is_grad_enabled() or not (x.requires_grad or trained):
            return _in_tiles(run, x, tile or x.shape[1])
        anchor = torch.empty(0, device=x.device, requires_grad=True)
        held = _Held.apply(x, anchor)  # type: ignore[no-untyped-call]
        y: Tensor = _Recomputed.apply(held, held.grad_fn, run, tile or x.shape[1], *trained)  # type: ignore[no-untyped-call]
        return y

    return forward


def _in_tiles(run: Callable[[Tensor], Tensor], x: Tensor, tile: int) -> Tensor:
    """``run(x)`` for ``x`` (B, T, …), ``tile`` tokens at once."""
    if tile >= x.shape[1]:
        return run(x)
    first = run(x[:, :tile])
    whole = first.new_empty((x.shape[0], x.shape[1], *first.shape[2:]))
    whole[:, :tile] = first
    del first
    for start in range(tile, x.shape[1], tile):
        whole[:, start : start + tile] = run(x[:, start : start + tile])
    return whole


class _Held(torch.autograd.Function):
    """``x`` itself, kept. A function of its own, before the tiles: where torch computes a checkpointed layer again, it stops
    after the last tensor that the backward pass needs, which is then this one, and the MLP is not run a third time.

    ``anchor`` requires a gradient, so that there is a node even where ``x`` needs none.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        return (grads[0] if ctx.needs_input_grad[0] else None), None


class _Recomputed(torch.autograd.Function):
    """``run(held)``; the backward pass runs it again, tile by tile, with the noise of the first time."""

    @staticmethod
    def forward(ctx: Any, held: Tensor, node: Any, run: Callable[[Tensor], Tensor], tile: int, *trained: Tensor) -> Tensor:
        ctx.node, ctx.run, ctx.tile, ctx.trained = node, run, tile, trained
        ctx.noise = _noise(held.device)
        return _in_tiles(run, held, tile)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        (x,) = ctx.node.saved_tensors
        needed: bool = ctx.node.needs_input_grad[0]
        dx = torch.empty_like(x) if needed else None
        sums: list[Tensor] = []
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            _set_noise(x.device, ctx.noise)
            for start in range(0, x.shape[1], ctx.tile):
                stop = start + ctx.tile
                part = x[:, start:stop].detach().requires_grad_(needed)
                with torch.enable_grad():
                    y = ctx.run(part)
                wanted = [part, *ctx.trained] if needed else list(ctx.trained)
                found = list(torch.autograd.grad(y, wanted, dy[:, start:stop]))
                if dx is not None:
                    dx[:, start:stop] = found.pop(0)
                sums = [total.add_(more) for total, more in zip(sums, found, strict=True)] if sums else found
                del y, part, found
        return dx, None, None, None, *sums


def _noise(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_noise(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
