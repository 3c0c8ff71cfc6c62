"""What a finished run came to: base against tuned, files, times. Read from the run's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from afina.compare.comparison import load_comparison, title
from afina.core.run import STAGES, RunFolder
from afina.core.translation import _
from afina.core.units import Displayed, format_bytes, format_duration, format_share, grouped
from afina.measure.intervals import Interval

_SIGNS = {"better": "▲", "worse": "▼", "too close to tell": "≈"}


@dataclass(frozen=True)
class MetricLine:
    """One metric: a value with its interval for each contender that has one, and what may be said of all but the first against
    the first.
    """

    name: str
    title: str
    values: dict[str, Interval]
    verdicts: dict[str, str]


@dataclass(frozen=True)
class Summary:
    """``prompt_tokens``: of each contender, the median.

    ``files``: path → bytes; ``seconds``: stage → time of its work; ``deployed``: where the model answers."""

    name: str
    held_out: int
    answered: int
    metrics: tuple[MetricLine, ...]
    prompt_tokens: dict[str, float]
    files: dict[str, int]
    seconds: dict[str, float]
    deployed: str
    question: str
    answer: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """Tables for the terminal: aligned, without colour."""
        files = [[path, format_bytes(size)] for path, size in self.files.items()]
        times = [f"{stage} {format_duration(seconds)}" for stage, seconds in self.seconds.items()]
        return "\n".join(
            [
                "",
                *self._comparison(),
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

    def _comparison(self) -> list[str]:
        """The table of the contenders. Of two the verdict is a word at the end, of more a sign behind each value."""
        contenders = list(self.prompt_tokens)
        of_two = len(contenders) == 2
        head = [_("on {count} held-out examples").format(count=self.held_out), *(title(name) for name in contenders), ""]
        tokens = [_("tokens a prompt"), *(grouped(self.prompt_tokens[name]) for name in contenders), ""]
        body = []
        for line in self.metrics:
            cells = [
                (_words(line.name, line.values[name]) if name in line.values else "–")
                + (f" {_SIGNS[line.verdicts[name]]}" if name in line.verdicts and not of_two else "")
                for name in contenders
            ]
            told = line.verdicts.get(contenders[1]) if of_two else None
            body.append([line.title, *cells, _(told) if told else ""])
        table = _table([head, *body, tokens])
        if len(contenders) <= 2:
            return table
        signs = ", ".join(f"{sign} {_(verdict)}" for verdict, sign in _SIGNS.items())
        return [*table, "  " + _("against {first}: {signs}").format(first=title(contenders[0]), signs=signs)]


def summary(run: RunFolder) -> Summary:
    """The run's summary. Raises RecipeError where a stage is not finished."""
    manifests = {stage: run.require(stage) for stage in STAGES}
    comparison = load_comparison(run.stage("compare"))
    verdicts: dict[str, dict[str, str]] = {metric.name: {} for metric in comparison.metrics}
    for difference in (one for one in comparison.differences if not one.kind):
        verdicts[difference.metric][difference.contender] = difference.verdict
    deployed = manifests["deploy"].result
    return Summary(
        name=run.name,
        held_out=comparison.held_out,
        answered=comparison.examples,
        metrics=tuple(
            MetricLine(
                name=metric.name,
                title=metric.title,
                values=comparison.intervals(metric.name),
                verdicts=verdicts[metric.name],
            )
            for metric in comparison.metrics
        ),
        prompt_tokens={medians.contender: medians.prompt_tokens for medians in comparison.typical},
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
        return f"{Displayed(interval.value):.3f} ({Displayed(interval.low):.2f}–{Displayed(interval.high):.2f})"
    low, high = (format_share(end).removesuffix(" %") for end in (interval.low, interval.high))
    return f"{format_share(interval.value)} ({low}–{high})"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows with their columns aligned, two blanks apart."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
