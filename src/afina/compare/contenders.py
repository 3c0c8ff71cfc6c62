"""Who is compared: the same held-out questions and the same expected answers for each."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from afina.compare.comparison import Performance, by_conversation, title
from afina.compare.prompts import Ask, Asked, Examples, MakeSearch, Passage, Passages, Room, answers_in
from afina.compare.retrieval import Index
from afina.core.events import Events, Progress
from afina.core.translation import _
from afina.data.conversation import Conversation
from afina.data.render import Renderer, Row
from afina.infer.score import score_rows
from afina.infer.torch_local import TorchEngine
from afina.model.base import Base
from afina.model.load import load_model

STAGE = "compare"

Way = Literal["plain", "examples", "passages"]


@dataclass(frozen=True)
class Contender:
    """A name of ``compare.contenders`` in the recipe, its model, the adapter that it puts on it, if any, and how it is asked."""

    name: str
    base: Base
    adapter: Path | None
    way: Way = "plain"


@dataclass(frozen=True)
class Given:
    """One way of asking: the questions to answer, and the rows of all held-out conversations, whose loss is measured."""

    asked: Sequence[Asked]
    rows: Sequence[Row]


@dataclass(frozen=True)
class HeldOut:
    """``conversations``: all of them. ``questions``: those that are answered. ``rows``: as they were prepared."""

    conversations: Sequence[Conversation]
    questions: Sequence[Conversation]
    rows: Sequence[Row]
    last_only: bool


@dataclass(frozen=True)
class Knowledge:
    """What may stand before a question: training conversations as examples, passages; ``name`` says what the passages are,
    ``make`` how both are searched.
    """

    examples: Sequence[Conversation]
    passages: Sequence[Passage]
    name: str
    make: MakeSearch = Index


@dataclass(frozen=True)
class Task:
    """What every contender is given, by the way in which it is asked."""

    renderer: Renderer
    given: Mapping[Way, Given]
    max_new_tokens: int
    dtype: torch.dtype
    device: torch.device


def names_of(setting: Sequence[str] | Literal["auto"], *, documents: bool) -> tuple[str, ...]:
    """The names of ``compare.contenders``; ``auto`` takes those with passages where there are documents."""
    if setting != "auto":
        return tuple(setting)
    return ("prompt", "few_shot", "rag", "tuned", "tuned+rag") if documents else ("prompt", "few_shot", "tuned")


def choose_contenders(names: Sequence[str], base: Base, tuned: Base, adapter: Path | None) -> list[Contender]:
    """The contenders of these names, the plain base first: the others are compared with it."""
    known = (
        Contender("prompt", base, None),
        Contender("few_shot", base, None, "examples"),
        Contender("rag", base, None, "passages"),
        Contender("tuned", tuned, adapter),
        Contender("tuned+rag", tuned, adapter, "passages"),
    )
    return [contender for contender in known if contender.name in names]


def as_pilot(contender: Contender) -> Contender:
    """The same under the name of a pilot, where it has an adapter or weights of its own training."""
    name = {"tuned": "pilot", "tuned+rag": "pilot+rag"}.get(contender.name, contender.name)
    return replace(contender, name=name)


def give(ways: Iterable[Way], held_out: HeldOut, knowledge: Knowledge, room: Room) -> dict[Way, Given]:
    """What is asked in each of the ways. Raises DataError where there is nothing to search in."""
    given: dict[Way, Given] = {}
    for way in dict.fromkeys(ways):
        match way:
            case "plain":
                given[way] = Given([room.ask(question) for question in held_out.questions], held_out.rows)
            case "examples":
                given[way] = _give(Examples(knowledge.examples, room, knowledge.make).ask, held_out, room)
            case "passages":
                given[way] = _give(Passages(knowledge.passages, room, knowledge.name, knowledge.make).ask, held_out, room)
    return given


def _give(ask: Ask, held_out: HeldOut, room: Room) -> Given:
    """What is asked where each question has a prompt of its own: the loss of each answer is that behind its prompt."""
    rows = [
        room.row(ask(part).conversation)
        for conversation in held_out.conversations
        for part in answers_in(conversation, last_only=held_out.last_only)
    ]
    return Given([ask(question) for question in held_out.questions], rows)


def perform_all(contenders: Sequence[Contender], task: Task, events: Events) -> list[Performance]:
    """What each contender does. A model is in memory only as long as its contenders, which stand side by side, are at work."""
    performances = []
    for (base, adapter), group in groupby(contenders, key=lambda contender: (contender.base, contender.adapter)):
        model = load_model(base, dtype=task.dtype, device=task.device, adapter=adapter)
        performances += [perform(contender, model, task, events) for contender in group]
        del model
        gc.collect()  # modules hold each other: without it two large models would be in memory at once
    return performances


def perform(contender: Contender, model: PreTrainedModel, task: Task, events: Events) -> Performance:
    """The contender's losses and greedy answers."""
    given = task.given[contender.way]
    loss_task = _("{contender}: held-out loss").format(contender=title(contender.name))
    answer_task = _("{contender}: answers").format(contender=title(contender.name))
    losses = score_rows(model, given.rows, on_progress=_progress(events, loss_task, len(given.rows), _("rows")))
    answers = TorchEngine(model, task.renderer.tokenizer, task.renderer.template).answer_many(
        [asked.conversation.prompt for asked in given.asked],
        task.max_new_tokens,
        _progress(events, answer_task, len(given.asked), _("answers")),
        [asked.conversation.tools for asked in given.asked],
    )
    return Performance(contender.name, answers, by_conversation(given.rows, losses), given.asked)


def _progress(events: Events, task: str, total: int, unit: str) -> Callable[[int], None]:
    return lambda done: events.emit(Progress(STAGE, task, done, total, unit))
