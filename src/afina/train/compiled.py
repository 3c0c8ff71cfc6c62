"""Whether a training's layers are compiled, and why.

``torch.compile`` joins the small operations between the matrix products of a layer. It needs a compiler on the machine (C++ for a
CPU, Triton for CUDA), which nobody has to install: without one, nothing is compiled.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch

from afina.core.errors import ResourceError
from afina.core.translation import _

WARM_UP_S = 60.0  # what the first step costs more, at most, where nothing is in the compiler's cache
GAIN = 0.04  # of the time of a step; see bench/results/levers-a.json
_RATE = 60e9  # FLOP/s that a core does of a training: a guess is enough here


@dataclass(frozen=True)
class Compiling:
    """The decision and its reason in words."""

    on: bool
    reason: str


def choose_compiling(
    setting: bool | Literal["auto"], device: torch.device, parameters: int, tokens: int, checkpointing: str, lanes: int = 1
) -> Compiling:
    """``auto``: on a CPU where a compiler is found and the run is long enough to win back the warm-up twice. The same on the same
    machine.

    ``parameters`` of the base; ``tokens`` of the whole run. Raises ResourceError where ``True`` cannot be done.
    """
    missing = _missing(device, checkpointing)
    if setting is True and missing is not None:
        raise ResourceError(_("train.compile is on, and {reason}").format(reason=missing), fix="--set train.compile=auto")
    if setting != "auto":
        return Compiling(setting, _("as the recipe says"))
    if device.type == "cuda":
        # with NF4 on an H200, see the profile in bench/results/train-8b-2048.json
        return Compiling(False, _("on a GPU no gain was measured"))
    if missing is not None:
        return Compiling(False, missing)
    if lanes > 1:
        return Compiling(False, _("micro-batches side by side are faster"))
    seconds = 6 * parameters * tokens / (_RATE * torch.get_num_threads())
    needed = 2 * WARM_UP_S / GAIN
    if seconds < needed:
        return Compiling(False, _("the run is too short to win back the warm-up"))
    return Compiling(True, _("a long run wins back the warm-up"))


def _missing(device: torch.device, checkpointing: str) -> str | None:
    """Why nothing can be compiled; None where it can."""
    if checkpointing != "none":
        return _("layers whose activations are computed again are not compiled")
    if device.type == "cuda":
        return None if find_spec("triton") is not None else _("there is no Triton here")
    compilers = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    return None if any(name and shutil.which(name) for name in compilers) else _("there is no C++ compiler here")
