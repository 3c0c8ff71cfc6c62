"""Preparing examples against TRL's way, on the same rows and the same tokenizer, in one run: rows a second and memory.

    python bench/prepare.py                                 writes bench/results/prepare.json
    python bench/prepare.py --rows 1000000 --only afina     the large run; writes bench/results/prepare-1000000.json

Each contender works in a process of its own. Ours is `afina prepare` as a user starts it, once with all checks off that can be
switched off and once with all of them on; its seconds count from the start of the process: imports, split, report page and all.
TRL's are its reading, chat template, tokens, assistant masks and labels without its imports (sides/trl_prepare.py), as it comes:
in one process; and, for comparison, with a process for each core. ``afina_rows_s`` is the rate with the checks off. Ours uses all
cores by itself. Memory is that of all processes of a contender together.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import transformers
import yaml

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.core.files import write_json  # noqa: E402
from afina.core.hardware import memory, processor  # noqa: E402
from afina.core.run import versions  # noqa: E402
from afina.data.clean.checks import checks  # noqa: E402
from bench.sides.watch import MemoryWatch  # noqa: E402

TOKENIZER = BENCH.parents[1] / "shared" / "data" / "tokenizers" / "qwen2.5"
ROWS = 100_000
LARGE = 500_000  # from here on the results have a file of their own
CORES = processor().cores
GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """One contender: rows a second of its own clock, its memory at most, and what it says of its work.

    ``peak_gib`` is of all its processes together: the sum of their proportional shares (PSS: what several share counts once),
    looked at every quarter of a second, or the largest one's own peak where that is more.
    ``cpu_seconds`` count everything from start to end, whatever else the machine does; ``load`` is what it did before.
    """

    rows_s: float
    seconds: float
    cpu_seconds: float
    peak_gib: float
    load: float
    found: dict[str, Any] = field(default_factory=dict)


def make_base(folder: Path) -> Path:
    """A base of Qwen2's family: the real tokenizer, its whole vocabulary, and weights of a few MB."""
    if not TOKENIZER.is_dir():
        sys.exit(f"error: there is no tokenizer in {TOKENIZER}\nwhat to do: put the files of Qwen2.5's tokenizer there")
    shutil.copytree(TOKENIZER, folder, ignore=shutil.ignore_patterns("CHECK.json", "vectors.json"))
    config = transformers.Qwen2Config(
        vocab_size=151_936,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=151_645,
    )
    torch.manual_seed(0)
    transformers.logging.disable_progress_bar()
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    return folder


def measure_child(command: list[str], folder: Path, count: int) -> Measured:
    """What the command needs for ``count`` rows, and the JSON that it prints. Ends the bench with its words where it fails."""
    output, errors = folder / "output.txt", folder / "errors.txt"
    load = os.getloadavg()[0]
    start = time.perf_counter()
    with output.open("wb") as out, errors.open("wb") as err:
        child = subprocess.Popen([sys.executable, *command], stdout=out, stderr=err, cwd=BENCH.parent)
        with MemoryWatch(child.pid) as watch:
            _pid, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        words = "\n".join(errors.read_text(errors="replace").splitlines()[-20:])
        sys.exit(f"error: ended with {child.returncode}: {' '.join(command)}\n{words}")
    text = output.read_text(encoding="utf-8")
    return Measured(
        rows_s=round(count / seconds, 1),
        seconds=round(seconds, 2),
        cpu_seconds=round(usage.ru_utime + usage.ru_stime, 2),
        peak_gib=round(max(usage.ru_maxrss * 1024, watch.peak_bytes) / GIB, 3),
        load=round(load, 2),
        found=json.loads(text[text.index("{") :]),
    )


def measure_trl(rows: Path, count: int, base: Path, folder: Path, processes: int = 1) -> Measured:
    command = [str(BENCH / "sides" / "trl_prepare.py"), str(rows), str(base), *([str(processes)] if processes > 1 else [])]
    whole = measure_child(command, folder, count)
    seconds = whole.found["seconds"]
    return replace(whole, seconds=seconds, rows_s=round(count / seconds, 1))


