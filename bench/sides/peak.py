"""The fastest matrix product of this machine, in every number type that a contender computes in: the denominator of MFU.

A turn takes about two seconds; the driver keeps the quiet ones.
"""

from __future__ import annotations

import time

import torch

from bench.sides.turns import Turns, settings

TOKENS = 2048
SECONDS = 0.25  # spent on each shape


def flops_per_second(m: int, k: int, n: int, dtype: torch.dtype, device: torch.device) -> float:
    """Of ``x Wᵀ`` with x (m, k) and W (n, k): that of the fastest of several calls, as many as fit into SECONDS."""
    x, weight = (torch.randn(rows, k, device=device).to(dtype) for rows in (m, n))
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        before = time.perf_counter()
        x @ weight.t()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - before)
    return 2 * m * k * n / best


def main() -> None:
    asked, turns = settings(), Turns()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    width, inner = asked["width"], asked["inner"]
    shapes = [(TOKENS, width, width), (TOKENS, width, inner), (TOKENS, inner, width), (TOKENS, 2048, 2048)]
    turns.ready(dtype="", threads=torch.get_num_threads())
    while True:
        turns.begin()
        fastest = {
            name: max(flops_per_second(*shape, getattr(torch, name), device) for shape in shapes) for name in asked["dtypes"]
        }
        turns.end()
        turns.answer(flops_per_second=fastest)


if __name__ == "__main__":
    main()
