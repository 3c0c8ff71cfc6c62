"""Deploy to Ollama: a new version beside the old ones, proved, and only then the one that ``name`` means.

    upload the file ─▶ create soporte:v3 ─▶ show, text, tokens, a real answer ─▶ latest → previous ─▶ v3 → latest

Until the last step the model that people use is the old one; a version that fails is deleted, and the old one stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afina.core.errors import QualityError, ServiceError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.export.proof import (
    Checked,
    Expected,
    Proof,
    Question,
    Reply,
    add_checked,
    checked_case,
    first_that_ends,
    not_asked,
    require_same_text,
)
from afina.infer.ollama import Ollama


@dataclass(frozen=True)
class OllamaModel:
    """``latest`` is what ``ollama run`` takes; ``previous`` is the way back, None for a first version.

    ``text_compared``: whether this Ollama told the text that its model reads (it is an option for debugging); the tokens are
    counted in any case. ``inside``: what was found within its answers.
    """

    latest: str
    version: str
    previous: str | None
    text_compared: bool
    proof: Proof
    inside: Mapping[str, Any] | None = None


def deploy_to_ollama(
    ollama: Ollama,
    gguf: Path,
    *,
    name: str,
    context: int,
    system: str | None,
    licence: str | None,
    questions: Sequence[Question],
    hard: Sequence[Question],
    expected: Expected,
    bos: str | None,
    max_new_tokens: int,
    look_inside: Callable[[str], Mapping[str, Any]] | None = None,
    on_bytes: Callable[[int], None] | None = None,
    on_status: Callable[[str], None] | None = None,
) -> OllamaModel:
    """Makes ``gguf`` the model ``name`` of this Ollama. ``system`` is said in conversations that have no system message.

    ``look_inside`` gets the new version's name when all else is proved, before anybody is led to it. It may raise as well; what
    it returns is the model's ``inside``.
    Raises ServiceError where Ollama refuses, QualityError where its model does not read or answer as it should; then nothing has
    changed.
    """
    ollama.require_recent()
    there = ollama.models()
    version = next_version(name, there)
    digest = ollama.upload(gguf, on_bytes)
    parameters = served_parameters(context)
    ollama.create(version, digest, parameters=parameters, system=system, licence=licence, on_status=on_status)
    try:
        _require_kept(ollama, version, context, system)
        compared = [_compare_text(ollama, version, question, system, bos) for question in questions]
        proof = first_that_ends(
            questions,
            lambda question, limit: _ask(ollama, version, question, system, limit),
            max_new_tokens,
            expected,
            told_text=all(compared),
        )
        checked = [check_served(ollama, version, question, system, bos) for question in hard]
        inside = look_inside(version) if look_inside is not None else None
    except BaseException:
        _withdraw(ollama, version)
        raise
    latest, previous = f"{name}:latest", f"{name}:previous"
    if latest in there:
        ollama.copy(latest, previous)
    ollama.copy(version, latest)
    kept = previous if latest in there else None
    return OllamaModel(latest, version, kept, all(compared), add_checked(proof, checked), inside)


def served_parameters(context: int) -> dict[str, int | float]:
    """Greedy and without penalties: the model answers as it was compared. Requests may say otherwise."""
    return {"num_ctx": context, "temperature": 0.0, "repeat_penalty": 1.0}


def modelfile(gguf: str, context: int, system: str | None, licence: str | None) -> str:
    """For ``ollama create NAME -f Modelfile``, the same model; the chat template is the file's own."""
    lines = [f"FROM {gguf}", *(f"PARAMETER {key} {value}" for key, value in served_parameters(context).items())]
    lines += [f'{word} """{text}"""' for word, text in (("SYSTEM", system), ("LICENSE", licence)) if text]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Version:
    """A deployed version; ``names``: what leads to it besides, such as ``soporte:latest``."""

    name: str
    names: tuple[str, ...]
    size_bytes: int
    modified: str


