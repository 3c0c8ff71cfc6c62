"""Advise: whether to fine-tune at all, from the examples and documents alone, in seconds and before any base is fetched.

Where the run is prepared from the same files, what it kept is read. Else the rows are read and checked here, without what needs a
tokenizer (rows that are too long) or compares all rows with each other (near duplicates).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from afina.compare import advice
from afina.compare.advice import Advice, advise, observe
from afina.compare.figure import Example, Figure, Shown
from afina.core.collector import seldom_collected
from afina.core.errors import DataError, RecipeError
from afina.core.events import Events, Progress
from afina.core.run import RunFolder
from afina.core.translation import _
from afina.data.clean.checks import actions
from afina.data.clean.row import Cleaner
from afina.data.conversation import Conversation, Finding, Preference
from afina.data.documents.chunks import chunk
from afina.data.documents.document import Chunk
from afina.data.documents.find import find_documents
from afina.data.documents.read import read_document
from afina.data.duplicates import digest, keys
from afina.data.findings import FILE as FINDINGS
from afina.data.read.examples import Reader
from afina.data.read.files import paths_of
from afina.data.store import SIDES, load_conversations
from afina.recipe.recipe import Recipe
from afina.stages import fingerprint
from afina.stages.prepare import CHUNKS, require_readable
from afina.stages.prepare import NAME as PREPARE

NAME = "advise"
MOST = 5_000  # examples that are looked at: a share is then right to 1.4 points
_TOLD_EVERY = 1000
_SHOWN = 3  # rows left out that the figure shows


@dataclass(frozen=True)
class Seen:
    """What was counted. ``good`` examples can be learned from; ``prepared``: they are those that the run's preparation kept.

    ``longest`` example and all of them together, in characters.
    """

    good: int
    figures: tuple[Figure, ...]
    prepared: bool
    longest: int
    characters: int


@dataclass
class _Found:
    """What reading came to so far."""

    rows: int = 0
    good: int = 0
    kept: list[tuple[int, Conversation]] = field(default_factory=list)  # with a hash of what is asked
    dropped: Counter[str] = field(default_factory=Counter)
    first: list[Shown] = field(default_factory=list)

    def drop(self, finding: Finding) -> None:
        self.dropped[finding.check] += 1
        if self.dropped[finding.check] == 1 and len(self.first) < _SHOWN:
            self.first.append(Shown(str(finding.source), f"{finding.check}: {finding.reason}"))

    def keep(self, asked: int, conversation: Conversation, most: int) -> None:
        """Of more than ``most`` those whose questions have the lowest hashes: all rows of one question, or none."""
        self.good += 1
        self.kept.append((asked, conversation))
        if len(self.kept) >= 2 * most:
            self.thin_out(most)

    def thin_out(self, most: int) -> None:
        if len(self.kept) > most:
            limit = sorted(asked for asked, _conversation in self.kept)[most - 1]
            self.kept = [pair for pair in self.kept if pair[0] <= limit]


def look(recipe: Recipe, run: RunFolder, events: Events) -> Seen:
    """Reads and counts. Raises DataError where a file cannot be used, or where no example is left."""
    files = require_readable(recipe.data)
    documents = find_documents(recipe.data.documents)
    prepared = _is_prepared(recipe, run, paths_of(files), documents)
    with seldom_collected():
        found = _read_prepared(run) if prepared else _read(recipe, events)
    if not found.kept:
        told = "\n".join(f"  {row.place}: {row.text}" for row in found.first)
        raise DataError(
            _("no example is left of {count} rows").format(count=found.rows) + (f"\n{told}" if told else ""),
            fix=_("give examples with a question and an answer each; see: afina prepare"),
        )
    chunks = list(_prepared_chunks(run) if prepared and documents else _chunks(documents, recipe.data.chunk_characters, events))
    examples = [Example.of(conversation) for _asked, conversation in found.kept]
    good = found.good if recipe.data.limit is None else min(found.good, recipe.data.limit)
    dropped = ", ".join(f"{check} {count}" for check, count in found.dropped.most_common())
    values: dict[str, str | int] = {"looked_at": len(examples), "dropped": dropped}
    count = Figure("examples", good, found.rows, (), tuple(found.first), values)
    lengths = [sum(len(message.content) for message in conversation.messages) for _asked, conversation in found.kept]
    characters = sum(lengths) * good // len(lengths)
    return Seen(good, (count, *observe(examples, chunks)), prepared, max(lengths), characters)


def conclude(seen: Seen, answers: Mapping[str, str]) -> Advice:
    """The verdict on what was seen, with these answers to ``questions()``."""
    return advise(seen.figures, seen.good, answers)


def answers_of(recipe: Recipe) -> dict[str, str]:
    """What the recipe says about what data cannot tell."""
    settings = recipe.advise
    return {"facts_change": settings.facts_change, "prompt_budget": settings.prompt_budget, "runs_on": settings.runs_on}


def unanswered(answers: Mapping[str, str]) -> list[str]:
    return [key for key, answer in answers.items() if answer == advice.UNKNOWN]


# ── examples ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read(recipe: Recipe, events: Events) -> _Found:
    """The examples of the recipe's files that pass the checks of their rows, none twice."""
    data = recipe.data
    chosen = actions(data.checks, data.redact)
    cleaner = Cleaner(chosen, data.split.seed)
    found = _Found()
    known: dict[int, str] = {}
    as_ours = Events(listeners=(lambda event: events.emit(replace(event, stage=NAME)),))  # the reader speaks as prepare does
    reader = Reader((*data.examples, *data.val, *data.test), data, recipe.system, as_ours)
    for item in reader.items():
        if isinstance(item, Preference):
            found.rows += 1
            found.drop(Finding(item.source, "preference", _("a pair of answers to choose between")))
            continue
        if isinstance(item, Finding):
            found.rows += item.done == "dropped"
            if item.done == "dropped":
                found.drop(item)
            continue
        found.rows += 1
        cleaned, findings = cleaner.clean(item)
        if cleaned is None:
            found.drop(findings[0])
            continue
        hashes = keys(cleaned)
        first = known.setdefault(hashes.whole, str(item.source))
        if first != str(item.source) and chosen["duplicate"] == "drop":
            found.drop(Finding(item.source, "duplicate", _("the same as {place}").format(place=first)))
            continue
        found.keep(digest(str(hashes.prompt)), cleaned, MOST)
        if found.rows % _TOLD_EVERY == 0:
            events.emit(Progress(NAME, _("examples"), found.rows, 0, _("rows")))
    found.thin_out(MOST)
    return found


