"""Draft: a teacher model proposes examples for each passage of some documents; a person reads them before they are used.

Every row is written with ``status: draft``, and rows with that are never trained on. The file grows passage by passage, so a
command that was stopped goes on: beside it stands a list of the passages that were asked about (``.asked``).
"""

from __future__ import annotations

import codecs
import difflib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from afina.core.errors import DataError, RecipeError, ServiceError
from afina.core.events import Events, Progress, StageFinished, StageStarted
from afina.core.files import sha256_of_text
from afina.core.translation import _
from afina.data.conversation import Conversation, Message
from afina.data.documents.chunks import chunk
from afina.data.documents.document import Chunk
from afina.data.documents.drafts import LEAST_PASSAGE, Draft, parse, problem, request, request_again, threes
from afina.data.documents.find import find_documents, passed_over
from afina.data.documents.read import read_document
from afina.data.read.examples import Reader
from afina.data.read.strict_json import BrokenJsonError
from afina.infer.ollama import find_ollama
from afina.infer.openai import OpenAI, is_local
from afina.infer.several import at_once, several
from afina.recipe.recipe import Data

STAGE = "draft"
STATUS = "draft"
MOST_TOKENS = 2000  # of a reply


@dataclass(frozen=True)
class Teacher:
    """A model that writes drafts: ``ask`` gives its reply. ``place`` is where it runs; ``away``: not on this machine."""

    name: str
    place: str
    away: bool
    ask: Callable[[Sequence[Message]], str]


@dataclass(frozen=True)
class Wanted:
    """``count`` questions a passage of about ``characters``; ``language`` es, en or auto; ``examples`` are not asked again."""

    count: int = 3
    characters: int = 1200
    language: str = "auto"
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drafted:
    """``refused``: reason → drafts; ``earlier``: passages that an earlier run had asked about."""

    file: str
    documents: int
    passages: int
    earlier: int
    asked: int
    kept: int
    refused: dict[str, int]
    unreadable: dict[str, str] = field(default_factory=dict)


def find_teacher(model: str | None, server: str | None) -> Teacher:
    """The teacher by its name in Ollama, or at an OpenAI-compatible address. Raises an error that says what is needed."""
    address = server or (model if model and model.startswith(("http://", "https://")) else None)
    if address is not None:
        return _teacher_at(address, None if model == address else model)
    if model is None:
        raise RecipeError(_("draft needs a teacher: a model that writes the examples"), fix=_what_is_needed())
    ollama = find_ollama()
    if ollama is None:
        raise ServiceError(_("no teacher: Ollama does not answer, and no --server is given"), fix=_what_is_needed())
    names = ollama.models()
    if model not in names and f"{model}:latest" not in names:
        close = difflib.get_close_matches(model, names, n=1)
        what = _("Ollama at {address} has no model {model}").format(address=ollama.address, model=model)
        raise ServiceError(
            what + (_("; did you mean '{name}'?").format(name=close[0]) if close else ""), fix=f"ollama pull {model}"
        )

    def ask(messages: Sequence[Message]) -> str:
        return ollama.chat(model, messages, MOST_TOKENS).text

    return Teacher(model, ollama.address, not is_local(ollama.address), ask)


def _teacher_at(address: str, model: str | None) -> Teacher:
    server = OpenAI.at(address)
    names = server.models() if model is None else [model]
    if len(names) != 1:
        raise RecipeError(
            _("{address} has {count} models: {names}").format(
                address=server.address, count=len(names), names=", ".join(names[:20])
            ),
            fix=_("choose one with --model NAME"),
        )

    def ask(messages: Sequence[Message]) -> str:
        return server.chat(names[0], messages, MOST_TOKENS).text

    return Teacher(names[0], server.address, not is_local(server.address), ask)


def _what_is_needed() -> str:
    return _(
        "give one of these:\n"
        "a model of Ollama:   ollama pull qwen3:8b, then: afina draft DOCS --model qwen3:8b\n"
        "any server that speaks as OpenAI's API does:   afina draft DOCS --server http://127.0.0.1:8090/v1 --model NAME\n"
        "(its key goes into AFINA_API_KEY)"
    )


