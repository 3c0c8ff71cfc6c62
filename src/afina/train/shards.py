"""A checkpoint whose tensors several ranks hold a part of each: torch.distributed.checkpoint, in safetensors.

    checkpoints/step-00000120/
      shard-…-model-….safetensors    a file a rank
      state.json                     written last: the rest as JSON, the hash of each file, and the hash of both

It is written beside and renamed, and can be read by any number of ranks, sharded or whole. Nothing of it is a pickle.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor

from afina.core.files import FULL_DISK, full_disk, read_json, sha256_of, sha256_of_text, write_json
from afina.core.translation import _
from afina.train.ranks import Ranks

STATE = "state.json"


class DamagedError(Exception):
    """Why a checkpoint cannot be used."""


def save_shards(folder: Path, tensors: Mapping[str, Tensor], text: str, version: int, ranks: Ranks) -> None:
    """Writes ``tensors``, each rank its parts, and ``text``; ``folder`` is there as a whole or not at all.

    Raises ResourceError where a disk is full.
    """
    part = folder.with_name(f".{folder.name}.part")
    if ranks.is_first:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    ranks.wait()
    try:
        save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(part), save_distributed=True))
    except CheckpointException as error:
        if any(_is_full(failure) for failure, _frames in error.failures.values()):
            raise full_disk(folder) from None
        raise
    if ranks.is_first:
        files = {path.name: sha256_of(path) for path in sorted(part.iterdir())}
        write_json(
            part / STATE, {"format": version, "state": text, "files": files, "sha256": sha256_of_text(_record(text, files))}
        )
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    ranks.wait()


def load_shards(folder: Path, version: int, parameters: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Tensors and text as they were saved; what has a parameter's shape is shared out as that parameter is.

    Raises DamagedError where a file is missing or changed.
    """
    text = _checked_text(folder, version)
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for key, kept in found.items():
        assert isinstance(kept, TensorStorageMetadata)  # safetensors hold nothing else
        parameter = parameters.get(key.rpartition("/")[2])
        empty = torch.empty(kept.size, dtype=kept.properties.dtype)
        tensors[key] = empty if parameter is None else placed_as(parameter, empty)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # that is what one process wants
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not dist.is_initialized())
    return tensors, text


def placed_as(parameter: Tensor, value: Tensor) -> Tensor:
    """``value`` on the parameter's device, and shared out as it is where it has its shape. Every rank holds all of ``value``."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    mesh = parameter.device_mesh
    return distribute_tensor(value.to(parameter.device), mesh, parameter.placements, src_data_rank=None)


def _checked_text(folder: Path, version: int) -> str:
    try:
        record = read_json(folder / STATE)
        text, files = record["state"], record["files"]
        if record["format"] != version:
            raise DamagedError(_("it is of another version of afina"))
        now = {path.name: sha256_of(path) for path in sorted(folder.iterdir()) if path.name != STATE}
        whole = record["sha256"] == sha256_of_text(_record(text, files))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(str(error)) from None
    if now != files or not whole:
        raise DamagedError(_("its content is not what was written (SHA-256)"))
    return str(text)


def _record(text: str, files: Mapping[str, str]) -> str:
    return json.dumps([text, dict(files)])


def _is_full(failure: BaseException) -> bool:
    if isinstance(failure, SafetensorError):
        return any(f"os error {number}" in str(failure) for number in FULL_DISK)
    return isinstance(failure, OSError) and failure.errno in FULL_DISK
