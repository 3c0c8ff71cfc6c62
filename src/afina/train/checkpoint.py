"""A training's state on disk, so that a killed run goes on where the last checkpoint was made, bit for bit.

    checkpoints/step-00000120.safetensors     tensors: parameter/<name>, moment/<kind>/<name>
                                              metadata: the rest as JSON, and the hash of all of it

The noise of dropout and of the embeddings is a function of (seed, step, micro-batch) and the order of rows one of (seed, epoch),
so weights, moments, counters and the loss scale are all there is to keep: no random generator has a state of its own.

A checkpoint is one file, written beside and renamed: there is no half of one. Its hash tells when the file changed since. Where
ranks hold a part each of what is trained it is a folder (``shards``). Either is gone on with by any number of ranks.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from afina.core.errors import DataError, ResourceError
from afina.core.files import remove_parts
from afina.core.translation import _
from afina.core.units import format_bytes
from afina.model.tensors import write_tensors
from afina.train.diagnose import Course
from afina.train.ranks import ALONE, Ranks
from afina.train.shards import DamagedError, load_shards, placed_as, save_shards

FORMAT = 1


@dataclass(frozen=True)
class Counters:
    """Where the training stands after ``step`` steps. Losses are means a trained token; seconds are those of finished work."""

    step: int = 0
    best_loss: float | None = None
    best_step: int = 0
    looks_without_gain: int = 0
    first_loss: float | None = None  # held-out loss of the base
    trained_seconds: float = 0.0
    seen_tokens: int = 0
    course: Course = field(default_factory=Course)


@dataclass(frozen=True)
class State:
    """All that changes while training, apart from the counters."""

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in ``folder``, one ``every`` so many steps: the ``keep`` newest stay, and for good each ``keep_every``.

    All ranks save and load together; the first one writes what is whole.
    """

    folder: Path
    every: int
    keep: int
    keep_every: int | None
    ranks: Ranks = ALONE

    def due(self, step: int) -> bool:
        return step % self.every == 0 or self._for_good(step)

    def save(self, state: State, counters: Counters) -> None:
        """Writes one and deletes those that the rule does not keep. A full disk leaves the ones before it as they are."""
        tensors, rest = taken_apart(state)
        text = json.dumps({"counters": asdict(counters), "scaler": state.scaler.state_dict(), **rest})
        path = self.folder / f"step-{counters.step:08d}"
        try:
            if self.ranks.sharded:
                save_shards(path, tensors, text, FORMAT, self.ranks)
            elif self.ranks.is_first:
                metadata = {"format": str(FORMAT), "state": text, "sha256": _hash(text, tensors)}
                write_tensors(path.with_suffix(".safetensors"), tensors, metadata)
        except ResourceError as error:
            raise ResourceError(_no_room(error, counters.step, tensors, self.last_step()), fix=error.fix) from None
        for old in self._paths()[: -self.keep] if self.ranks.is_first else []:
            if not self._for_good(_step_of(old)):
                _delete(old)

    def load(self, state: State, warn: Callable[[str], None]) -> Counters | None:
        """Puts the newest whole checkpoint into ``state``; None where there is none at all.

        One that is damaged is told to ``warn`` and the one before it is taken. Raises DataError where none is whole.
        """
        if self.ranks.is_first:
            remove_parts(self.folder)
        self.ranks.wait()
        reason = ""
        for path in reversed(self._paths()):
            try:
                counters = _load(path, state)
            except DamagedError as error:
                reason = _("the checkpoint {path} is damaged: {reason}").format(path=path, reason=error)
                warn(reason)
                continue
            return counters
        if reason:
            raise DataError(reason, fix=_("delete {folder}; the training then starts anew").format(folder=self.folder))
        return None

    def last_step(self) -> int | None:
        """The step of the newest one."""
        return _step_of(self._paths()[-1]) if self._paths() else None

    def clear(self) -> None:
        """Deletes what a finished training no longer needs."""
        for path in self._paths():
            if not self._for_good(_step_of(path)):
                _delete(path)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _paths(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,}(\.safetensors)?", path.name))

    def _for_good(self, step: int) -> bool:
        return self.keep_every is not None and step % self.keep_every == 0


