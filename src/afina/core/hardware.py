"""What this machine has: memory, disk, processor, GPU. Standard library only; nothing here takes longer than a few seconds."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from afina.core.units import KIB, MIB

_ASK_TIMEOUT_S = 5.0
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Memory:
    """``total_bytes`` is what this process may use at most: a container's limit where it is below the machine's memory."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class Processor:
    """``cores`` is how many this process may use."""

    name: str
    cores: int


@dataclass(frozen=True)
class Gpu:
    name: str
    total_bytes: int
    free_bytes: int
    driver: str


def memory() -> Memory | None:
    """Memory for this process; None on a system that does not tell."""
    match platform.system():
        case "Linux":
            found = _parse_meminfo(Path("/proc/meminfo").read_text(encoding="ascii", errors="replace"))
            return _within(found, _container_limit(), _container_use())
        case "Darwin":
            return _parse_vm_stat(_ask("sysctl", "-n", "hw.memsize"), _ask("vm_stat"))
        case _:
            return _windows_memory()


def resident_bytes() -> int:
    """What of this process lies in memory now; 0 on a system that does not tell."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    size = _ask("ps", "-o", "rss=", "-p", str(os.getpid())).strip()
    return int(size) * KIB if size.isdigit() else 0


def free_disk(folder: Path) -> int:
    """Free bytes on the disk of ``folder``, which need not exist yet."""
    existing = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return shutil.disk_usage(existing).free


def processor() -> Processor:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Processor(_processor_name() or platform.machine(), cores)


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs that ``nvidia-smi`` sees; none where it is not installed or does not answer."""
    fields = "name,memory.total,memory.free,driver_version"
    return _parse_gpus(_ask("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"))


def _ask(*command: str) -> str:
    """What a system's own program prints; empty where it is missing, fails or takes too long."""
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _parse_meminfo(text: str) -> Memory | None:
    found = {name: int(size) * KIB for name, size in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}
    if "MemTotal" not in found:
        return None
    return Memory(found["MemTotal"], found.get("MemAvailable", found.get("MemFree", 0)))


def _within(machine: Memory | None, limit: int | None, used: int | None) -> Memory | None:
    """The machine's memory below a container's limit."""
    if machine is None or limit is None or limit >= machine.total_bytes:
        return machine
    return Memory(limit, max(0, min(machine.available_bytes, limit - (used or 0))))


def _container_limit() -> int | None:
    return _first_number(_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes")


def _container_use() -> int | None:
    return _first_number(_CGROUP / "memory.current", _CGROUP / "memory/memory.usage_in_bytes")


def _first_number(*paths: Path) -> int | None:
    """The number in the first of ``paths`` that is there; None for ``max``, which is no limit."""
    for path in paths:
        if path.is_file():
            text = path.read_text(encoding="ascii").strip()
            return int(text) if text.isdigit() else None
    return None


def _parse_vm_stat(total: str, text: str) -> Memory | None:
    """macOS: pages that are free, inactive, speculative or purgeable can be had without swapping."""
    size = re.search(r"page size of (\d+) bytes", text)
    if size is None or not total.strip().isdigit():
        return None
    pages = {name: int(count) for name, count in re.findall(r"^Pages ([\w ]+):\s+(\d+)\.", text, re.MULTILINE)}
    usable = sum(pages.get(name, 0) for name in ("free", "inactive", "speculative", "purgeable"))
    return Memory(int(total), usable * int(size[1]))


def _parse_gpus(text: str) -> list[Gpu]:
    """``NVIDIA H200, 143771, 143000, 570.1``: MiB. A row whose memory is not a number (``[N/A]``) counts as zero bytes."""
    found = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 4:
            name, total, free, driver = fields
            found.append(Gpu(name, _mebibytes(total), _mebibytes(free), driver))
    return found


def _mebibytes(text: str) -> int:
    return int(text) * MIB if text.isdigit() else 0


def _processor_name() -> str:
    match platform.system():
        case "Linux":
            text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
            found = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", text, re.MULTILINE)
            return found[1].strip() if found else ""
        case "Darwin":
            return _ask("sysctl", "-n", "machdep.cpu.brand_string").strip()
        case _:
            return platform.processor()


if sys.platform == "win32":  # pragma: no cover

    class _MemoryStatus(ctypes.Structure):
        """Windows' MEMORYSTATUSEX."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            ("total", ctypes.c_ulonglong),
            ("available", ctypes.c_ulonglong),
            ("page_total", ctypes.c_ulonglong),
            ("page_available", ctypes.c_ulonglong),
            ("virtual_total", ctypes.c_ulonglong),
            ("virtual_available", ctypes.c_ulonglong),
            ("virtual_extended", ctypes.c_ulonglong),
        )

    def _windows_memory() -> Memory | None:
        status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
        if not ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            return None
        return Memory(status.total, status.available)

else:

    def _windows_memory() -> Memory | None:
        return None