def measure_afina(rows: Path, count: int, base: Path, folder: Path, *, checked: bool) -> Measured:
    """A first run, one over unchanged rows, and for fewer than LARGE rows one with a row added; measured is the first."""
    name = "checked" if checked else "unchecked"
    settings = {"checks": {} if checked else {check.id: "off" for check in checks().values() if "off" in check.actions}}
    recipe = {"name": name, "base": str(base), "data": {"examples": [str(rows)], "max_broken": 1.0, **settings}}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    command = ["-m", "afina.cli.main", "prepare", str(path), "--runs", str(folder / "runs"), "--json"]
    first = measure_child(command, folder, count)
    found = first.found
    stored = sum(file.stat().st_size for file in (folder / "runs" / name).rglob("*") if file.is_file())
    kept = sum(found["conversations"].values())
    told = {
        "conversations": kept,
        "tokens_per_row": round(sum(found["tokens"].values()) / max(1, kept), 1),
        "trained_per_row": round(sum(found["trained_tokens"].values()) / max(1, kept), 1),
        "dropped": found["dropped"],
        "stored_gib": round(stored / GIB, 3),
        "seconds_again_unchanged": measure_child(command, folder, count).seconds,
    }
    if count < LARGE:
        told |= with_a_row_added(rows, lambda: measure_child(command, folder, count + 1))
    shutil.rmtree(folder / "runs")
    return replace(first, found=told)


def with_a_row_added(rows: Path, run: Callable[[], Measured]) -> dict[str, Any]:
    """Seconds and rows worked on where one row was added; the file is afterwards as it was."""
    length = rows.stat().st_size
    turns = [{"role": "user", "content": "Is this row new?"}, {"role": "assistant", "content": "It is, and the only one."}]
    with rows.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"messages": turns}) + "\n")
    added = run()
    os.truncate(rows, length)
    return {"seconds_again_with_one_row_added": added.seconds, "rows_worked_on_with_one_row_added": added.found["worked"]}


def summary(count: int, found: dict[str, Measured]) -> dict[str, Any]:
    """The bench in a line; None for what was not measured."""
    off, on, trl = found.get("afina, checks off"), found.get("afina, checks on"), found.get("TRL")

    def ratio(ours: Measured | None) -> float | None:
        return round(ours.rows_s / trl.rows_s, 2) if ours and trl else None

    return {
        "rows": count,
        "afina_rows_s": off.rows_s if off else None,
        "trl_rows_s": trl.rows_s if trl else None,
        "ratio_checks_off": ratio(off),
        "ratio_checks_on": ratio(on),
        "afina_peak_gib": max(ours.peak_gib for ours in (off, on) if ours) if off or on else None,
        "trl_peak_gib": trl.peak_gib if trl else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--only", choices=("afina", "trl"))
    parser.add_argument(
        "--folder", type=Path, help="where the rows are made (about 3 GB for a million); the default is the temporary folder"
    )
    parser.add_argument("--json", action="store_true", help="print nothing but the last line")
    options = parser.parse_args()

    def tell(text: str) -> None:
        if not options.json:
            print(text, flush=True)

    found: dict[str, Measured] = {}
    with tempfile.TemporaryDirectory(prefix="afina-bench-", dir=options.folder) as name:
        folder = Path(name)
        base, rows = make_base(folder / "base"), folder / "rows.jsonl"
        subprocess.run(
            [sys.executable, BENCH / "conversations.py", str(options.rows), rows], check=True, stdout=subprocess.DEVNULL
        )
        size = rows.stat().st_size
        tell(f"{options.rows:,} rows, {size / GIB:.2f} GiB")
        runs: dict[str, Callable[[], Measured]] = {
            "afina, checks off": lambda: measure_afina(rows, options.rows, base, folder, checked=False),
            "TRL": lambda: measure_trl(rows, options.rows, base, folder),
            "afina, checks on": lambda: measure_afina(rows, options.rows, base, folder, checked=True),
            f"TRL, {CORES} processes": lambda: measure_trl(rows, options.rows, base, folder, processes=CORES),
        }
        for contender, run in runs.items():
            if options.only is None or options.only == contender.partition(",")[0].lower():
                found[contender] = run()
                tell(f"{contender:>20}: {found[contender].rows_s:8,.0f} rows/s, at most {found[contender].peak_gib:.2f} GiB")
    there = memory()
    line = summary(options.rows, found)
    result = {
        "what": "JSONL of conversations to token rows with a mask, qwen2.5's tokenizer; see the docstring of bench/prepare.py",
        "date": time.strftime("%Y-%m-%d"),
        "hardware": {
            "processor": processor().name,
            "cores": CORES,
            "memory_gib": round(there.total_bytes / GIB, 1) if there else None,
        },
        "versions": versions() | {package: version(package) for package in ("trl", "datasets", "pyarrow")},
        "bytes": size,
        "contenders": {contender: asdict(measured) for contender, measured in found.items()},
        **line,
    }
    suffix = f"-{options.rows}" if options.rows >= LARGE else ""
    if options.rows >= ROWS:  # smaller runs are for looking
        write_json(BENCH / "results" / f"prepare{suffix}.json", result)
    else:
        tell(json.dumps(result["contenders"], indent=2))
    print(json.dumps(line))


if __name__ == "__main__":
    main()
