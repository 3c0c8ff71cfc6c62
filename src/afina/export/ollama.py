"""Deploy to Ollama: a new version beside the old ones, proved, and only then the one that ``name`` means.

    upload the file ─▶ create soporte:v3 ─▶ show, text, tokens, a real answer ─▶ latest → previous ─▶ v3 → latest

Until the last step the model that people use is the old one; a version that fails is deleted, and the old one stays.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from afina.core.errors import QualityError, ServiceError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.export.proof import Proof, Question, Reply, first_that_ends, require_same_text
from afina.infer.ollama import Ollama


@dataclass(frozen=True)
class OllamaModel:
    """``latest`` is what ``ollama run`` takes; ``previous`` is the way back, None for a first version.

    ``text_compared``: whether this Ollama told the text that its model reads (it is an option for debugging); the tokens are
    counted in any case.
    """

    latest: str
    version: str
    previous: str | None
    text_compared: bool
    proof: Proof


def deploy_to_ollama(
    ollama: Ollama,
    gguf: Path,
    *,
    name: str,
    context: int,
    system: str | None,
    questions: Sequence[Question],
    bos: str | None,
    max_new_tokens: int,
    on_bytes: Callable[[int], None] | None = None,
    on_status: Callable[[str], None] | None = None,
) -> OllamaModel:
    """Makes ``gguf`` the model ``name`` of this Ollama. ``system`` is said in conversations that have no system message.

    Raises ServiceError where Ollama refuses, QualityError where its model does not read or answer as it should; then nothing has
    changed.
    """
    ollama.require_recent()
    there = ollama.models()
    version = next_version(name, there)
    digest = ollama.upload(gguf, on_bytes)
    # Greedy and without penalties: the model answers as it was compared. Requests may say otherwise.
    parameters: dict[str, int | float] = {"num_ctx": context, "temperature": 0.0, "repeat_penalty": 1.0}
    ollama.create(version, digest, parameters=parameters, system=system, on_status=on_status)
    try:
        _require_kept(ollama, version, context, system)
        compared = [_same_text(ollama, version, question, system, bos) for question in questions]
        proof = first_that_ends(
            questions, lambda question: _ask(ollama, version, question, system, max_new_tokens), max_new_tokens
        )
    except BaseException:
        _withdraw(ollama, version)
        raise
    latest, previous = f"{name}:latest", f"{name}:previous"
    if latest in there:
        ollama.copy(latest, previous)
    ollama.copy(version, latest)
    return OllamaModel(latest, version, previous if latest in there else None, all(compared), proof)


def next_version(name: str, there: Sequence[str]) -> str:
    """``soporte:v4`` where ``soporte:v3`` is the highest that is there."""
    numbers = [int(match[1]) for model in there if (match := re.fullmatch(re.escape(name) + r":v(\d+)", model))]
    return f"{name}:v{max(numbers, default=0) + 1}"


def _without_default(question: Question, system: str | None) -> tuple[Message, ...]:
    """The question as a user types it: without the system message that the model itself brings."""
    first = question.messages[0]
    return question.messages[1:] if first.role == "system" and first.content == system else question.messages


def _require_kept(ollama: Ollama, model: str, context: int, system: str | None) -> None:
    """QualityError where Ollama's record of the model lacks what it was made with."""
    record = ollama.show(model)
    told = dict(line.split(None, 1) for line in str(record.get("parameters") or "").splitlines() if len(line.split()) == 2)
    if told.get("num_ctx") != str(context) or (record.get("system") or "") != (system or ""):
        raise QualityError(
            _("Ollama at {address} keeps another context or system message for {model} than it was given").format(
                address=ollama.address, model=model
            ),
            fix=_("update Ollama (https://ollama.com/download), or take deploy.to: embedded"),
        )


def _same_text(ollama: Ollama, model: str, question: Question, system: str | None, bos: str | None) -> bool:
    """Whether the text could be compared; QualityError where it differs."""
    got = ollama.rendered(model, _without_default(question, system), question.tools)
    if got is None:
        return False
    require_same_text(question, got, bos)
    return True


def _ask(ollama: Ollama, model: str, question: Question, system: str | None, max_new_tokens: int) -> Reply:
    start = time.monotonic()
    answer = ollama.chat(model, _without_default(question, system), max_new_tokens, question.tools)
    return Reply(
        text=answer.text,
        finish="stop" if answer.finish == "stop" else "length",
        prompt_tokens=answer.prompt_tokens,
        answer_tokens=answer.answer_tokens,
        seconds=time.monotonic() - start,
    )


def _withdraw(ollama: Ollama, version: str) -> None:
    """Deletes a version that failed. Where that fails too, the first error is the one to tell: nobody is led to this version."""
    try:
        ollama.delete(version)
    except ServiceError:
        return