def versions(ollama: Ollama, name: str) -> list[Version]:
    """All versions of ``name`` that this Ollama has, the newest first."""
    tags = [tag for tag in ollama.tags() if tag.name.rpartition(":")[0] == name]
    numbered = [tag for tag in tags if re.fullmatch(r"v\d+", tag.name.rpartition(":")[2])]
    return [
        Version(
            tag.name,
            tuple(other.name for other in tags if other.digest == tag.digest and other.name != tag.name),
            tag.size_bytes,
            tag.modified,
        )
        for tag in sorted(numbered, key=lambda tag: -int(tag.name.rpartition(":v")[2]))
    ]


def roll_back(ollama: Ollama, name: str) -> str:
    """Makes ``name:previous`` the latest again, and the latest the previous: done twice, all is as before. The version it is now.

    Raises ServiceError where there is none.
    """
    there = ollama.models()
    latest, previous, aside = f"{name}:latest", f"{name}:previous", f"{name}:rolling-back"
    if previous not in there:
        raise ServiceError(
            _("Ollama at {address} has no {model}: there is nothing to go back to").format(
                address=ollama.address, model=previous
            ),
            fix=_("see what is there with: afina deploy NAME --list"),
        )
    ollama.copy(previous, aside)
    if latest in there:
        ollama.copy(latest, previous)
    ollama.copy(aside, latest)
    ollama.delete(aside)
    return next((found.name for found in versions(ollama, name) if latest in found.names), previous)


def remove(ollama: Ollama, name: str, version: str) -> None:
    """Deletes a version. Raises ServiceError where it is not there, or is the one that people use."""
    wanted = version if ":" in version else f"{name}:{version}"
    found = next((one for one in versions(ollama, name) if one.name == wanted), None)
    if found is None:
        raise ServiceError(
            _("Ollama at {address} has no {model}").format(address=ollama.address, model=wanted),
            fix=_("see what is there with: afina deploy NAME --list"),
        )
    if f"{name}:latest" in found.names:
        raise ServiceError(
            _("{model} is what {name} means now").format(model=wanted, name=name),
            fix=_("go back to the one before first: afina deploy NAME --rollback"),
        )
    if f"{name}:previous" in found.names:
        ollama.delete(f"{name}:previous")
    ollama.delete(wanted)


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


def _compare_text(ollama: Ollama, model: str, question: Question, system: str | None, bos: str | None) -> bool:
    """Whether the text could be compared; QualityError where it differs."""
    got = ollama.rendered(model, _without_default(question, system), question.tools)
    if got is None:
        return False
    require_same_text(question, got, bos)
    return True


def check_served(ollama: Ollama, model: str, question: Question, system: str | None, bos: str | None) -> Checked:
    """How the served model reads a hard case."""
    messages = _without_default(question, system)
    try:
        got = ollama.rendered(model, messages, question.tools)
        answer = ollama.chat(model, messages, 8, question.tools)
    except ServiceError as error:
        return not_asked(question, error.what)
    return checked_case(question, got, answer.prompt_tokens, bos, same_tokens=answer.prompt_tokens == len(question.ids))


def _ask(ollama: Ollama, model: str, question: Question, system: str | None, max_new_tokens: int) -> Reply:
    answer = ollama.chat(model, _without_default(question, system), max_new_tokens, question.tools)
    return Reply(
        text=answer.text,
        finish="stop" if answer.finish == "stop" else "length",
        prompt_tokens=answer.prompt_tokens,
        answer_tokens=answer.answer_tokens,
        tokens_per_second=answer.tokens_per_second,
        first=answer.first,
    )


def _withdraw(ollama: Ollama, version: str) -> None:
    """Deletes a version that failed. Where that fails too, the first error is the one to tell: nobody is led to this version."""
    try:
        ollama.delete(version)
    except ServiceError:
        return
