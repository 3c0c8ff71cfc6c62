"""Graphics cards by their data sheets, and what a training reaches of that. No torch: an advice reads it too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from afina.core.units import MIB

# Modelled, not measured: what CUDA's context, torch's kernels and cuBLAS's workspaces take beside the tensors, and what a desktop
# takes of a card that drives a screen.
CUDA_CONTEXT = 450 * MIB
DESKTOP = 600 * MIB
UTILISATION = 0.45  # modelled: share of a card's dense tensor peak that a step reaches
# Share of the rate of the matrix product that a step reaches, measured on two Zen 4 cores (bench/results/train-a.json).
CPU_UTILISATION = 0.5


@dataclass(frozen=True)
class Card:
    """Memory in GiB, dense TFLOP/s of bfloat16 (float16 where there is none) with float32 sums, multiprocessors, CUDA compute
    capability.
    """

    gib: float
    tflops: float
    multiprocessors: int
    capability: tuple[int, int]
    desktop: bool = True


# From NVIDIA's data sheets and architecture white papers (Turing, Ampere GA102, Ada, Hopper, Blackwell).
CARDS: Mapping[str, Card] = MappingProxyType(
    {
        "t4": Card(15, 65, 40, (7, 5), desktop=False),
        "rtx2080ti": Card(11, 54, 68, (7, 5)),
        "rtx3060": Card(12, 25.6, 28, (8, 6)),
        "rtx3070": Card(8, 40.6, 46, (8, 6)),
        "rtx3080": Card(10, 59.5, 68, (8, 6)),
        "rtx3090": Card(24, 71, 82, (8, 6)),
        "rtx4060": Card(8, 30.2, 24, (8, 9)),
        "rtx4060ti16": Card(16, 44.1, 34, (8, 9)),
        "rtx4070": Card(12, 58.3, 46, (8, 9)),
        "rtx4080": Card(16, 97.5, 76, (8, 9)),
        "rtx4090": Card(24, 165.2, 128, (8, 9)),
        "rtx5060ti16": Card(16, 47.4, 36, (12, 0)),
        "rtx5070": Card(12, 61.7, 48, (12, 0)),
        "rtx5080": Card(16, 112.6, 84, (12, 0)),
        "rtx5090": Card(32, 209.5, 170, (12, 0)),
        "a10g": Card(22, 70, 80, (8, 6), desktop=False),
        "l4": Card(22, 121, 58, (8, 9), desktop=False),
        "a6000": Card(48, 154.8, 84, (8, 6)),
        "l40s": Card(45, 362, 142, (8, 9), desktop=False),
        "a100-40": Card(40, 312, 108, (8, 0), desktop=False),
        "a100-80": Card(80, 312, 108, (8, 0), desktop=False),
        "h100": Card(80, 989, 132, (9, 0), desktop=False),
        "h200": Card(140, 989, 132, (9, 0), desktop=False),
    }
)
PLAIN = Card(0, 40, 64, (8, 6))  # a card of which only the memory is known


def key_of(name: str) -> str:
    """A card's name as CARDS writes it: ``NVIDIA GeForce RTX 3060`` → ``rtx3060``."""
    return re.sub(r"nvidia|geforce|[\s_]", "", name.lower())


def card_found(name: str) -> Card:
    """The card that a driver calls so (``NVIDIA A100-SXM4-40GB``); a plain one where the table has none like it."""
    found = [key for key in CARDS if key.partition("-")[0] in key_of(name)]
    return CARDS[max(found, key=len)] if found else PLAIN
