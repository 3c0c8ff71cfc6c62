"""Root-mean-square norms in few passes over memory. transformers writes them as eight operations on float32, of which autograd
keeps a copy; this keeps the input, and the backward pass is one formula.

    y = x̂ · w    x̂ = x · r    r = 1 / √(mean(x²) + ε)    dx = r · (w dy − x̂ · mean(w dy · x̂))        w: weight, or 1 + weight
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, unset_fake_temporarily
from torch.nn import functional as F

# Numbers in float32 that are worked on at once: on a CPU they stay in a core's own cache.
_AT_ONCE = {"cpu": 2**17, "cuda": 2**22}


def join_norms(model: nn.Module) -> None:
    """Has ``model``'s root-mean-square norms computed so, as long as their weights are frozen. Safe to repeat."""
    for module in model.modules():
        if "forward" in vars(module) or not _looks_like_one(module):
            continue
        added = _added_to_weight(type(module))  # type: ignore[arg-type]  # it knows a module's hash, not its class's
        if added is not None:
            module.forward = partial(_norm, module, module.forward, added)


def _looks_like_one(module: nn.Module) -> bool:
    names = [name for name, _parameter in module.named_parameters()]
    return type(module).__name__.endswith("RMSNorm") and names == ["weight"] and _epsilon(module) is not None


def _epsilon(module: nn.Module) -> float | None:
    found = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    return found if isinstance(found, float) else None


@cache
def _added_to_weight(kind: type[nn.Module]) -> float | None:
    """What norms of this class add to their weight, found by trying one on the CPU; None where they do something else."""
    width, epsilon = 16, 0.25
    with unset_fake_temporarily(), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        weight, x = torch.randn(width), torch.randn(3, width)
        probe = kind.__new__(kind)
        nn.Module.__init__(probe)
        probe.weight = nn.Parameter(weight)
        vars(probe).update(variance_epsilon=epsilon, eps=epsilon)
        try:
            theirs = kind.forward(probe, x)
        except (AttributeError, TypeError, RuntimeError):
            return None
        for added in (0.0, 1.0):
            if torch.allclose(theirs, F.rms_norm(x, (width,), weight + added, epsilon), rtol=1e-5, atol=1e-6):
                return added
    return None


def _norm(module: nn.Module, own: Callable[[Tensor], Tensor], added: float, x: Tensor) -> Tensor:
    weight, epsilon = module.weight, _epsilon(module)
    assert isinstance(weight, Tensor)
    if weight.requires_grad:
        return own(x)
    if x.is_cuda and not added and weight.dtype == x.dtype:
        return F.rms_norm(x, (x.shape[-1],), weight, epsilon)  # one kernel forward and one backward
    y: Tensor = _Norm.apply(x, weight, added, epsilon)  # type: ignore[no-untyped-call]
    return y


class _Norm(torch.autograd.Function):
    """``x`` (…, D) and ``weight`` (D,) → (…, D), some rows after the others, in float32 or more and rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, added: float, epsilon: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        ctx.wide, ctx.added = wide, added
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        roots = torch.empty((*x.shape[:-1], 1), dtype=wide, device=x.device)  # r
        if not isinstance(x, FakeTensor):
            weights = weight.to(wide) + added
            for part, root, out in zip(_pieces(x), _pieces(roots, x.shape[-1]), _pieces(y), strict=True):
                values = part.to(wide)
                squares = torch.linalg.vector_norm(values, dim=1, keepdim=True).square_()
                torch.rsqrt(squares.div_(x.shape[-1]).add_(epsilon), out=root)
                if x.dtype == wide:
                    torch.mul(values, root, out=out).mul_(weights)
                else:
                    out.copy_(values.mul_(root).mul_(weights))
        ctx.save_for_backward(x, weight, roots)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy,) = grads
        x, weight, roots = ctx.saved_tensors
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        if not isinstance(x, FakeTensor):
            weights = weight.to(ctx.wide) + ctx.added
            pieces = zip(_pieces(x), _pieces(dy), _pieces(roots, x.shape[-1]), _pieces(dx), strict=True)
            for part, slope, root, out in pieces:
                values, slopes = _product(part, root, ctx.wide), _product(slope, weights, ctx.wide)  # x̂, w dy
                along = (slopes * values).sum(1, keepdim=True).div_(-x.shape[-1])
                if x.dtype == ctx.wide:
                    torch.mul(slopes.addcmul_(values, along), root, out=out)
                else:
                    out.copy_(slopes.addcmul_(values, along).mul_(root))
        return dx, None, None, None


def _product(part: Tensor, factor: Tensor, wide: torch.dtype) -> Tensor:
    return part * factor if part.dtype == wide else part.to(wide).mul_(factor)


def _pieces(tensor: Tensor, width: int | None = None) -> tuple[Tensor, ...]:
    """``tensor`` (…, D) as rows, so many at once as are not too much of ``width`` numbers, or of D."""
    rows = tensor.reshape(-1, tensor.shape[-1])
    numbers = _AT_ONCE.get(tensor.device.type, _AT_ONCE["cpu"])
    pieces: tuple[Tensor, ...] = rows.split(max(1, numbers // (width or rows.shape[1])))
    return pieces
