"""The same numbers each time, bit for bit: without it no run that was killed could end as if it had not been."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def is_repeatable(kind: str, checkpointing: str) -> bool:
    """Whether a training on such a device adds up in a fixed order. ``offload`` on CUDA does not: it is there for lack of memory,
    and the fixed order takes more of it (``flash_parts``).
    """
    return kind != "cuda" or checkpointing != "offload"


def flash_parts(multiprocessors: int, rows: int, heads: int) -> int:
    """In how many parts FlashAttention 2 sums the gradient of the queries where the order is fixed, each as large as the whole in
    float32: enough to keep every multiprocessor busy (``nsplits`` in its ``flash_api.cpp``).
    """
    return max(1, (multiprocessors + rows * heads - 1) // (rows * heads))


@contextmanager
def repeatable(device: torch.device, checkpointing: str = "none") -> Iterator[None]:
    """Within the block a CUDA device adds up in a fixed order, where ``is_repeatable`` says so; a CPU does so anyway.

    Some kernels add in the order in which their parts happen to be ready: FlashAttention's gradient of the queries, the gradient
    of tokens that several rows share. torch has others for them, and raises RuntimeError for an operation that has none.
    """
    if device.type != "cuda" or not is_repeatable(device.type, checkpointing):
        yield
        return
    # What torch asks for before it promises that a product by cuBLAS is the same each time: workspaces of a fixed size.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    filling = settings.fill_uninitialized_memory
    settings.fill_uninitialized_memory = False  # nothing here reads what it has not written
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = filling
