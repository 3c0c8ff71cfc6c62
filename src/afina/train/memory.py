"""Memory while training: what is held, whether the next step still has room, and a GPU that fails in the middle."""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from afina.core import hardware
from afina.core.errors import ResourceError
from afina.core.events import Events
from afina.core.translation import _
from afina.core.units import format_bytes
from afina.train.checkpoint import Checkpoints

_WATCH_SECONDS = 1.0  # between two looks: asking costs up to 10 ms
_SPARE = 1.1  # of what a step needs: an allocator rounds up
_CPU_MEMORY = "DefaultCPUAllocator: "

Room = Literal["enough", "little", "none"]


def peak_bytes(device: torch.device) -> int:
    """The most memory that the process held so far: on the GPU, else resident in RAM (0 where the system does not tell)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def held_bytes(device: torch.device) -> int:
    """The memory that the process holds now: on the GPU, else resident in RAM (0 where the system does not tell)."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return hardware.resident_bytes()


class MemoryWatch:
    """Compares, at most once a second, the memory that is free with what a step took on top of what is held now.

    The peak that it goes by is the process's: on a CPU loading the model counts too, so that the need is rather too large.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._next = 0.0
        self._free = self._needed = 0
        self._warned = False
        self._spills = device.type == "cuda" and spills()

    def is_full(self, events: Events, stage: str) -> bool:
        """Whether the next step would spill, so that the run must stop. Too little memory elsewhere is warned of, once."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _WATCH_SECONDS
        self._free, self._needed = self._free_and_needed()
        room = judge(self._free, self._needed, spills=self._spills)
        if room == "little" and not self._warned:
            events.warn(stage, self._sentence() + ". " + _("Close it; if the run is killed, the same command goes on"))
            self._warned = True
        return room == "none"

    def stopped(self, step: int) -> ResourceError:
        """The error of a run that stopped in time, with the checkpoint of ``step`` saved."""
        return ResourceError(
            _("{why}; stopped before the GPU goes on in RAM, the checkpoint of step {step} is kept").format(
                why=self._sentence(), step=step
            ),
            fix=_("close the other program; then the same command goes on"),
        )

    def _sentence(self) -> str:
        return _("a step needs {needed} more than is held now and {free} of memory are free: another program took some").format(
            needed=format_bytes(self._needed), free=format_bytes(self._free)
        )

    def _free_and_needed(self) -> tuple[int, int]:
        if self._device.type == "cuda":
            free = torch.cuda.mem_get_info(self._device)[0]
            needed = torch.cuda.max_memory_reserved(self._device) - torch.cuda.memory_reserved(self._device)
            return free, needed
        found = hardware.memory()
        free = found.available_bytes if found is not None else 2**62
        held = held_bytes(self._device)
        return free, max(0, peak_bytes(self._device) - held) if held else 0


def judge(free: int, needed: int, *, spills: bool) -> Room:
    """Whether ``needed`` bytes fit into ``free`` with a tenth to spare. Where memory spills, too little is as bad as none."""
    if free >= _SPARE * needed:
        return "enough"
    return "none" if spills else "little"


def spills() -> bool:
    """Whether a full GPU goes on in RAM, 10 to 100 times slower, and not with an error: Windows, and Linux within it."""
    return platform.system() == "Windows" or "microsoft" in platform.release().lower()


@contextmanager
def device_failures_told(checkpoints: Checkpoints) -> Iterator[None]:
    """Makes a ResourceError, with the last checkpoint, of memory that ran out and of a GPU that failed or went away."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        what, fix = _("the GPU's memory ran out"), _less_memory()
        reason = str(error)
    except torch.AcceleratorError as error:
        what, fix = _("the GPU failed or went away"), _("look with nvidia-smi or restart; then the same command goes on")
        reason = str(error)
    except RuntimeError as error:
        if _CPU_MEMORY not in str(error):
            raise
        what, fix = _("the memory ran out"), _less_memory()
        reason = str(error).partition(_CPU_MEMORY)[2]
    else:
        return
    last = checkpoints.last_step()
    kept = _("no checkpoint was made before") if last is None else _("the checkpoint of step {step} is kept").format(step=last)
    raise ResourceError(f"{what} ({reason.splitlines()[0]}); {kept}", fix=fix)


def _less_memory() -> str:
    return _("--set train.micro_tokens=512, then --set train.checkpointing=full, then --set adapter.quantize=nf4")
