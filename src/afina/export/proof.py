"""What is asked of a deployed model before anybody relies on it: held-out questions, with the text and ids that it must read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from afina.core.errors import QualityError
from afina.core.translation import _
from afina.data.conversation import Conversation, Message
from afina.data.render import Renderer

QUESTIONS = 8
_SHOWN = 60  # characters on each side of a difference


@dataclass(frozen=True)
class Question:
    """``text`` and ``ids`` are what the model was trained to read for ``messages``, up to its answer."""

    messages: tuple[Message, ...]
    text: str
    ids: tuple[int, ...]
    tools: str = ""

    @property
    def asked(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True)
class Proof:
    """A question that was answered; ``ended``: the answer ended by itself."""

    question: str
    answer: str
    answer_tokens: int
    seconds: float
    ended: bool


@dataclass(frozen=True)
class Reply:
    """What a deployed model gave: ``finish`` is ``stop`` where it ended by itself."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    answer_tokens: int
    seconds: float


def choose_questions(held_out: Sequence[Conversation], renderer: Renderer, limit: int) -> list[Question]:
    """At most eight held-out questions of up to ``limit`` tokens, the first ones in their order."""
    chosen: list[Question] = []
    for conversation in held_out:
        text = renderer.template.render(conversation.prompt, conversation.tools, add_generation_prompt=True)
        ids = tuple(renderer.tokenizer.encode(text))
        if len(ids) <= limit:
            chosen.append(Question(conversation.prompt, text, ids, conversation.tools))
        if len(chosen) == QUESTIONS:
            break
    if not chosen:
        raise QualityError(
            _("none of the {count} held-out questions fits into {limit} tokens").format(count=len(held_out), limit=limit),
            fix=_("raise deploy.context, or lower compare.max_new_tokens"),
        )
    return chosen


def require_same_text(question: Question, got: str, bos: str | None) -> None:
    """QualityError where the served model reads another text than in training (a BOS that its tokenizer adds aside)."""
    if got == question.text or (bos or "") + got == question.text:
        return
    place = next((n for n, pair in enumerate(zip(question.text, got, strict=False)) if pair[0] != pair[1]), 0)
    place = place or min(len(question.text), len(got))
    start = max(0, place - _SHOWN)
    raise QualityError(
        _("the served model would read another text than in training; they part at character {place}:\n{want!r}\n{got!r}").format(
            place=place, want=question.text[start : place + _SHOWN], got=got[start : place + _SHOWN]
        ),
        fix=_("report it with the chat template of the base; until then: --set deploy.to=embedded"),
    )


def require_same_count(question: Question, count: int) -> None:
    """QualityError where the served model reads another number of tokens (a doubled or a missing BOS, another tokenizer)."""
    if count != len(question.ids):
        raise QualityError(
            _("the served model reads {count} tokens where training had {wanted}, for: {question}").format(
                count=count, wanted=len(question.ids), question=question.asked
            ),
            fix=_("export again with: afina export NAME; if it stays so, report it with the base's name"),
        )


def first_that_ends(
    questions: Sequence[Question], ask: Callable[[Question], Reply], max_new_tokens: int, *, must_end: bool = True
) -> Proof:
    """The first answer that ends by itself, else the last one where none need end.

    QualityError where none does and one must: such a model would talk on for ever.
    """
    last: Proof | None = None
    for question in questions:
        reply = ask(question)
        require_same_count(question, reply.prompt_tokens)
        last = Proof(question.asked, reply.text, reply.answer_tokens, reply.seconds, ended=reply.finish == "stop")
        if last.ended:
            return last
    if last is not None and not must_end:
        return last
    raise QualityError(
        _("none of {count} answers ended by itself within {limit} tokens").format(count=len(questions), limit=max_new_tokens),
        fix=_("train longer (train.epochs), or allow longer answers (compare.max_new_tokens)"),
    )
