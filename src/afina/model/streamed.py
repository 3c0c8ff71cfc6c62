"""A model that is computed layer by layer over all rows, with one layer's weights in memory at a time.

    rows' ids ─▶ embedding ─▶ states ─▶ layer 0 ─▶ states ─▶ layer 1 ─▶ … ─▶ norm ─▶ output layer, a few tokens at a time
                               on the     read,      on the
                               disk       freed      disk

The numbers are those of ``load_model``'s model, to rounding. The family's code is transformers': its decoder runs as it is for
each row and layer, on a model without weights in which the other layers pass on what they are given.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from afina.core.files import require_disk, told_when_full
from afina.core.translation import _
from afina.model.adapter import load_adapter
from afina.model.base import Base
from afina.model.decoder import decoder_layers, decoder_of
from afina.model.load import choose_attention, fill, require_all, without_weights
from afina.model.lora import put_lora
from afina.model.nf4 import require_nf4
from afina.model.weights import Checkpoint, Weights

_HEAD_PLACES = 256  # places whose log-probabilities are there at a time, each as wide as the vocabulary
_HEAD_BYTES = 2**27  # of the output layer at a time, as float32
_BESIDE = 2**27  # the family's code, and what the allocator keeps

Watch = Callable[[PreTrainedModel, str], AbstractContextManager[object]]
OnLayer = Callable[[int, int], None]  # layers that are done, layers in all


def nothing(_done: int, _layers: int) -> None:
    """For who need not hear of progress."""


@dataclass(frozen=True)
class Passage:
    """A row, and the places in it (at least 1) whose token is predicted from those before it."""

    ids: tuple[int, ...]
    places: tuple[int, ...]


class StreamedModel:
    """``base`` with ``adapter`` beside its weights, which are ``quantize``d as in training; computed in float32.

    ``weights`` take the place of those in the base's folder. ``folder``: where states are kept meanwhile.
    """

    def __init__(
        self,
        base: Base,
        *,
        device: torch.device,
        folder: Path,
        adapter: Path | None = None,
        quantize: Literal["none", "int8", "nf4"] = "none",
        weights: Weights | None = None,
        on_layer: OnLayer = nothing,
    ) -> None:
        if quantize == "nf4":
            require_nf4(device)
        self._weights: Weights = weights or Checkpoint(base.folder)
        self._adapter = None if adapter is None else load_adapter(adapter)
        self._quantize = quantize
        self._device = device
        self._folder = folder
        self._on_layer = on_layer
        self._model = without_weights(base, torch.float32, choose_attention(base.family))
        self._model.requires_grad_(False).eval()
        self._wanted = dict(self._model.named_parameters())
        require_all(self._weights, self._wanted)
        self._head_name = self._name_of(self._model.get_output_embeddings().weight)
        self._embedding_name = self._name_of(self._model.get_input_embeddings().weight)
        self._layers = decoder_layers(self._model)
        self._prefix = next(name for name, module in self._model.named_modules() if module is self._layers)
        self._empty = [copy.deepcopy(layer) for layer in self._layers]
        for number in range(len(self._layers)):
            self._take_out(number)
        rest = [name for name in self._wanted if not self._is_streamed(name)]
        self._fill(rest)

    def log_probabilities(self, passages: Sequence[Passage]) -> Iterator[Tensor]:
        """Of every token to be the one at each place, passage by passage, (places, V) float32 on the CPU."""
        before = [[place - 1 for place in passage.places] for passage in passages]
        states = self.states([passage.ids for passage in passages], before)
        for group in _groups([len(places) for places in before]):
            logs = self._logits(torch.cat([states[number] for number in group])).log_softmax(-1)
            yield from logs.split([len(before[number]) for number in group])

    @torch.inference_mode()
    def states(
        self, rows: Sequence[Sequence[int]], places: Sequence[Sequence[int]], watch: Watch = lambda _model, _layer: nullcontext()
    ) -> list[Tensor]:
        """What goes into the output layer at each row's ``places``, (places, D) on the CPU.

        ``watch`` is entered with the model and the name of a layer while that layer is there and all rows go through it.
        """
        embedded = self._embed(rows)
        found: list[Tensor] = []
        with _States(self._folder, [len(row) for row in rows], self._width) as states:
            for number in range(len(self._layers)):
                layer = self._put_in(number)
                last = number == len(self._layers) - 1
                with watch(self._model, f"{self._prefix}.{number}"):
                    for row, ids in enumerate(embedded):
                        before = states.read(row).to(self._device) if number else None
                        after, out = self._through(layer, ids, before)
                        if last:
                            found.append(out[0, list(places[row])].cpu())
                        else:
                            states.write(row, after.cpu())
                del layer  # else it would be there still while the next one is read
                self._take_out(number)
                self._on_layer(number + 1, len(self._layers))
        return found

    def _through(self, layer: nn.Module, ids: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """What ``layer`` makes of ``before`` (T, D) or, for the first one, of the embedded ``ids`` (1, T); and that after the
        norm (1, T, D).
        """
        made: list[Tensor] = []
        handles = [layer.register_forward_hook(lambda _layer, _inputs, output: made.append(_states_of(output)))]
        if before is not None:
            given = before[None]
            handles.append(layer.register_forward_pre_hook(lambda _layer, inputs: (given, *inputs[1:])))
        try:
            out = self._decoder(input_ids=ids, use_cache=False).last_hidden_state
        finally:
            for handle in handles:
                handle.remove()
        return made[0][0], out

    def _embed(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """Puts the embeddings of these rows' tokens into the model, and no others; the ids in that smaller table, (1, T) each."""
        used = sorted({token for row in rows for token in row})
        table = np.concatenate([self._weights.read(self._embedding_name, token, token + 1) for token in used])
        embedding: Any = self._model.get_input_embeddings()
        embedding.weight = nn.Parameter(torch.from_numpy(table).to(self._device), requires_grad=False)
        return [torch.from_numpy(np.searchsorted(used, list(row)))[None].to(self._device) for row in rows]

    @torch.inference_mode()
    def _logits(self, hidden: Tensor) -> Tensor:
        """(N, V) float32 on the CPU of ``hidden`` (N, D)."""
        vocabulary, width = self._weights.shape(self._head_name)
        step = max(1, _HEAD_BYTES // (4 * width))
        logits = torch.empty(len(hidden), vocabulary)
        there = hidden.to(self._device)
        for start in range(0, vocabulary, step):
            rows = torch.from_numpy(self._weights.read(self._head_name, start, start + step)).to(self._device)
            logits[:, start : start + step] = (there @ rows.t()).cpu()
        cap: float | None = self._model.config.get_text_config().to_dict().get("final_logit_softcapping")  # Gemma 2
        return logits.div_(cap).tanh_().mul_(cap) if cap else logits

    def _put_in(self, number: int) -> nn.Module:
        """Layer ``number`` with its weights, in the model."""
        prefix = f"{self._prefix}.{number}."
        layer = self._layers[number] = copy.deepcopy(self._empty[number])
        self._fill([name for name in self._wanted if name.startswith(prefix)])
        if self._adapter is not None:
            pairs = {name: pair for name, pair in self._adapter.pairs.items() if name.startswith(prefix)}
            put_lora(self._model, replace(self._adapter, pairs=pairs))
        return layer.eval()

    def _take_out(self, number: int) -> None:
        """Frees layer ``number``; in its place there is one that passes on what it is given."""
        layer = self._layers[number] = copy.deepcopy(self._empty[number])
        layer.forward = _passing  # an attribute of the layer may tell the decoder its kind

    def _fill(self, names: Sequence[str]) -> None:
        def read(name: str) -> Tensor:
            return torch.from_numpy(self._weights.read(name))

        fill(self._model, read, names, torch.float32, self._device, self._quantize, None)

    def _is_streamed(self, name: str) -> bool:
        return name in (self._head_name, self._embedding_name) or name.startswith(f"{self._prefix}.")

    def _name_of(self, weight: Any) -> str:
        return next(name for name, parameter in self._wanted.items() if parameter is weight)

    @property
    def _decoder(self) -> Any:  # its accessor has no types
        return decoder_of(self._model)

    @property
    def _width(self) -> int:
        return int(self._model.config.get_text_config().hidden_size)


def bytes_needed(base: Base, longest: int) -> int:
    """Memory that rows of up to ``longest`` tokens take at most, beside what a process with torch has anyway."""
    checkpoint = Checkpoint(base.folder)
    sizes: dict[str, int] = {}
    for name in checkpoint.names():
        layer = ".".join(part for part in name.split(".")[:3]) if ".layers." in name else name
        sizes[layer] = sizes.get(layer, 0) + 4 * prod(checkpoint.shape(name))
    layers = [size for name, size in sizes.items() if ".layers." in name]
    config = base.config
    vocabulary, heads = int(config["vocab_size"]), int(config["num_attention_heads"])
    tokens = 4 * longest * (4 * int(config["intermediate_size"]) + 8 * int(config["hidden_size"]))
    scores = 3 * 4 * heads * longest**2 if choose_attention(base.family) == "eager" else 4 * longest**2
    output = 3 * 4 * vocabulary * _HEAD_PLACES + _HEAD_BYTES
    return max(max(layers) + max(layers) // 4 + tokens + scores, output) + _BESIDE


class _States:
    """Hidden states (T, D) of rows of ``lengths``, float32, in a file that goes with this process however it ends.

    Raises ResourceError where the disk of ``folder`` has no room.
    """

    def __init__(self, folder: Path, lengths: Sequence[int], width: int) -> None:
        self._folder, self._lengths, self._width = folder, lengths, width
        self._starts = np.concatenate([[0], np.cumsum(lengths)]) * width * 4
        require_disk(folder, int(self._starts[-1]), _("checking the export"))

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder, prefix=".states-", suffix=".part")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def read(self, row: int) -> Tensor:
        values = np.empty((self._lengths[row], self._width), np.float32)
        left = memoryview(values.data).cast("B")
        self._file.seek(int(self._starts[row]))
        while left:
            left = left[self._file.readinto(left) :]
        return torch.from_numpy(values)

    def write(self, row: int, states: Tensor) -> None:
        left = memoryview(states.contiguous().numpy().data).cast("B")
        with told_when_full(self._folder / "states"):
            self._file.seek(int(self._starts[row]))
            while left:
                left = left[self._file.write(left) :]


def _passing(hidden_states: Tensor, *_args: Any, **_named: Any) -> Tensor:
    return hidden_states


def _states_of(output: Any) -> Tensor:
    states: Tensor = output[0] if isinstance(output, tuple) else output
    return states


def _groups(places: Sequence[int]) -> Iterator[list[int]]:
    """Numbers of rows, in their order, as many together as have ``_HEAD_PLACES`` places; one with more stands alone."""
    group: list[int] = []
    for number, count in enumerate(places):
        if group and sum(places[other] for other in group) + count > _HEAD_PLACES:
            yield group
            group = []
        group.append(number)
    if group:
        yield group
