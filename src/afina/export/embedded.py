"""Deploy without Ollama: the embedded llama.cpp is started on the file, proved with real answers, and stopped again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from afina.core.errors import QualityError, ServiceError
from afina.core.translation import _
from afina.export.proof import (
    Checked,
    Proof,
    Question,
    Reply,
    add_checked,
    checked_case,
    first_that_ends,
    not_asked,
    parting_place,
    require_same_text,
)
from afina.infer.llama import LlamaServer

_SPOKEN = 32  # tokens over which the speed is measured, at most


@dataclass(frozen=True)
class EmbeddedModel:
    """A file that the embedded llama.cpp serves; ``start_seconds`` until it was ready."""

    proof: Proof
    start_seconds: float


def prove_embedded(
    gguf: Path,
    *,
    context: int,
    questions: Sequence[Question],
    hard: Sequence[Question],
    bos: str | None,
    max_new_tokens: int,
    log: Path,
    must_end: bool,
) -> EmbeddedModel:
    """A question that it really answered.

    Raises QualityError where the text or the ids that llama.cpp reads are not those of training, or no answer ends by itself
    although one ``must_end``.
    """
    start = time.monotonic()
    with LlamaServer(gguf, context=context, log=log) as server:
        start_seconds = time.monotonic() - start
        for question in questions:
            require_same_text(question, server.render(question.messages, question.tools), bos)
            _require_same_ids(question, server.prompt_ids(question.messages, question.tools))

        def ask(question: Question, limit: int) -> Reply:
            answer = server.answer(question.messages, limit, question.tools)
            return Reply(answer.text, answer.finish, len(question.ids), len(answer.ids), None, {})

        proof = first_that_ends(questions, ask, max_new_tokens, must_end=must_end)
        proof = replace(proof, tokens_per_second=server.speed(questions[0].ids, min(max_new_tokens, _SPOKEN)))
        return EmbeddedModel(add_checked(proof, [check_case(server, question, bos) for question in hard]), start_seconds)


def check_case(server: LlamaServer, question: Question, bos: str | None) -> Checked:
    """How llama.cpp reads a hard case."""
    try:
        got = server.render(question.messages, question.tools)
        ids = server.prompt_ids(question.messages, question.tools)
    except ServiceError as error:
        return not_asked(question, error.what)
    return checked_case(question, got, len(ids), bos, same_tokens=tuple(ids) == question.ids)


def _require_same_ids(question: Question, got: Sequence[int]) -> None:
    if tuple(got) == question.ids:
        return
    place = parting_place(question.ids, got)
    raise QualityError(
        _(
            "llama.cpp reads other tokens than in training, from token {place} on ({got} instead of {want}), for: {question}"
        ).format(
            place=place, got=list(got[place : place + 5]), want=list(question.ids[place : place + 5]), question=question.asked
        ),
        fix=_("export again with: afina export NAME; if it stays so, report it with the base's name"),
    )
