"""Muon: steps for matrices whose singular values are all about one, so that no direction of a weight is left behind.

    momentum ──▶ U S Vᵀ ──▶ U Vᵀ, by five rounds of a polynomial (Newton–Schulz), no decomposition ──▶ step

Keller Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the size of the step of Liu et al.,
"Muon is scalable for LLM training" (2025): its root mean square is that of AdamW's steps, so that learning rate and weight
decay mean the same for both.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

MOMENTUM = 0.95
ROUNDS = 5
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # a x + b x³ + c x⁵: steep at zero, and near one it stays between 0.7 and 1.2
ADAMW_SIZE = 0.2  # root mean square of AdamW's steps, as a share of the learning rate
BETAS, EPSILON = (0.9, 0.999), 1e-8  # AdamW's, as torch sets them
_AT_ONCE = 2**22  # numbers worked on together: 16 MB in float32, and three times that beside them


class Muon(torch.optim.Optimizer):
    """Muon for the groups with ``is_matrix``, whose parameters all have two dimensions; AdamW for the others."""

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "is_matrix": False})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # noqa: ARG002  # as torch declares it
        for group in self.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if group["is_matrix"]:
                self._move_matrices(trained, group["lr"], group["weight_decay"])
            elif trained:
                self._move_others(trained, group["lr"], group["weight_decay"])

    def _move_matrices(self, parameters: Sequence[nn.Parameter], rate: float, decay: float) -> None:
        for shape, members in groupby(sorted(parameters, key=_shape), key=_shape):
            alike, count = list(members), max(1, _AT_ONCE // math.prod(shape))
            size = rate * ADAMW_SIZE * math.sqrt(max(shape))
            for part in (alike[start : start + count] for start in range(0, len(alike), count)):
                updates = orthogonal(torch.stack([self._momentum(parameter) for parameter in part]))
                for parameter, update in zip(part, updates, strict=True):
                    parameter.mul_(1 - rate * decay).add_(update.to(parameter.dtype), alpha=-size)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """The gradient looked ahead along its running sum (Nesterov), float32."""
        gradient = parameter.grad
        assert gradient is not None  # those without were left out
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(state["momentum"], MOMENTUM).float()

    def _move_others(self, parameters: Sequence[nn.Parameter], rate: float, decay: float) -> None:
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=decay,
            eps=EPSILON,
            maximize=False,
        )


def orthogonal(matrices: Tensor) -> Tensor:
    """About U Vᵀ of each matrix U S Vᵀ, float32 (N, rows, columns): singular values from 0.7 to 1.2; zero stays zero."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)  # no singular value above one
    a, b, c = POLYNOMIAL
    for _round in range(ROUNDS):
        square = x @ x.mT
        x = a * x + torch.baddbmm(square, square, square, beta=b, alpha=c) @ x
    made: Tensor = x.mT if is_tall else x
    return made


def _shape(parameter: nn.Parameter) -> tuple[int, ...]:
    return tuple(parameter.shape)