def taken_apart(state: State) -> tuple[dict[str, Tensor], dict[str, dict[str, Any]]]:
    """Tensors by name, and what of the optimizer's state is none.

    ``scalars`` by the same names; ``same``: names whose tensor is the one of another name (8-bit optimizers share their tables).
    """
    tensors: dict[str, Tensor] = {}
    scalars: dict[str, Any] = {}
    same: dict[str, str] = {}
    seen: dict[int, str] = {}
    for name, parameter in state.parameters.items():
        tensors[f"parameter/{name}"] = _kept(parameter)
        for kind, value in state.optimizer.state.get(parameter, {}).items():
            key = f"moment/{kind}/{name}"
            if not isinstance(value, Tensor):
                scalars[key] = value
            elif (first := seen.setdefault(id(value), key)) != key:
                same[key] = first
            else:
                tensors[key] = _kept(value)
    return tensors, {"scalars": scalars, "same": same}


def _kept(tensor: Tensor) -> Tensor:
    """Shared-out tensors as they are, for each rank writes its part; others on the CPU."""
    return tensor.detach() if isinstance(tensor, DTensor) else tensor.detach().cpu().contiguous()


def _load(path: Path, state: State) -> Counters:
    """Raises DamagedError before anything of ``state`` is changed."""
    tensors, text = load_shards(path, FORMAT, state.parameters) if path.is_dir() else _load_file(path)
    if {f"parameter/{name}": parameter.shape for name, parameter in state.parameters.items()} != {
        name: tensor.shape for name, tensor in tensors.items() if name.startswith("parameter/")
    }:
        raise DamagedError(_("it is of another training: its parameters are others"))
    record = json.loads(text)
    _put_back(state, {**tensors, **{name: tensors[first] for name, first in record["same"].items()}}, record["scalars"])
    state.scaler.load_state_dict(record["scaler"])
    counters = record["counters"]
    return Counters(**{**counters, "course": Course.of_record(counters["course"])})


def _load_file(path: Path) -> tuple[dict[str, Tensor], str]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise DamagedError(str(error)) from None
    text = metadata.get("state", "")
    if metadata.get("format") != str(FORMAT):
        raise DamagedError(_("it is of another version of afina"))
    if metadata.get("sha256") != _hash(text, tensors):
        raise DamagedError(_("its content is not what was written (SHA-256)"))
    return tensors, text


def _put_back(state: State, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
    moments: dict[str, dict[str, Any]] = {}
    for key, value in {**tensors, **scalars}.items():
        place, _slash, name = key.partition("/")
        if place == "moment":
            kind, _slash, name = name.partition("/")
            moments.setdefault(name, {})[kind] = value
    with torch.no_grad():
        for name, parameter in state.parameters.items():
            parameter.copy_(_placed(parameter, tensors[f"parameter/{name}"]))
            if name in moments:
                # a step counter stays where the fused optimizer keeps it: beside the parameter
                state.optimizer.state[parameter] = {
                    kind: _placed(parameter, value) if isinstance(value, Tensor) else value
                    for kind, value in moments[name].items()
                }


def _hash(text: str, tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over the JSON and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(text.encode("utf-8"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _placed(parameter: nn.Parameter, value: Tensor) -> Tensor:
    return value if isinstance(value, DTensor) else placed_as(parameter, value)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _step_of(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _no_room(error: ResourceError, step: int, tensors: Mapping[str, Tensor], last: int | None) -> str:
    needed = format_bytes(sum(tensor.nbytes for tensor in tensors.values()))
    kept = _("none was made before") if last is None else _("that of step {step} stays").format(step=last)
    return _("the checkpoint of step {step} needs {needed}, and {reason}; {kept}").format(
        step=step, needed=needed, reason=error.what, kept=kept
    )
