"""The steps from a base to the files of its tuned model, as they are kept, shown and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from afina.core.translation import _
from afina.core.units import format_bytes, format_share
from afina.measure.intervals import Interval

WITH_ADAPTER = " + adapter"  # behind the type of the base that an adapter's own file is put beside


@dataclass(frozen=True)
class Rung:
    """One step from the base to a file.

    ``loss`` in nats a token at the asked places; ``base_loss`` of the base rounded in the same way. ``divergence`` (mean and 99th
    percentile, nats) and ``agreement`` (share of equal first choices) are against the merged model. ``kept``: of the gain.
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

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rung:
        """From what ``asdict`` made of one."""
        return cls(**{**record, "kept": record["kept"] and Interval(**record["kept"])})

    def cells(self) -> list[str]:
        """Its numbers as text, in the order of ``heads``."""

        def cell(value: float | None, form: Callable[[float], str]) -> str:
            return "" if value is None else form(value)

        return [
            f"{self.loss:.3f}",
            cell(self.base_loss, "{:.3f}".format),
            cell(self.divergence, "{:.2g}".format),
            cell(self.divergence_99, "{:.2g}".format),
            cell(self.agreement, format_share),
            cell(None if self.kept is None else self.kept.value, format_share),
            "" if self.size_bytes is None else format_bytes(self.size_bytes),
            cell(self.tokens_per_second, "{:,.0f}".format),
        ]

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


def heads() -> list[str]:
    """What each number of a rung is."""
    return [
        _("held-out loss"),
        _("base likewise"),
        _("divergence"),
        _("99 % below"),
        _("same choice"),
        _("gain kept"),
        _("size"),
        _("tokens/s"),
    ]


def records(rungs: Sequence[Rung]) -> list[dict[str, Any]]:
    return [asdict(rung) for rung in rungs]


def aligned(rungs: Sequence[Rung]) -> list[str]:
    """Lines of a table for the terminal."""
    rows = [["", *heads()], *([rung.title, *rung.cells()] for rung in rungs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(widths[0]) if not place else cell.rjust(widths[place]) for place, cell in enumerate(row))
        for row in rows
    ]