def draft(documents: Sequence[str], teacher: Teacher, out: Path, wanted: Wanted, events: Events) -> Drafted:
    """Asks the teacher about each passage that was not asked about yet, and appends what passes the checks to ``out``."""
    paths = find_documents(documents)
    chunks, unreadable = _read(paths, wanted.characters, events)
    for path in passed_over(documents):
        events.info(STAGE, _("not a document, passed over: {path}").format(path=path))
    rows = _rows(out)
    asked = _asked(out) | {_key(str(row.get("passage"))) for row in rows}
    known = [threes(str(row.get("prompt"))) for row in rows] + _existing(wanted.examples, events)
    todo = [one for one in chunks if _key(one.text) not in asked]
    earlier = len(chunks) - len(todo)
    events.emit(StageStarted(STAGE, _plan(len(chunks), len(paths) - len(unreadable), earlier, teacher, wanted)))
    start = time.monotonic()
    refused: Counter[str] = Counter()
    kept = 0
    replies = several(lambda one: _propose(one, teacher, wanted), todo, at_once(teacher.place))
    for done, (one, (drafts, reasons)) in enumerate(zip(todo, replies, strict=True), 1):
        passed: list[Draft] = []
        refused.update(reasons)
        for proposed in drafts:
            if reason := problem(proposed, one.text, known):
                refused[reason] += 1
            else:
                known.append(threes(proposed.question))
                passed.append(proposed)
        _append(out, [_row(each, one) for each in passed])
        _append(_asked_file(out), [{"passage": _key(one.text), "source": _source(one), "drafts": len(passed)}])
        kept += len(passed)
        events.emit(Progress(STAGE, _("passages"), done, len(todo), "", _("{count} drafts").format(count=kept)))
    seconds = time.monotonic() - start
    summary = _("{kept} drafts in {file}, {refused} refused").format(kept=kept, file=out, refused=sum(refused.values()))
    events.emit(StageFinished(STAGE, seconds, summary))
    return Drafted(
        *(str(out), len(paths) - len(unreadable), len(chunks), earlier, len(todo), kept, dict(refused.most_common())),
        unreadable=unreadable,
    )


def _plan(passages: int, documents: int, earlier: int, teacher: Teacher, wanted: Wanted) -> str:
    plan = _("{passages} passages of {documents} documents, up to {count} questions each, by {model} at {place}").format(
        passages=passages, documents=documents, count=wanted.count, model=teacher.name, place=teacher.place
    )
    if teacher.away:
        plan += _("; the passages are sent there, to another machine")
    if earlier:
        plan += _("; {count} passages were asked about earlier").format(count=earlier)
    return plan


def _read(paths: Sequence[Path], characters: int, events: Events) -> tuple[list[Chunk], dict[str, str]]:
    """The chunks of all documents that can be read, and why the others cannot."""
    chunks: list[Chunk] = []
    unreadable: dict[str, str] = {}
    fixes: list[str] = []
    for path in paths:
        try:
            document = read_document(path)
        except DataError as error:
            unreadable[str(path)] = error.what
            fixes.append(error.fix)
            events.warn(STAGE, f"{error.what}; {error.fix}")
            continue
        for notice in document.notices:
            events.info(STAGE, f"{path}: {notice}")
        pieces = list(chunk(document, characters))
        short = sum(len(piece.text) < LEAST_PASSAGE for piece in pieces)
        if short:
            events.info(STAGE, _("{path}: {count} passages are too short to ask about").format(path=path, count=short))
        chunks += [piece for piece in pieces if len(piece.text) >= LEAST_PASSAGE]
    if not chunks:
        raise DataError(
            "\n".join(unreadable.values()) or _("the documents hold no passage long enough to ask about"),
            fix="\n".join(dict.fromkeys(fixes)) or _("give longer documents"),
        )
    return chunks, unreadable


def _propose(one: Chunk, teacher: Teacher, wanted: Wanted) -> tuple[list[Draft], list[str]]:
    """The teacher's drafts for a passage, or why there are none; after a reply that cannot be read it is asked once more, with
    the reason.
    """
    asked = request(one, wanted.count, wanted.language)
    for _attempt in (1, 2):
        try:
            reply = teacher.ask(asked)
        except DataError:
            return [], [_("the passage is too long for the teacher")]
        try:
            return parse(reply)[: wanted.count], []
        except BrokenJsonError as error:
            asked = request_again(asked, reply, error.reason)
    return [], [_("a reply that is not the list asked for")]


def _row(one: Draft, of: Chunk) -> dict[str, str]:
    return {"status": STATUS, "prompt": one.question, "answer": one.answer, "source": _source(of), "passage": of.text}


def _source(of: Chunk) -> str:
    return ", ".join(part for part in (of.document, of.place) if part)


def _key(passage: str) -> str:
    return sha256_of_text(passage)[:16]


def _asked_file(out: Path) -> Path:
    return out.with_name(f"{out.name}.asked")


def _asked(out: Path) -> set[str]:
    """Keys of the passages that were asked about; a line cut by a crash counts as not asked."""
    path = _asked_file(out)
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return set(re.findall(r'^\{"passage": "([0-9a-f]+)".*\}$', text, re.MULTILINE))


def _append(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Adds whole lines, on the disk before anything else happens."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8", "backslashreplace")
    with path.open("a+b") as file:
        if file.tell() and lines:
            file.seek(-1, os.SEEK_END)
            lines = lines if file.read() == b"\n" else b"\n" + lines  # an editor left the last line open
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of drafts, as an earlier run and the person who read it left it."""
    rows: list[dict[str, Any]] = []
    lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise DataError(
                _("{place} is not a row of drafts").format(place=f"{path}:{number}"),
                fix=_("mend or delete that line, or name another file with --out"),
            )
        rows.append(row)
    return rows


def _existing(files: Sequence[str], events: Events) -> list[frozenset[str]]:
    """What the examples that are there already ask."""
    if not files:
        return []
    reader = Reader(tuple(files), Data(examples=tuple(files)), None, events)
    return [
        threes(message.content)
        for item in reader.items()
        if isinstance(item, Conversation)
        for message in item.messages
        if message.role == "user"
    ]
