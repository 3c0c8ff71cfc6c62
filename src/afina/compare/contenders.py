"""Who is compared: the same held-out questions and the same expected answers for each."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from afina.compare.comparison import Performance, title
from afina.core.events import Events, Progress
from afina.core.translation import _
from afina.data.conversation import Conversation
from afina.data.render import Row
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer
from afina.infer.score import score_rows
from afina.infer.torch_local import TorchEngine
from afina.model.base import Base
from afina.model.load import load_model

STAGE = "compare"


@dataclass(frozen=True)
class Contender:
    """A name of ``compare.contenders`` in the recipe, its model, and the adapter that it puts on it, if any."""

    name: str
    base: Base
    adapter: Path | None


@dataclass(frozen=True)
class Task:
    """What every contender is given. ``rows``: of all held-out conversations. ``questions``: some of these conversations."""

    tokenizer: Tokenizer
    template: ChatTemplate
    rows: Sequence[Row]
    questions: Sequence[Conversation]
    max_new_tokens: int
    dtype: torch.dtype
    device: torch.device


def choose_contenders(names: Sequence[str], base: Base, tuned: Base, adapter: Path | None) -> list[Contender]:
    """The recipe's contenders, the plain base first: the others are compared with it."""
    known = (Contender("prompt", base, None), Contender("tuned", tuned, adapter))
    return [contender for contender in known if contender.name in names]


def perform(contender: Contender, task: Task, events: Events) -> Performance:
    """The contender's losses and greedy answers. The model is in memory only as long as that takes."""
    model = load_model(contender.base, dtype=task.dtype, device=task.device, adapter=contender.adapter)
    loss_task = _("{contender}: held-out loss").format(contender=title(contender.name))
    answer_task = _("{contender}: answers").format(contender=title(contender.name))
    losses = score_rows(model, task.rows, on_progress=_progress(events, loss_task, len(task.rows), _("rows")))
    answers = TorchEngine(model, task.tokenizer, task.template).answer_many(
        [question.prompt for question in task.questions],
        task.max_new_tokens,
        _progress(events, answer_task, len(task.questions), _("answers")),
        [question.tools for question in task.questions],
    )
    del model
    gc.collect()  # modules hold each other: without it two large models would be in memory at once
    return Performance(contender.name, answers, losses)


def _progress(events: Events, task: str, total: int, unit: str) -> Callable[[int], None]:
    return lambda done: events.emit(Progress(STAGE, task, done, total, unit))
