"""What a finished run came to: base against tuned, files, times. Read from the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from afina.compare.comparison import load_comparison, title
from afina.core.run import STAGES, RunFolder
from afina.core.translation import _
from afina.core.units import format_bytes, format_duration, format_share
from afina.measure.intervals import Interval


@dataclass(frozen=True)
class MetricLine:
    """One metric: a value with its interval for each contender, and what may be said of the difference."""

    name: str
    title: str
    values: dict[str, Interval]
    verdict: str


@dataclass(frozen=True)
class Summary:
    """``files``: path → bytes; ``seconds``: stage → time of its work; ``deployed``: where the model answers."""

    name: str
    held_out: int
    answered: int
    metrics: tuple[MetricLine, ...]
    files: dict[str, int]
    seconds: dict[str, float]
    deployed: str
    question: str
    answer: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """Tables for the terminal: aligned, without colour."""
        contenders = list(self.metrics[0].values)
        head = [_("on {count} held-out examples").format(count=self.held_out), *(title(name) for name in contenders), ""]
        body = [
            [line.title, *(_words(line.name, line.values[name]) for name in contenders), line.verdict] for line in self.metrics
        ]
        files = [[path, format_bytes(size)] for path, size in self.files.items()]
        times = [f"{stage} {format_duration(seconds)}" for stage, seconds in self.seconds.items()]
        return "\n".join(
            [
                "",
                *_table([head, *body]),
                "",
                *_table(files),
                "",
                f"{_('time')}: {', '.join(times)}",
                f"{_('deployed')}: {self.deployed}",
                "",
                f"  > {self.question}",
                *(f"  {line}" for line in self.answer.splitlines()),
                "",
            ]
        )


def summary(run: RunFolder) -> Summary:
    """The run's summary. Raises RecipeError where a stage is not finished."""
    manifests = {stage: run.require(stage) for stage in STAGES}
    comparison = load_comparison(run.stage("compare"))
    verdicts = {difference.metric: difference.verdict for difference in comparison.differences}
    deployed = manifests["deploy"].result
    return Summary(
        name=run.name,
        held_out=comparison.held_out,
        answered=comparison.examples,
        metrics=tuple(
            MetricLine(
                name=metric.name,
                title=metric.title,
                values={name: comparison.interval(metric.name, name) for name in comparison.contenders},
                verdict=_(verdicts[metric.name]) if metric.name in verdicts else "",
            )
            for metric in comparison.metrics
        ),
        files={
            str(run.stage(stage) / path): size
            for stage in ("train", "export")
            for path, size in manifests[stage].outputs.items()
            if path.endswith((".gguf", ".safetensors"))
        },
        seconds={stage: manifest.seconds for stage, manifest in manifests.items()},
        deployed=f"{deployed['destination']} ({deployed['model']})",
        question=deployed["question"],
        answer=deployed["answer"],
    )


def _words(metric: str, interval: Interval) -> str:
    """``0.842 (0.79–0.90)`` for losses, ``97 % (90–99)`` for shares."""
    if metric == "loss":
        return f"{interval.value:.3f} ({interval.low:.2f}–{interval.high:.2f})"
    low, high = (format_share(end).removesuffix(" %") for end in (interval.low, interval.high))
    return f"{format_share(interval.value)} ({low}–{high})"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns aligned, two blanks apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
