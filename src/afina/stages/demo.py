"""What the demo shows of its run: the problem in the data, the loss's course, and who was right on which kind of question.

The shop's held-out questions are of three kinds, and an answer is right where

    form     it is in the house style from first to last character
    facts    it holds the value that a document says
    simple   it holds the word that the question asks for
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from afina.compare.comparison import ANSWERS, load_comparison, title
from afina.core.events import Metric, read_events
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.core.units import format_share
from afina.data.findings import FILE as FINDINGS
from afina.measure.intervals import Interval, proportion_difference, proportion_interval
from afina.stages.compare import NAME as COMPARE
from afina.stages.prepare import NAME as PREPARE
from afina.stages.train import NAME as TRAIN

KINDS = ("form", "facts", "simple")
BOTH = "tuned+rag"
NEEDED = ("prompt", "few_shot", "rag", "tuned", BOTH)  # contenders
WELL = 0.8  # share of right answers from which on a contender is said to do


@dataclass(frozen=True)
class Found:
    """What the preparation found in a row of examples, and what it did about it."""

    place: str
    check: str
    done: str
    reason: str


@dataclass(frozen=True)
class Claim:
    """What the demo is there to show, and whether this run's numbers show it."""

    text: str
    holds: bool


@dataclass(frozen=True)
class ByKind:
    """``shares``: kind → contender → share of right answers; ``counts``: questions of each kind; ``leads``: kind → contender →
    by how much tuned + RAG is right more often, on the same questions; empty where it did not take part."""

    shares: Mapping[str, Mapping[str, Interval]]
    counts: Mapping[str, int]
    leads: Mapping[str, Mapping[str, Interval]]

    def overall(self, contender: str) -> float:
        """The mean over the kinds, each weighing the same."""
        return mean(of[contender].value for of in self.shares.values())

    def lead(self, contender: str) -> Interval:
        """By how much tuned + RAG is right more often over all. The kinds are asked different questions, so the squares of their
        intervals' halves add up (Zou & Donner, 2008)."""
        leads = [of[contender] for of in self.leads.values()]
        value = mean(lead.value for lead in leads)
        below = math.hypot(*(lead.value - lead.low for lead in leads)) / len(leads)
        above = math.hypot(*(lead.high - lead.value for lead in leads)) / len(leads)
        return Interval(value, value - below, value + above)


def problems(run: RunFolder) -> list[Found]:
    """What the preparation found, the rows that it left out first."""
    lines = (run.stage(PREPARE) / FINDINGS).read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    told = [Found(Path(one["source"]).name, one["check"], one["done"], one["reason"]) for one in found]
    return sorted(told, key=lambda one: one.done != "dropped")


def losses(run: RunFolder) -> tuple[list[float], list[float]]:
    """The training's loss a step, and the validation loss a look, of the last training."""
    steps: dict[int, float] = {}
    looks: dict[int, float] = {}
    for _moment, event in read_events(run.events_path):
        if isinstance(event, Metric) and event.stage == TRAIN:
            steps |= {event.step: event.values["loss"]} if "loss" in event.values else {}
            looks |= {event.step: event.values["val_loss"]} if "val_loss" in event.values else {}
    return [steps[step] for step in sorted(steps)], [looks[step] for step in sorted(looks)]


def by_kind(run: RunFolder, questions: Path) -> ByKind:
    """The shares of right answers of each contender, for each kind of the questions in the file ``questions``."""
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    contenders = load_comparison(run.stage(COMPARE)).contenders
    verdicts: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in contenders} for kind in KINDS}
    for line in (run.stage(COMPARE) / ANSWERS).read_text(encoding="utf-8").splitlines():
        answered = json.loads(line)
        row = rows[int(answered["source"].rpartition(":")[2]) - 1]
        for name in contenders:
            verdicts[row["kind"]][name].append(float(is_right(row, answered["answers"][name])))
    asked = {kind: of for kind, of in verdicts.items() if of[contenders[0]]}
    return ByKind(
        {kind: {name: proportion_interval(marks) for name, marks in of.items()} for kind, of in asked.items()},
        {kind: len(of[contenders[0]]) for kind, of in asked.items()},
        {
            kind: {name: proportion_difference(of[BOTH], marks) for name, marks in of.items() if name != BOTH}
            for kind, of in asked.items()
            if BOTH in of
        },
    )


def is_right(row: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Whether an answer of ``answers.jsonl`` is right for its question."""
    if row["kind"] == "form":
        return bool(answer["scores"]["pattern"])
    value = re.escape(row["value"])
    return re.search(rf"(?<![\w.,:]){value}(?!\w|[.,:]\d)", answer["text"], re.IGNORECASE) is not None


def table(found: ByKind) -> list[list[str]]:
    """Heading, a row for each kind, and one for all: shares of right answers with their intervals."""
    names = {"form": _("form"), "facts": _("facts"), "simple": _("simple")}
    contenders = list(next(iter(found.shares.values())))
    rows = [[_("right answers"), *(title(name) for name in contenders)]]
    for kind, of in found.shares.items():
        cells = [f"{format_share(of[name].value)} ({of[name].low * 100:.0f}–{of[name].high * 100:.0f})" for name in contenders]
        rows.append([f"{names[kind]} ({found.counts[kind]})", *cells])
    return [*rows, [_("over all"), *(format_share(found.overall(name)) for name in contenders)]]


def claims(found: ByKind) -> Iterator[Claim]:
    """What the field says and the demo is there to show, each with what the numbers say of it; nothing where a kind or one of
    the five contenders is missing."""
    if found.shares.keys() != set(KINDS) or not set(NEEDED) <= found.shares["form"].keys():
        return
    untuned = ("prompt", "few_shot", "rag")
    form, facts, simple = (found.shares[kind] for kind in KINDS)
    yield Claim(
        _("form comes from fine-tuning: tuned {tuned}, the best without it {other}").format(
            tuned=format_share(form["tuned"].value), other=format_share(max(form[name].value for name in untuned))
        ),
        form["tuned"].low > max(form[name].high for name in untuned),
    )
    yield Claim(
        _("facts come from the documents: RAG {rag}, tuned without them {tuned}").format(
            rag=format_share(facts["rag"].value), tuned=format_share(facts["tuned"].value)
        ),
        facts["rag"].low > facts["tuned"].high,
    )
    yield Claim(
        _("simple things come from a prompt: {prompt} without any training").format(prompt=format_share(simple["prompt"].value)),
        simple["prompt"].value >= WELL,
    )
    best, second = sorted(form, key=found.overall, reverse=True)[:2]
    yield Claim(
        _("all three together: best over all is {name}, {share}; the next is {second}, {next}").format(
            name=title(best),
            share=format_share(found.overall(best)),
            second=title(second),
            next=format_share(found.overall(second)),
        ),
        all(found.lead(name).low > 0 for name in NEEDED if name != BOTH),
    )


def curve(values: Sequence[float], width: int = 60) -> str:
    """The values as a row of blocks, high to low: ``█▇▅▃▂▁▁``."""
    if not values:
        return ""
    columns = min(width, len(values))
    edges = [number * len(values) // columns for number in range(columns + 1)]
    means = [mean(values[start:stop]) for start, stop in pairwise(edges)]
    low, high = min(means), max(means)
    return "".join("▁▂▃▄▅▆▇█"[min(7, int(8 * (value - low) / ((high - low) or 1)))] for value in means)
