"""The demo over several seeds: who is right on which kind of question, what of its claims is shown, and the time of each stage.

    python bench/demo.py                          five seeds in both languages; writes bench/results/demo.json
    python bench/demo.py --lang es --seeds 1 2    prints one line of JSON and writes nothing

A seed decides the order of the examples and the adapter's start. Each demo is a process of its own, below ``.cache/bench/demo``,
where a finished one is not done again: what it took is kept beside it. Its seconds tell the demo's time only where others used
next to nothing of the machine meanwhile; where they did, its seconds of computing tell more. The questions are the same for all
seeds: the interval over the seeds is of Student's t on their shares and tells how far another training may be from these; how far
other questions may be, the demo itself tells.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from scipy import stats

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH.parent)]  # started as a file, Python looks beside it and not where `bench` is

from afina.core.files import read_json, write_json  # noqa: E402
from afina.core.run import versions  # noqa: E402
from afina.measure.intervals import Interval  # noqa: E402
from afina.stages.demo import BOTH, KINDS, ByKind, claims  # noqa: E402
from bench.sides.contest import busy_seconds  # noqa: E402

TOOK = "took.json"
RUNS = BENCH.parent / ".cache" / "bench" / "demo"


@dataclass(frozen=True)
class Took:
    """Seconds of the clock, seconds of computing, and the share of the machine that others used meanwhile (Linux)."""

    seconds: float
    cpu_seconds: float
    foreign: float | None


def demo(lang: str, seed: int) -> tuple[dict[str, Any], Took]:
    """What ``afina demo --json`` says of one seed, and what it took when it was done."""
    runs = RUNS / f"{lang}-{seed}"
    command = [sys.executable, "-m", "afina.cli.main", "demo", "--lang", lang, "--json", "--set", f"train.seed={seed}"]
    environment = {**os.environ, "PYTHONPATH": str(BENCH.parent / "src"), "OLLAMA_HOST": "127.0.0.1:9", "AFINA_LANG": "en"}
    begun = (time.perf_counter(), _computed(), _busy())
    done = subprocess.run([*command, "--runs", str(runs)], stdout=subprocess.PIPE, check=True, env=environment, text=True)
    seconds, computed, busy = (after - before for after, before in zip((time.perf_counter(), _computed(), _busy()), begun))
    if not (runs / TOOK).is_file():
        foreign = max(0.0, busy - computed) / seconds / (os.cpu_count() or 1)
        write_json(runs / TOOK, asdict(Took(round(seconds, 1), round(computed, 1), None if busy == 0 else round(foreign, 3))))
    found: dict[str, Any] = json.loads(done.stdout)
    return found, Took(**read_json(runs / TOOK))


def _computed() -> float:
    """Seconds of computing of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _busy() -> float:
    return busy_seconds() if Path("/proc/stat").is_file() else 0.0


def over_seeds(shares: Sequence[float], least: float = 0.0) -> list[float]:
    """The mean of the seeds' shares with its 95 % interval, cut off at ``least`` and 1."""
    middle = mean(shares)
    if len(shares) < 2:
        return [middle, math.nan, math.nan]
    reach = float(stats.t.ppf(0.975, len(shares) - 1)) * stdev(shares) / math.sqrt(len(shares))
    return [round(value, 3) for value in (middle, max(least, middle - reach), min(1.0, middle + reach))]


def by_kind(found: dict[str, Any]) -> ByKind:
    """What one seed's demo says of its questions."""
    of = found["by_kind"]
    shares, leads = (
        {kind: {name: Interval(**one) for name, one in of[part][kind].items()} for kind in KINDS} for part in ("shares", "leads")
    )
    return ByKind(shares, of["counts"], leads)


def table(demos: Sequence[tuple[dict[str, Any], Took]]) -> dict[str, Any]:
    """Right answers by kind and contender over the seeds, how far tuned + RAG is ahead of the others over all, how many seeds
    show each claim, medians of the stages' seconds, and what each demo took.
    """
    runs, took = [by_kind(found) for found, _took in demos], [took for _found, took in demos]
    contenders = list(runs[0].shares[KINDS[0]])
    verdicts = [[claim.holds for claim in claims(run)] for run in runs]
    stages = list(demos[0][0]["seconds"])
    return {
        "questions": runs[0].counts,
        "right": {
            kind: {name: over_seeds([run.shares[kind][name].value for run in runs]) for name in contenders} for kind in KINDS
        },
        "over all": {name: over_seeds([run.overall(name) for run in runs]) for name in contenders},
        "lead of tuned+rag over all": {
            name: over_seeds([run.lead(name).value for run in runs], -1.0) for name in contenders if name != BOTH
        },
        "seeds that show it": dict(
            zip((*KINDS, "all together"), (sum(column) for column in zip(*verdicts, strict=True)), strict=True)
        ),
        "seconds": {stage: round(median(found["seconds"][stage] for found, _took in demos), 1) for stage in stages},
        "seconds in all": [one.seconds for one in took],
        "seconds of computing": [one.cpu_seconds for one in took],
        "share of the machine that others used": [one.foreign for one in took],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lang", choices=("es", "en"), help="this language only; writes nothing")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    chosen = parser.parse_args()
    languages = [chosen.lang] if chosen.lang else ["es", "en"]
    found = {lang: table([demo(lang, seed) for seed in chosen.seeds]) for lang in languages}
    record = {
        "seeds": chosen.seeds,
        **found,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    if not chosen.lang:
        write_json(BENCH / "results" / "demo.json", record)
    print(json.dumps(record, ensure_ascii=False))


if __name__ == "__main__":
    main()
