"""From the files of a recipe to conversations, with every row that is not used and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from afina.core.errors import DataError
from afina.core.events import Events, Progress
from afina.core.translation import _
from afina.data.conversation import Conversation, Finding
from afina.data.read.files import TextFile, find_files, read_texts
from afina.data.read.records import Item, Record, Records, read_records
from afina.data.read.shapes import Choice, choose_shape, converse, knows
from afina.data.split import rank
from afina.recipe.recipe import Columns, Data

_STAGE = "prepare"
_FIRST_ROWS = 50  # rows that decide on a file's shape
_SHOWN = 5  # refused rows that an error names


@dataclass(frozen=True)
class FileReading:
    """What was found in one file. ``rows`` = ``conversations`` + ``refused``; ``reason`` says why it is read in this shape."""

    path: Path
    kind: str
    shape: str
    reason: str
    rows: int
    conversations: int
    refused: int


@dataclass(frozen=True)
class Reading:
    """All conversations in the order of the files (``data.limit`` of them where it is set), and all refused rows."""

    conversations: tuple[Conversation, ...]
    refusals: tuple[Finding, ...]
    files: tuple[FileReading, ...]


def read_examples(data: Data, system: str | None, events: Events) -> Reading:
    """The examples that the recipe names. ``system`` stands in front of rows without a system message.

    Tells by events which shape was chosen for each file and why, and how many rows are refused. Raises DataError where a
    file cannot be used as a whole, or where more than ``data.max_broken`` of all rows are refused.
    """
    texts = read_texts(find_files(data.examples))
    conversations: list[Conversation] = []
    refusals: list[Finding] = []
    files: list[FileReading] = []
    for number, text in enumerate(texts, start=1):
        file, accepted, refused = _read_file(text, data.map, system, events)
        files.append(file)
        conversations += accepted
        refusals += refused
        events.emit(Progress(_STAGE, _("reading"), number, len(texts), _("files")))
    _check_share(len(conversations), refusals, data.max_broken)
    if refusals:
        events.warn(_STAGE, _refused_text(len(conversations), refusals))
    chosen = _limited(conversations, data, events)
    return Reading(tuple(chosen), tuple(refusals), tuple(files))


def _read_file(
    file: TextFile, columns: Columns | None, system: str | None, events: Events
) -> tuple[FileReading, list[Conversation], list[Finding]]:
    records = read_records(file, lambda keys: knows(keys, columns))
    first = _first_items(records)
    values = [(item.source, item.value) for item in first if isinstance(item, Record)]
    if not first:
        raise DataError(_("{path} holds no rows").format(path=file.path), fix=_("give a file with examples in it"))
    choice = choose_shape(values, columns) if values else None  # None: not one row can be read
    conversations: list[Conversation] = []
    refusals: list[Finding] = []
    for item in chain(first, records.items):
        found = converse(item.value, item.source, choice, system) if isinstance(item, Record) and choice else item
        if isinstance(found, Conversation):
            conversations.append(found)
        elif isinstance(found, Finding):
            refusals.append(found)
    reading = FileReading(
        path=file.path,
        kind=records.kind,
        shape=choice.shape.name if choice else "",
        reason=choice.reason if choice else "",
        rows=len(conversations) + len(refusals),
        conversations=len(conversations),
        refused=len(refusals),
    )
    if choice:
        events.info(_STAGE, _chosen_text(reading, choice, records))
    return reading, conversations, refusals


def _first_items(records: Records) -> list[Item]:
    """Items up to the one that makes the rows enough to decide on; all of them where there are fewer."""
    items: list[Item] = []
    rows = 0
    for item in records.items:
        items.append(item)
        rows += isinstance(item, Record)
        if rows == _FIRST_ROWS:
            break
    return items


def _check_share(kept: int, refusals: Sequence[Finding], limit: float) -> None:
    rows = kept + len(refusals)
    share = len(refusals) / rows
    if kept and share <= limit:
        return
    shown = [f"  {refusal.source}: {refusal.reason} ({refusal.check})" for refusal in refusals[:_SHOWN]]
    if len(refusals) > _SHOWN:
        shown.append(
            _("  … and {count} more; all by check: {checks}").format(count=len(refusals) - _SHOWN, checks=_by_check(refusals))
        )
    what = _("{refused} of {rows} rows cannot be used ({share}; data.max_broken allows {limit})").format(
        refused=len(refusals), rows=rows, share=_percent(share), limit=_percent(limit)
    )
    if not kept:
        raise DataError("\n".join([what, *shown]), fix=_("mend the rows named above: not one can be learned from"))
    enough = math.ceil(share * 100) / 100
    fix = _("mend the rows named above, or go on without them: --set data.max_broken={enough:g}").format(enough=enough)
    raise DataError("\n".join([what, *shown]), fix=fix)


def _limited(conversations: Sequence[Conversation], data: Data, events: Events) -> list[Conversation]:
    """``data.limit`` conversations, chosen by their hashes and left in their order."""
    if data.limit is None:
        return list(conversations)
    if data.limit > len(conversations):
        text = _("data.limit is {limit}, but there are only {count} examples")
        events.info(_STAGE, text.format(limit=data.limit, count=len(conversations)))
    ranks = [rank(conversation.messages, data.split.seed, "limit") for conversation in conversations]
    places = sorted(range(len(conversations)), key=lambda place: (ranks[place], place))[: data.limit]
    return [conversations[place] for place in sorted(places)]


# ── what the user is told ─────────────────────────────────────────────────────────────────────────────────────────────


def _chosen_text(reading: FileReading, choice: Choice, records: Records) -> str:
    kind = records.kind.upper() + (_(" with {delimiter!r}").format(delimiter=records.delimiter) if records.delimiter else "")
    text = _("{path}: {kind}, read as {shape}: {reason}; {kept} of {rows} rows are conversations").format(
        path=reading.path,
        kind=kind,
        shape=reading.shape,
        reason=reading.reason,
        kept=reading.conversations,
        rows=reading.rows,
    )
    return text + (_("; not used: {keys}").format(keys=", ".join(map(repr, choice.unused))) if choice.unused else "")


def _refused_text(kept: int, refusals: Sequence[Finding]) -> str:
    return _("{refused} of {rows} rows are left out: {checks}; the first is {place} ({reason})").format(
        refused=len(refusals),
        rows=kept + len(refusals),
        checks=_by_check(refusals),
        place=refusals[0].source,
        reason=refusals[0].reason,
    )


def _by_check(refusals: Sequence[Finding]) -> str:
    counts = Counter(refusal.check for refusal in refusals)
    return ", ".join(f"{check} {count}" for check, count in counts.most_common())


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
