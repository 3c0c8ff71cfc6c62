"""What the numbers of a training say about it, in sentences with what to do. Each threshold has its reason beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from afina.core.translation import _
from afina.core.units import Displayed, format_count, format_share

FIRST = 10  # steps whose mean loss stands for the beginning: fewer are mostly the noise of single batches
MEMORY = 0.9  # of a step in the smoothed loss: about the last ten steps count
RISES = 1.2  # single batches differ by some 15 %, their smoothed mean by some 5 %: a fifth more is four times that
FALLS = 0.99  # less than 1 % in half of the run is what another order of the rows would make as well
NO_EFFECT = 1e-4  # of the loss: rounding alone moves a mean loss by 1e-6 (float32) to 1e-4 (bfloat16)
PARTED = 0.5  # train loss below half of the held-out loss …
RISEN = 1.05  # … that is 5 % above its best: the answers are known by heart, and new ones get worse
TRAINED_SHARE = 0.05  # below it twenty tokens are read for one that is learned from

# Usual learning rates of adapters by the base's size (up to so many parameters): from QLoRA's tables (Dettmers et al., 2023) for
# large ones, from our own runs on models of 0.3 to 8 million parameters for small ones. Full training wants about a tenth of an
# adapter's (Schulman et al., "LoRA without regret", 2025).
_RATES = ((50e6, 1e-4, 2e-2), (1e9, 5e-5, 5e-3), (float("inf"), 1e-5, 1e-3))
_FULL = 0.1


@dataclass(frozen=True)
class Finding:
    name: str
    text: str


@dataclass(frozen=True)
class Course:
    """The training loss so far. ``first``: mean of the first steps; ``smoothed``: of about the last ten; ``lowest`` of these.

    ``told``: names of what was said already, each once in a training.
    """

    steps: int = 0
    first: float = 0.0
    weighted: float = 0.0  # sum of losses, each weighing MEMORY times the next
    lowest: float | None = None
    told: tuple[str, ...] = ()

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        return cls(**{**record, "told": tuple(record["told"])})

    @property
    def smoothed(self) -> float:
        return self.weighted / (1 - MEMORY**self.steps) if self.steps else 0.0

    def after(self, loss: float) -> Course:
        steps = self.steps + 1
        first = self.first + (loss - self.first) / steps if steps <= FIRST else self.first
        longer = replace(self, steps=steps, first=first, weighted=MEMORY * self.weighted + (1 - MEMORY) * loss)
        if steps < FIRST:
            return longer
        return replace(longer, lowest=longer.smoothed if self.lowest is None else min(self.lowest, longer.smoothed))

    def telling(self, findings: Iterable[Finding]) -> tuple[Course, list[str]]:
        """The texts of those findings that were not told before, and the course that knows that they were."""
        new = [finding for finding in findings if finding.name not in self.told]
        return replace(self, told=(*self.told, *(finding.name for finding in new))), [finding.text for finding in new]


def before_start(trained_share: float, learning_rate: float, method: Literal["lora", "full"], parameters: int) -> Iterator[str]:
    """What can be known before the first step."""
    if trained_share < TRAINED_SHARE:
        yield _(
            "only {share} of the tokens are learned from: nearly all time goes into questions; shorten them, or put several"
            " answers into one conversation"
        ).format(share=format_share(trained_share))
    low, high = usual_rates(method, parameters)
    if not low <= learning_rate <= high:
        text = (
            _("train.learning_rate is {rate:g}, high for {what}: usual are {low:g} to {high:g}; the loss may rise")
            if learning_rate > high
            else _("train.learning_rate is {rate:g}, low for {what}: usual are {low:g} to {high:g}; little may be learned")
        )
        what = _("an adapter on {count} parameters") if method == "lora" else _("all of {count} parameters")
        yield text.format(rate=learning_rate, what=what.format(count=format_count(parameters)), low=low, high=high)


def usual_rates(method: Literal["lora", "full"], parameters: int) -> tuple[float, float]:
    """The lowest and the highest learning rate that are usual."""
    low, high = next((low, high) for limit, low, high in _RATES if parameters < limit)
    return (low * _FULL, high * _FULL) if method == "full" else (low, high)


def after_step(course: Course, total: int) -> Iterator[Finding]:
    """What the training loss says after a step."""
    if course.steps < 2 * FIRST or course.lowest is None:
        return
    if course.smoothed > RISES * course.first and course.smoothed > RISES * course.lowest:
        yield Finding("rises", _rises(course.smoothed, course.first, _("training loss")))
    elif course.steps == max(2 * FIRST, total // 2) and course.smoothed > FALLS * course.first:
        yield Finding(
            "flat",
            _(
                "the training loss does not fall: {now:.3f} after {steps} steps, {first:.3f} at the beginning; raise"
                " train.learning_rate three to ten times, and see in prepare/report.html whether the marked text is what is to"
                " be learned"
            ).format(now=Displayed(course.smoothed), first=Displayed(course.first), steps=course.steps),
        )


def after_look(course: Course, loss: float, first_loss: float | None, best_loss: float | None) -> Iterator[Finding]:
    """What the held-out loss says; ``best_loss`` is the best before it."""
    if first_loss is not None and loss > RISES * first_loss:
        yield Finding("rises", _rises(loss, first_loss, _("held-out loss")))
    if course.steps >= 5 and first_loss is not None and abs(loss - first_loss) <= NO_EFFECT * first_loss:
        yield Finding(
            "no effect",
            _(
                "the training has no effect yet: the held-out loss is {loss:.4f} as it was before; raise train.learning_rate, and"
                " adapter.alpha if it is far below adapter.rank"
            ).format(loss=Displayed(loss)),
        )
    if course.steps >= FIRST and best_loss is not None and loss > RISEN * best_loss and course.smoothed < PARTED * loss:
        yield Finding(
            "parted",
            _(
                "the examples are being learned by heart: training loss {train:.3f}, held-out loss {held_out:.3f} and {best:.3f}"
                " at its best; the best adapter is kept. Fewer train.epochs, train.patience, or more examples"
            ).format(train=Displayed(course.smoothed), held_out=Displayed(loss), best=Displayed(best_loss)),
        )


def _rises(now: float, first: float, what: str) -> str:
    return _(
        "the {what} rises: {now:.3f}, and {first:.3f} at the beginning; stop it (Ctrl-C) and start again with a learning"
        " rate three to ten times lower"
    ).format(what=what, now=Displayed(now), first=Displayed(first))
