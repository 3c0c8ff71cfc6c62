"""What a training took away: a small general set, asked before and after.

Sixty questions of our own (``general.jsonl``) about nothing in particular: sums, translations between English and Spanish, short
instructions, half of them in each language. Each has an answer that is right and a pattern that right answers match. A training
on other things should leave them alone; what it breaks here it breaks elsewhere too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from afina.core.files import read_json, write_json
from afina.core.translation import _
from afina.core.units import Displayed, format_share
from afina.data.conversation import Conversation, Message, Source
from afina.measure.intervals import Interval, mean_interval, proportion_difference, proportion_interval

RESULT = "result.json"
MAX_NEW_TOKENS = 32  # the longest right answer has less than half of it
FEWEST_RIGHT = 5  # of the base; with fewer there is nothing that could be seen to be forgotten
_FILE = Path(__file__).with_name("general.jsonl")

Outcome = Literal["forgot", "kept", "gained", "unknown"]


@dataclass(frozen=True)
class Item:
    """One question. ``accept``: a regular expression that is found in right answers, and in ``answer``, which is one."""

    task: Literal["arithmetic", "translation", "instruction"]
    language: Literal["en", "es"]
    question: str
    answer: str
    accept: str

    def is_right(self, answer: str) -> bool:
        return re.search(self.accept, answer.strip(), re.IGNORECASE | re.DOTALL) is not None

    def conversation(self, number: int) -> Conversation:
        """The question with its right answer, without a system message."""
        return Conversation((Message("user", self.question), Message("assistant", self.answer)), Source(_FILE.name, number))


@dataclass(frozen=True)
class Told:
    """What one model does with the set: its answers, and of each right answer the summed loss and the tokens."""

    answers: Sequence[str]
    losses: Sequence[tuple[float, int]]


@dataclass(frozen=True)
class Forgetting:
    """``way``: in what both models were asked, ``torch float32`` or the type of the GGUF files. Shares of right answers, and the
    paired difference, tuned minus base; the loss of the right answers likewise, in nats a token. ``tasks``: right answers of
    base and tuned model, and how many there are.
    """

    way: str
    count: int
    base: Interval
    tuned: Interval
    difference: Interval
    base_loss: float
    tuned_loss: float
    loss_difference: Interval
    tasks: Mapping[str, tuple[int, int, int]]
    outcome: Outcome


@cache
def general_set() -> tuple[Item, ...]:
    """The questions, in their order."""
    return tuple(Item(**json.loads(line)) for line in _FILE.read_text(encoding="utf-8").splitlines())


def compare_before_and_after(before: Told, after: Told, way: str, *, resamples: int, seed: int) -> Forgetting:
    """What the training changed in the general set."""
    items = general_set()
    right = [[float(item.is_right(text)) for item, text in zip(items, told.answers, strict=True)] for told in (before, after)]
    difference = proportion_difference(right[1], right[0])
    totals = [np.array([total for total, _count in told.losses]) for told in (before, after)]
    tokens = np.array([count for _total, count in before.losses], dtype=np.float64)
    return Forgetting(
        way=way,
        count=len(items),
        base=proportion_interval(right[0]),
        tuned=proportion_interval(right[1]),
        difference=difference,
        base_loss=float(totals[0].sum() / tokens.sum()),
        tuned_loss=float(totals[1].sum() / tokens.sum()),
        loss_difference=mean_interval(totals[1] - totals[0], tokens, resamples=resamples, seed=seed),
        tasks=_by_task(items, right),
        outcome=_outcome(sum(right[0]), sum(right[1]), difference),
    )


def _by_task(items: Sequence[Item], right: Sequence[Sequence[float]]) -> dict[str, tuple[int, int, int]]:
    tasks: dict[str, tuple[int, int, int]] = {}
    for item, base, tuned in zip(items, *right, strict=True):
        before, after, count = tasks.get(item.task, (0, 0, 0))
        tasks[item.task] = (before + int(base), after + int(tuned), count + 1)
    return tasks


def _outcome(before: float, after: float, difference: Interval) -> Outcome:
    if difference.low > 0:
        return "gained"
    if difference.high < 0:
        return "forgot"
    return "unknown" if max(before, after) < FEWEST_RIGHT else "kept"


def words(found: Forgetting) -> str:
    """The finding in a sentence, with its figures."""
    shares = _("{base} right before, {tuned} after, of {count} general questions ({way})").format(
        base=format_share(found.base.value), tuned=format_share(found.tuned.value), count=found.count, way=found.way
    )
    points = _("{value:+.0f} points ({low:+.0f} to {high:+.0f})").format(
        value=100 * found.difference.value, low=100 * found.difference.low, high=100 * found.difference.high
    )
    loss = _("loss of the right answers {base:.2f} → {tuned:.2f}").format(
        base=Displayed(found.base_loss), tuned=Displayed(found.tuned_loss)
    )
    text = {
        "forgot": _("The training made the model forget: {points}; {shares}; {loss}."),
        "gained": _("The training made general answers better: {points}; {shares}; {loss}."),
        "kept": _("No forgetting is shown: {points}; {shares}; {loss}."),
        "unknown": _(
            "Whether the training made it forget cannot be told from answers, for the base gives hardly a right one: {shares}; "
            "{loss}, {loss_verdict}."
        ),
    }[found.outcome]
    return text.format(points=points, shares=shares, loss=loss, loss_verdict=_loss_verdict(found.loss_difference))


def _loss_verdict(difference: Interval) -> str:
    if difference.low > 0:
        return _("which is worse")
    return _("which is better") if difference.high < 0 else _("which is no difference that is shown")


def save_forgetting(folder: Path, found: Forgetting) -> Path:
    write_json(folder / RESULT, asdict(found))
    return folder / RESULT


def load_forgetting(folder: Path) -> Forgetting | None:
    """What ``save_forgetting`` wrote; None where nobody asked."""
    if not (folder / RESULT).is_file():
        return None
    tree = read_json(folder / RESULT)
    intervals = {name: Interval(**tree[name]) for name in ("base", "tuned", "difference", "loss_difference")}
    tasks = {task: tuple(counts) for task, counts in tree["tasks"].items()}
    return Forgetting(**{**tree, **intervals, "tasks": tasks})
