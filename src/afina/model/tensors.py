"""Tensors in one safetensors file that is written whole or not at all; and those that several ranks share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from afina.core.files import FULL_DISK, full_disk, replacing


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself; all of it where it is shared out over ranks, which then all must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes ``tensors`` from wherever they are. Raises ResourceError where the disk is full; the old file then stays."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        try:
            save_file(on_cpu, temporary, metadata=dict(metadata))
        except SafetensorError as error:
            if any(f"os error {number}" in str(error) for number in FULL_DISK):  # it tells the system's number in words only
                raise full_disk(path) from None
            raise
        temporary.chmod(0o666 & ~_umask())  # safetensors leaves it to its owner alone


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
