"""Who is compared: the same held-out questions and the same expected answers for each."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from itertools import groupby
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from afina.compare.comparison import Performance, by_conversation, title
from afina.compare.endpoint import Endpoint, Told, require_no_tools
from afina.compare.instruction import Instruction, write_instruction
from afina.compare.kept import Kept, key_of
from afina.compare.prompts import Ask, Asked, Examples, MakeSearch, Passage, Passages, Room, answers_in
from afina.compare.retrieval import Index
from afina.core.errors import DataError, ServiceError
from afina.core.events import Events, Progress
from afina.core.translation import _
from afina.data.conversation import Conversation
from afina.data.render import Renderer, Row
from afina.infer.answer import Answer
from afina.infer.llama import LlamaServer
from afina.infer.score import score_rows
from afina.infer.torch_local import TorchEngine
from afina.model.base import Base
from afina.model.load import load_model

STAGE = "compare"

Way = Literal["plain", "instruction", "examples", "passages"]
Load = Callable[[], PreTrainedModel]


@dataclass(frozen=True)
class Contender:
    """A name of ``compare.contenders`` in the recipe, its model, the adapter that it puts on it, if any, and how it is asked.

    ``identity`` changes when the model does; where it is ``""``, nothing is kept of what the contender does.
    """

    name: str
    base: Base
    adapter: Path | None
    way: Way = "plain"
    identity: str = ""


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
    """What every contender is given, by the way in which it is asked. ``kept``: what was done before, by content; ``stage``:
    whose progress it is.
    """

    renderer: Renderer
    given: Mapping[Way, Given]
    max_new_tokens: int
    dtype: torch.dtype
    device: torch.device
    kept: Kept | None = None
    stage: str = STAGE


@dataclass(frozen=True)
class LeftOut:
    """A contender that did not finish, and why, in a sentence."""

    contender: str
    reason: str


def names_of(setting: Sequence[str] | Literal["auto"], *, documents: bool) -> tuple[str, ...]:
    """The names of ``compare.contenders``; ``auto`` takes those with passages where there are documents."""
    if setting != "auto":
        return tuple(setting)
    found = ("prompt", "prompt+", "few_shot", "tuned")
    return ("prompt", "prompt+", "few_shot", "rag", "tuned", "tuned+rag") if documents else found


def choose_contenders(names: Sequence[str], base: Base, tuned: Base, adapter: Path | None) -> list[Contender]:
    """The contenders of these names, the plain base first: the others are compared with it."""
    known = (
        Contender("prompt", base, None),
        Contender("prompt+", base, None, "instruction"),
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
            case "instruction":
                instruction = Instruction(write_instruction(knowledge.examples), room)
                given[way] = _give(instruction.ask, held_out, room)
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
    """What each contender does. A model is in memory only as long as its contenders, which stand side by side, are at work, and
    only where not all of it was done before.
    """
    performances = []
    for (base, adapter), group in groupby(contenders, key=lambda contender: (contender.base, contender.adapter)):
        load = cache(partial(load_model, base, dtype=task.dtype, device=task.device, adapter=adapter))
        performances += [perform(contender, load, task, events) for contender in group]
        load.cache_clear()
        gc.collect()  # modules hold each other: without it two large models would be in memory at once
    return performances


def perform(contender: Contender, load: Load, task: Task, events: Events) -> Performance:
    """The contender's losses and greedy answers."""
    given = task.given[contender.way]
    losses = _losses(contender, load, task, events)
    answers = answer_all(contender, load, task, events)
    return Performance(contender.name, answers, by_conversation(given.rows, losses), given.asked)


def _losses(contender: Contender, load: Load, task: Task, events: Events) -> list[tuple[float, int]]:
    """The summed loss of each row and its trained tokens."""
    rows = task.given[contender.way].rows
    key = _key(contender, task, "losses", [[list(row.ids), row.spans] for row in rows])
    if task.kept is not None and (known := task.kept.get(key)) is not None:
        return [(loss, count) for loss, count in known]
    title_of = _("{contender}: held-out loss").format(contender=title(contender.name))
    losses = score_rows(load(), rows, on_progress=_progress(task, events, title_of, len(rows), _("rows")))
    if task.kept is not None and contender.identity:
        task.kept.put(key, losses)
    return losses


