from __future__ import annotations

from pathlib import Path

import pytest

from afina.core import hardware
from afina.core.hardware import Gpu, Memory
from afina.core.units import GIB, KIB, MIB

MEMINFO = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\nMemAvailable:    9000000 kB\nHugePages_Total:       0\n"
VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            500000.
Pages inactive:                           20000.
Pages speculative:                         3000.
Pages wired down:                        100000.
Pages purgeable:                            400.
"Translation faults":                 123456789.
"""


def test_memory_available_is_what_linux_calls_available_and_not_what_is_free() -> None:
    assert hardware._parse_meminfo(MEMINFO) == Memory(16_000_000 * KIB, 9_000_000 * KIB)


def test_memory_without_a_total_is_unknown() -> None:
    assert hardware._parse_meminfo("nothing of the kind") is None


def test_a_container_limit_below_the_machine_counts() -> None:
    machine = Memory(16 * GIB, 9 * GIB)
    assert hardware._within(machine, 4 * GIB, 1 * GIB) == Memory(4 * GIB, 3 * GIB)
    assert hardware._within(machine, 4 * GIB, 5 * GIB) == Memory(4 * GIB, 0)
    assert hardware._within(machine, 64 * GIB, 1 * GIB) == machine
    assert hardware._within(machine, None, None) == machine


def test_the_word_max_in_a_container_is_no_limit(tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("max\n")
    assert hardware._first_number(tmp_path / "absent", limit) is None
    limit.write_text("4294967296\n")
    assert hardware._first_number(tmp_path / "absent", limit) == 4 * GIB


def test_memory_on_macos_counts_pages_that_can_be_had_without_swapping() -> None:
    assert hardware._parse_vm_stat("17179869184\n", VM_STAT) == Memory(16 * GIB, 33_400 * 16384)
    assert hardware._parse_vm_stat("", "") is None


def test_gpus_are_read_from_the_lines_of_nvidia_smi() -> None:
    text = "NVIDIA H200, 143771, 143000, 570.86.15\nNVIDIA GB10, [N/A], [N/A], 580.1\n"
    assert hardware._parse_gpus(text) == [
        Gpu("NVIDIA H200", 143_771 * MIB, 143_000 * MIB, "570.86.15"),
        Gpu("NVIDIA GB10", 0, 0, "580.1"),
    ]
    assert hardware._parse_gpus("") == []


def test_a_missing_or_failing_program_says_nothing() -> None:
    assert hardware._ask("no-such-program-in-the-world") == ""
    assert hardware._ask("false") == ""


def test_a_program_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_ASK_TIMEOUT_S", 0.1)
    assert hardware._ask("sleep", "5") == ""


def test_this_machine_has_memory_cores_and_a_disk(tmp_path: Path) -> None:
    found = hardware.memory()
    assert found is not None
    assert 0 <= found.available_bytes <= found.total_bytes
    assert hardware.processor().cores >= 1
    assert hardware.free_disk(tmp_path / "not" / "there" / "yet") > 0
