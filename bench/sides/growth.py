"""How afina's step grows over tokens, layers and ranks: measured points, and a plot of them."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from afina.core.files import write_json
from afina.core.hardware import processor
from afina.core.run import versions
from bench.sides.contest import Contender
from bench.sides.work import CLIP, RANK, RATE, WORKLOADS, make_work

SIDE = Path(__file__).parent / "afina_train.py"
STEPS = 2  # after the first
SETTINGS: dict[str, dict[str, Any]] = {
    "afina": {"micro_tokens": 8192},
    "afina, leanest": {"micro_tokens": 16, "checkpointing": "full"},  # a row alone
}


@dataclass(frozen=True)
class Point:
    """A step of one chat of ``tokens``."""

    tokens: int = 1024
    layers: int = 30
    rank: int = RANK


AXES: dict[str, tuple[int, ...]] = {
    "tokens": (256, 512, 1024, 2048, 4096),
    "layers": (5, 10, 20, 30),
    "rank": (4, 16, 64, 256),
}


def points() -> Iterator[tuple[str, Point]]:
    for axis, values in AXES.items():
        for value in values:
            yield axis, replace(Point(), **{axis: value})


def grow(results: Path, cache: Path, tell: Callable[[str], None]) -> None:
    """Measures all points; writes growth.json and growth.svg into ``results``."""
    measured: dict[Point, dict[str, dict[str, Any]]] = {}
    rows = []
    for axis, point in points():
        if point not in measured:
            measured[point] = measure(point, cache)
        rows.append({"axis": axis, "value": getattr(point, axis), **measured[point]})
        tell(json.dumps(rows[-1]))
    write_json(
        results / "growth.json",
        {
            "what": "a step of one chat on SmolLM2-135M's shape: 1,024 tokens, 30 layers, rank 16, but for the axis' value",
            "date": time.strftime("%Y-%m-%d"),
            "hardware": {"processor": processor().name, "cores": processor().cores},
            "versions": versions(),
            "points": rows,
        },
    )
    draw(rows, results / "growth.svg")
    tell(f"see {results / 'growth.svg'}")


def measure(point: Point, cache: Path) -> dict[str, dict[str, Any]]:
    """For each of SETTINGS: seconds (mean), GiB at most, the share that others used of the machine, what the steps came to."""
    config = {**WORKLOADS["a"].config, "num_hidden_layers": point.layers, "max_position_embeddings": 8192}
    found = {}
    with tempfile.TemporaryDirectory(prefix="afina-bench-") as place:
        folder = Path(place)
        make_work(folder, replace(WORKLOADS["a"], config=config, tokens=point.tokens), point.rank)
        for name, train in SETTINGS.items():
            settings = {
                "work": place,
                "quantize": "none",
                "longest": 2 * point.tokens,
                "rate": RATE,
                "clip": CLIP,
                "rank": point.rank,
                "rows_per_step": 1,
                "train": train,
            }
            surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            log = cache / "logs"
            log.mkdir(parents=True, exist_ok=True)
            contender = Contender([sys.executable, "-P", SIDE, json.dumps(settings)], surroundings, log / "growth.txt")
            steps = [contender.take_turn() for _step in range(STEPS + 1)][1:]
            contender.end()
            found[name] = {
                "seconds": round(statistics.mean(step.seconds for step in steps), 4),
                "peak_gib": round(steps[-1].peak_bytes / 2**30, 3),
                "foreign": round(statistics.mean(step.foreign for step in steps), 3),
                "losses": [round(step.loss, 4) for step in steps],
                "gradient_norm": round(steps[-1].gradient_norm, 4),
            }
    return found


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Seconds above, memory below, an axis a column; every measured point is a dot."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    places = figure.subplots(2, len(AXES), squeeze=False)
    for column, axis in enumerate(AXES):
        for row, (key, label) in enumerate({"seconds": "seconds a step", "peak_gib": "memory, GiB"}.items()):
            place = places[row][column]
            for name in SETTINGS:
                of_axis: list[Mapping[str, Any]] = [point for point in rows if point["axis"] == axis]
                place.plot([point["value"] for point in of_axis], [point[name][key] for point in of_axis], "o-", label=name)
            place.set(xlabel=axis, ylim=(0, None), **({"ylabel": label} if column == 0 else {}))
            place.grid(alpha=0.3)
    places[0][0].legend()
    figure.savefig(file, metadata={"Date": None})