def _is_prepared(recipe: Recipe, run: RunFolder, files: Sequence[Path], documents: Sequence[Path]) -> bool:
    """Whether the run has a finished preparation of these files with these settings of the data."""
    manifest = run.manifest(PREPARE)
    if manifest is None or not run.recipe_path.is_file():
        return False
    try:
        before = Recipe.load(run.recipe_path)
    except RecipeError:  # of another version
        return False
    same_files = manifest.inputs.get("examples") == fingerprint.of_files(files)
    same_documents = manifest.inputs.get("documents") == fingerprint.of_files(documents)
    return same_files and same_documents and (before.data, before.system) == (recipe.data, recipe.system)


def _read_prepared(run: RunFolder) -> _Found:
    """What the run's preparation kept, on all sides, and what it left out."""
    folder = run.stage(PREPARE)
    found = _Found(dropped=Counter(run.require(PREPARE).result["dropped"]))
    for side in SIDES:
        for conversation in load_conversations(folder, side):
            found.keep(digest(str(keys(conversation).prompt)), conversation, MOST)
    found.thin_out(MOST)
    found.rows = found.good + found.dropped.total()
    told: set[str] = set()
    with (folder / FINDINGS).open(encoding="utf-8") as lines:
        for line in lines:
            finding = json.loads(line)
            if finding["done"] == "dropped" and finding["check"] not in told and len(told) < _SHOWN:
                told.add(finding["check"])
                found.first.append(Shown(finding["source"], f"{finding['check']}: {finding['reason']}"))
    return found


# ── documents ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _prepared_chunks(run: RunFolder) -> Iterator[Chunk]:
    with (run.stage(PREPARE) / CHUNKS).open(encoding="utf-8") as lines:
        for line in lines:
            yield Chunk(**json.loads(line))


def _chunks(documents: Sequence[Path], characters: int, events: Events) -> Iterator[Chunk]:
    """The chunks of the documents that can be read; of the others it is told why not."""
    for number, path in enumerate(documents, 1):
        try:
            yield from chunk(read_document(path), characters)
        except DataError as error:
            if len(documents) == 1:
                raise
            events.warn(NAME, f"{error.what}; {_('what to do')}: {error.fix}")
        events.emit(Progress(NAME, _("documents"), number, len(documents), _("files")))
