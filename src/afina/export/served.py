"""What was found of the model inside Ollama, as it is kept, shown and read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from afina.core.translation import _
from afina.core.units import Displayed, format_share
from afina.export.rungs import Cell
from afina.measure.intervals import Interval, share_range
from afina.measure.metrics import metric_of


@dataclass(frozen=True)
class Inside:
    """``places`` that were asked; ``agreement``: the share with the same likeliest token; ``divergence`` in nats a place, mean.

    ``loss`` and ``loss_here``: of the tokens of ``told`` places, in nats a token; None where there is no such place.
    """

    places: int
    agreement: float
    divergence: float
    told: int
    loss: float | None
    loss_here: float | None


@dataclass(frozen=True)
class Served:
    """``near``: how near it is to the file here; None where Ollama does not tell it. ``mark``: of its answers to so many
    ``questions``, by ``metric``; None where nobody was asked.
    """

    near: Inside | None
    metric: str = ""
    questions: int = 0
    mark: Interval | None = None

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Served:
        """From what ``asdict`` made of one."""
        near, mark = record["near"], record["mark"]
        return cls(Inside(**near) if near else None, record["metric"], record["questions"], Interval(**mark) if mark else None)

    def words(self) -> list[str]:
        """What was found, for the user."""
        told = [] if self.near is not None else [_("within answers this Ollama tells no likelihoods")]
        if self.near is not None:
            near = self.near
            text = _("the same first choice as the file here at {share} of {count} places; divergence {divergence:.2g}")
            told.append(text.format(share=format_share(near.agreement), count=near.places, divergence=Displayed(near.divergence)))
            if near.loss is not None and near.loss_here is not None:
                text = _("held-out loss {there:.3f} there and {here:.3f} here, at the {count} places that Ollama tells")
                told.append(text.format(there=Displayed(near.loss), here=Displayed(near.loss_here), count=near.told))
        if self.mark is not None:
            text = _("{metric} of its answers to {count} questions: {mark}")
            cell = Cell(format_share(self.mark.value), share_range(self.mark))
            told.append(text.format(metric=metric_of(self.metric).title, count=self.questions, mark=cell))
        return told