def answer_all(contender: Contender, load: Load, task: Task, events: Events) -> list[Answer]:
    """An answer to each question; those of a batch are kept as soon as they are there."""
    asked = task.given[contender.way].asked
    keys = _answer_keys(contender, task)
    answers = _known(keys, task)
    missing = [place for place in range(len(asked)) if place not in answers]
    title_of = _("{contender}: answers").format(contender=title(contender.name))
    tell = _progress(task, events, title_of, len(asked), _("answers"))

    def keep(found: Mapping[int, Answer]) -> None:
        for number, answer in found.items():
            answers[missing[number]] = answer
            if task.kept is not None and contender.identity:
                task.kept.put_answer(keys[missing[number]], answer)
        tell(len(answers))

    if missing:
        TorchEngine(load(), task.renderer.tokenizer, task.renderer.template).answer_many(
            [asked[place].conversation.prompt for place in missing],
            task.max_new_tokens,
            keep,
            [asked[place].conversation.tools for place in missing],
        )
    return [answers[place] for place in range(len(asked))]


def known_answers(contender: Contender, task: Task) -> dict[int, Answer]:
    """The answers that the contender gave before, by the place of their question."""
    return _known(_answer_keys(contender, task), task)


def _known(keys: Sequence[str], task: Task) -> dict[int, Answer]:
    found = {place: task.kept.answer(key) for place, key in enumerate(keys)} if task.kept is not None else {}
    return {place: answer for place, answer in found.items() if answer is not None}


def _answer_keys(contender: Contender, task: Task) -> list[str]:
    asked = task.given[contender.way].asked
    prompts = [task.renderer.prompt_ids(one.conversation.prompt, one.conversation.tools) for one in asked]
    return [_key(contender, task, "answer", prompt, task.max_new_tokens) for prompt in prompts]


def _key(contender: Contender, task: Task, *what: object) -> str:
    return key_of(contender.identity, str(task.dtype), task.device.type, task.renderer.end_of_turn, *what)


def perform_elsewhere(endpoint: Endpoint, task: Task, events: Events) -> Performance | LeftOut:
    """The answers of a model elsewhere, which is asked plainly. Whatever it answered is kept, even where it does not finish."""
    asked = task.given["plain"].asked
    tell = _progress(task, events, _("{contender}: answers").format(contender=endpoint.name), len(asked), _("answers"))
    prompts = [one.conversation.prompt for one in asked]
    told: list[Told] = []
    try:
        require_no_tools([one.conversation.tools for one in asked], endpoint.name)
        for reply in endpoint.ask_all(prompts, task.max_new_tokens, task.kept):
            told.append(reply)
            tell(len(told))
    except (ServiceError, DataError) as error:
        done = sum(endpoint.was_asked(prompt, task.max_new_tokens, task.kept) for prompt in prompts) if task.kept else len(told)
        reason = _("{reason} (after {done} of {all} answers)").format(reason=error.what, done=done, all=len(asked))
        return LeftOut(endpoint.name, reason)
    counted = [
        replace(one, prompt_tokens=reply.prompt_tokens or one.prompt_tokens) for one, reply in zip(asked, told, strict=True)
    ]
    return Performance(endpoint.name, [reply.answer for reply in told], None, counted)


def perform_file(name: str, gguf: Path, sha256: str, task: Task, context: int, events: Events) -> Performance:
    """The greedy answers of a GGUF, by the embedded llama.cpp with at most ``context`` tokens.

    ``sha256`` is the file's: an answer that was given before is not given again, and where all were, nothing is loaded.
    """
    asked = task.given["plain"].asked
    needed = max(one.prompt_tokens for one in asked) + task.max_new_tokens
    tell = _progress(task, events, _("{contender}: answers").format(contender=name), len(asked), _("answers"))
    answers: list[Answer] = []
    with ExitStack() as stack:
        server = cache(lambda: stack.enter_context(LlamaServer(gguf, context=min(needed, context))))
        for one in asked:
            key = _file_key(sha256, one.conversation, task.max_new_tokens)
            known = None if task.kept is None else task.kept.answer(key)
            answer = known or server().answer(one.conversation.prompt, task.max_new_tokens, one.conversation.tools)
            if known is None and task.kept is not None:
                task.kept.put_answer(key, answer)
            answers.append(answer)
            tell(len(answers))
    return Performance(name, answers, None, asked)


def _file_key(sha256: str, conversation: Conversation, max_new_tokens: int) -> str:
    return key_of("gguf", sha256, [asdict(message) for message in conversation.prompt], conversation.tools, max_new_tokens)


def _progress(task: Task, events: Events, title_of: str, total: int, unit: str) -> Callable[[int], None]:
    return lambda done: events.emit(Progress(task.stage, title_of, done, total, unit))
