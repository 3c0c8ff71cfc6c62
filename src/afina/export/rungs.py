"""The steps from a base to the files of its tuned model, as they are kept, shown and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from afina.core.translation import _
from afina.core.units import Displayed, format_bytes, format_duration, format_share, grouped
from afina.measure.intervals import Interval, share_range
from afina.measure.metrics import metric_of

WITH_ADAPTER = " + adapter"  # behind the type of the base that an adapter's own file is put beside

WhyNot = Literal["", "metric", "few", "time"]


@dataclass(frozen=True)
class Marks:
    """What the marks of rungs are: a ``metric`` of the comparison, of the answers to so many ``questions``.

    Without a metric there are none, and ``why_not`` says why, where the export is not of before there were any: the recipe names
    no metric of answers, fewer than two questions can be answered, or answering them would take too long (``seconds``).
    ``merged_needs``: bytes of memory that the merged model would need to answer, where they are not there.
    """

    metric: str = ""
    questions: int = 0
    why_not: WhyNot = ""
    seconds: float = 0.0
    merged_needs: int = 0

    def words(self) -> list[str]:
        """What stands below the ladder about them."""
        reasons = {
            "metric": _("compare.metrics names no measure of them"),
            "few": _("fewer than two held-out questions leave room for one"),
            "time": _("at this speed they would take {time}").format(time=format_duration(self.seconds)),
        }
        if self.why_not:
            return [_("Answers are not measured: {reason}.").format(reason=reasons[self.why_not])]
        if not self.metric:
            return []
        metric = metric_of(self.metric)
        told = [
            _(
                "{metric}: {explanation}; of {count} held-out questions, as the comparison would measure it at the time of the "
                "export, with its 95 % interval. Of a file, the base in the same type comes first. It decides nothing: which "
                "file is deployed follows from the gain kept, which rests on the loss and shows differences that so few "
                "answers cannot."
            ).format(metric=metric.title, count=self.questions, explanation=metric.explanation)
        ]
        if self.merged_needs:
            text = _("The merged model did not answer: that needs {needed} of memory.")
            told.append(text.format(needed=format_bytes(self.merged_needs)))
        return told


class Cell(NamedTuple):
    """A number as text, and its interval where that is told."""

    value: str
    interval: str = ""

    def __str__(self) -> str:
        return f"{self.value} ({self.interval})" if self.interval else self.value


@dataclass(frozen=True)
class Rung:
    """One step from the base to a file.

    ``loss`` in nats a token at the asked places; ``base_loss`` of the base rounded in the same way. ``divergence`` (mean and 99th
    percentile, nats) and ``agreement`` (share of equal first choices) are against the merged model. ``kept``: of the gain.
    ``mark``: of its answers, see ``Marks``; ``base_mark``: of those of the base rounded in the same way.
    """

    step: str
    loss: float
    base_loss: float | None = None
    divergence: float | None = None
    divergence_99: float | None = None
    agreement: float | None = None
    kept: Interval | None = None
    size_bytes: int | None = None
    tokens_per_second: float | None = None
    mark: Interval | None = None
    base_mark: Interval | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rung:
        """From what ``asdict`` made of one."""
        intervals = {name: Interval(**record[name]) for name in ("kept", "mark", "base_mark") if record.get(name)}
        return cls(**{**record, **intervals})

    def cells(self) -> list[Cell]:
        """Its numbers as text, in the order of ``heads``."""

        def cell(value: float | None, form: Callable[[float], str]) -> Cell:
            return Cell("" if value is None else form(value))

        def small(value: float) -> str:
            return f"{Displayed(value):.2g}"

        return [
            Cell(f"{Displayed(self.loss):.3f}"),
            cell(self.base_loss, lambda loss: f"{Displayed(loss):.3f}"),
            cell(self.divergence, small),
            cell(self.divergence_99, small),
            cell(self.agreement, format_share),
            cell(None if self.kept is None else self.kept.value, format_share),
            self._mark_cell(),
            Cell("" if self.size_bytes is None else format_bytes(self.size_bytes)),
            cell(self.tokens_per_second, grouped),
        ]

    def _mark_cell(self) -> Cell:
        """``0 % → 97 %``, the base's first, and ``83–99 %``."""
        if self.mark is None:
            return Cell("")
        before = "" if self.base_mark is None else f"{format_share(self.base_mark.value)} → "
        return Cell(before + format_share(self.mark.value), share_range(self.mark))

    @property
    def title(self) -> str:
        """A step's name for the user; a file's type is its own."""
        titles = {
            "base": _("base"),
            "merged": _("tuned, merged"),
            "merged into 16 bits": _("merged into 16 bits instead"),
            "merged into nf4": _("merged into NF4 instead"),
            "adapter on nf4": _("adapter on NF4"),
            "adapter on int8": _("adapter on int8"),
        }
        if self.step.endswith(WITH_ADAPTER):
            return _("{kind} base, adapter file").format(kind=self.step.removesuffix(WITH_ADAPTER))
        return titles.get(self.step, self.step)


def heads(marks: Marks) -> list[str]:
    """What each number of a rung is."""
    return [
        _("held-out loss"),
        _("base likewise"),
        _("divergence"),
        _("99 % below"),
        _("same choice"),
        _("gain kept"),
        metric_of(marks.metric).title if marks.metric else _("answers"),
        _("size"),
        _("tokens/s"),
    ]


def records(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    return [asdict(rung) for rung in rungs]


def aligned(rungs: Sequence[Rung], marks: Marks) -> list[str]:
    """Lines of a table for the terminal."""
    rows = [["", *heads(marks)], *([rung.title, *map(str, rung.cells())] for rung in rungs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(widths[0]) if not place else cell.rjust(widths[place]) for place, cell in enumerate(row))
        for row in rows
    ]
