"""The device that a plan is for: found here, or named by its card or its memory. What is not measured is marked so."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from afina.core import hardware
from afina.core.errors import RecipeError, ResourceError
from afina.core.translation import _
from afina.core.units import GIB, MIB
from afina.train.cards import CARDS, CPU_UTILISATION, CUDA_CONTEXT, DESKTOP, PLAIN, UTILISATION, Card, key_of

Kind = Literal["cpu", "cuda"]

COPY_BYTES_A_SECOND = 12e9  # modelled: PCIe 4.0 with 16 lanes, about half of its peak


@dataclass(frozen=True)
class Target:
    """``free_bytes`` is what the training may take, ``fixed`` what is taken of it beside tensors, by category."""

    name: str
    kind: Kind
    free_bytes: int
    fixed: Mapping[str, int]
    tflops: float
    multiprocessors: int  # of a GPU
    half: torch.dtype  # the 16-bit type that it computes in; float32 where it has none
    here: bool  # found on this machine, and not named


def named_gpu(text: str) -> Target:
    """The target that ``--gpu`` names: a card, or a size such as ``12GiB``, which is then a card with a screen.

    Raises RecipeError for a card that the table does not have and for a size without unit.
    """
    size = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    if size:
        unit = size[2].lower()
        if unit not in ("gib", "gb", "mib", "mb"):
            raise RecipeError(
                _("--gpu {text}: a size needs a unit").format(text=text), fix=_("write --gpu {number}GiB").format(number=size[1])
            )
        # card makers write GB and mean GiB
        count = round(float(size[1]) * (GIB if unit[0] == "g" else MIB))
        return _on_card(text, count, PLAIN)
    key = key_of(text)
    if key not in CARDS:
        close = difflib.get_close_matches(key, CARDS, n=1, cutoff=0.5)
        meant = _("; did you mean '{name}'?").format(name=close[0]) if close else ""
        raise RecipeError(
            _("--gpu {text}: there is no such card in the table").format(text=text) + meant,
            fix=_("name its memory instead, for example --gpu 12GiB; the table has: {names}").format(names=", ".join(CARDS)),
        )
    card = CARDS[key]
    return _on_card(key, round(card.gib * GIB), card)


def _on_card(name: str, total: int, card: Card) -> Target:
    half = torch.bfloat16 if card.capability >= (8, 0) else torch.float16
    free = total - (DESKTOP if card.desktop else 0)
    return Target(
        name, "cuda", free, {"cuda context": CUDA_CONTEXT}, card.tflops * UTILISATION, card.multiprocessors, half, here=False
    )


def found_target(device: torch.device, dtype: torch.dtype, measured: bool) -> Target:
    """This machine's device with the memory that is free now; its rate is ``measured``, or zero."""
    if device.type == "cuda":
        free, _total = torch.cuda.mem_get_info(device)
        # a product alone reaches about three quarters of the peak
        rate = matmul_tflops(device, dtype) * UTILISATION / 0.75 if measured else 0.0
        half = torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
        units = torch.cuda.get_device_properties(device).multi_processor_count
        context = 0 if torch.cuda.is_initialized() else CUDA_CONTEXT
        return Target(torch.cuda.get_device_name(device), "cuda", free, {"cuda context": context}, rate, units, half, here=True)
    memory = hardware.memory()
    if memory is None:
        raise ResourceError(_("this system does not tell how much memory is free"), fix=_("name a device: --gpu 12GiB"))
    rate = matmul_tflops(device, dtype) * CPU_UTILISATION if measured else 0.0
    resident = hardware.resident_bytes()
    free = memory.available_bytes + resident
    name = _("{count} CPU threads").format(count=torch.get_num_threads())
    return Target(name, "cpu", free, {"program": resident}, rate, 0, torch.float32, here=True)


def matmul_tflops(device: torch.device, dtype: torch.dtype, seconds: float = 1.5) -> float:
    """The best rate of a matrix product seen within ``seconds``, in TFLOP/s."""
    side = 4096 if device.type == "cuda" else 768
    a, b = (torch.randn(side, side, device=device).to(dtype) for _which in "ab")
    best, begin = 0.0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e12)
    return best
