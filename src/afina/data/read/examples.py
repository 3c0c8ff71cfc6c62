"""From the files of a recipe to conversations, one at a time, with every row that is not used and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, groupby

from afina.core.events import Events, Progress
from afina.core.translation import _
from afina.data.clean.personal import mask
from afina.data.conversation import Conversation, Finding, Preference
from afina.data.read.chats import read_chat, read_slack, recognise_chat
from afina.data.read.encoding import decode
from afina.data.read.files import PassedOver, look
from afina.data.read.item import LONGEST_TEXT, BrokenFileError, Item, NoExamplesError, Record, Records, broken
from afina.data.read.records import open_records
from afina.data.read.shapes import Choice, choose_shape, converse, knows, recognise
from afina.data.read.unpack import InputFile, whole
from afina.recipe.recipe import Data, FileList

_STAGE = "prepare"
_FIRST_ROWS = 50  # rows that decide on a file's shape
_TOLD = 20  # files of which each is told; the others are summed up
_NAMED = 5  # files passed over that a notice names
_MASKED = 2000  # characters of it that are looked through for personal data before it is cut
_SAMPLE = 120  # characters of a question or an answer that a sample shows

_CHATS = {"whatsapp": "WhatsApp", "telegram": "Telegram", "slack": "Slack"}

Found = Conversation | Preference | Finding


@dataclass(frozen=True)
class FileReading:
    """What was found in one file or sheet: ``rows`` = ``conversations`` + ``preferences`` + ``dropped``.

    ``reason`` says why it is read in this shape; ``sample`` is its first conversation, masked and shortened.
    """

    name: str
    kind: str
    shape: str
    reason: str
    encoding: str
    rows: int
    conversations: int
    preferences: int
    dropped: int
    sample: str = ""


class Reader:
    """Reads the files of ``entries`` once. ``files`` grows by each file that has been read to its end.

    ``system`` stands in front of rows without a system message. Tells by events which shape was chosen for each file and why,
    and what lies in folders and archives and is not read.
    """

    def __init__(self, entries: FileList, data: Data, system: str | None, events: Events) -> None:
        """Raises DataError with every file that is not there or cannot be read."""
        found = look(entries)
        self._inputs, self._passed_over = found.files, list(found.passed_over)
        self._map, self._system, self._events = data.map, system, events
        self._group_by = "" if data.split.by == "auto" else data.split.by
        self.files: list[FileReading] = []

    def items(self) -> Iterator[Found]:
        """Conversations and preferences in the order of the files, and what was found wrong with rows.

        Raises DataError where a file cannot be used as a whole.
        """
        for number, file in enumerate(self._inputs, start=1):
            if file.parts:
                yield from self._slack(file)
            else:
                yield from self._file(file)
            if len(self._inputs) > 1:
                self._events.emit(Progress(_STAGE, _("reading"), number, len(self._inputs), _("files")))
        self._tell_the_rest()

    def _file(self, file: InputFile) -> Iterator[Found]:
        columns = (file.settings and file.settings.map) or self._map
        read = len(self.files)
        try:
            records = open_records(file, lambda keys: knows(keys, columns))
            if records.kind == "text":
                yield from self._chat(file, records)
                return
            rows = _with_its_break(records.items) if file.sought else records.items
            for name, items in groupby(rows, lambda item: item.source.file):  # a workbook has several tables
                yield from self._table(file, name, items, records)
            if len(self.files) == read:
                raise NoExamplesError(_("{path} holds no rows").format(path=file.name), fix=_("give a file with examples in it"))
        except NoExamplesError as error:
            if not file.sought:
                raise
            reason = error.what.removeprefix(file.name).removeprefix(":1:").strip()
            self._passed_over.append(PassedOver(file.name, reason, is_loss=True))
            return
        for note in records.notes:
            self._events.info(_STAGE, note if note.startswith(file.name) else f"{file.name}: {note}")

    def _table(self, file: InputFile, name: str, items: Iterator[Item], records: Records) -> Iterator[Found]:
        """The rows of one table, read in the way that its first ones decide on."""
        has_columns = records.kind != "markdown"  # there the names are ours
        columns = ((file.settings and file.settings.map) or self._map) if has_columns else None
        group_by = self._group_by if has_columns else ""
        first: list[Record] = []
        counts: Counter[type] = Counter()
        dropped = 0
        for item in items:
            if isinstance(item, Finding):
                dropped += 1
                yield item
                continue
            first.append(item)
            if len(first) == _FIRST_ROWS:
                break
        if not first:
            self._add(FileReading(name, records.kind, "", "", records.encoding, dropped, 0, 0, dropped), records, None)
            return
        if file.sought and records.kind in ("json", "yaml") and len(first) == 1 and recognise(first[0].value) is None:
            raise NoExamplesError(_("one object, and no example"), fix=_("name the file, and say in the recipe how it is read"))
        choice = choose_shape([(item.source, item.value) for item in first], columns, group_by)
        sample = ""
        notes: list[Finding] = []
        for item in chain(first, items):
            found = (
                item if isinstance(item, Finding) else converse(item.value, item.source, choice, self._system, group_by, notes)
            )
            counts[type(found)] += 1
            if not sample and isinstance(found, Conversation):
                sample = _sample(found)
            yield found
            if notes:
                yield from notes
                notes.clear()
        reading = FileReading(
            name=name,
            kind=records.kind,
            shape=choice.shape.name,
            reason=choice.reason,
            encoding=records.encoding,
            rows=counts.total() + dropped,
            conversations=counts[Conversation],
            preferences=counts[Preference],
            dropped=counts[Finding] + dropped,
            sample=sample,
        )
        self._add(reading, records, choice)

    # ── chats ──

    def _chat(self, file: InputFile, records: Records) -> Iterator[Found]:
        text = "".join(item.value for item in records.items if isinstance(item, Record))
        kind = recognise_chat(file.name, text)
        if kind is None:  # its beginning is a chat's only where bytes that are no letters are left out of sight
            raise NoExamplesError(
                _("{path}: its letters cannot be read as a chat's").format(path=file.name),
                fix=_("export it again, or say in the recipe how it is written: encoding: cp1252"),
            )
        person = file.settings.person if file.settings else None
        reading = FileReading(file.name, kind, _CHATS[kind], "", records.encoding, 0, 0, 0, 0)
        yield from self._counted(reading, read_chat(kind, file.name, text, person, self._system))

    def _slack(self, file: InputFile) -> Iterator[Found]:
        texts = {}
        for part in file.parts:
            below = (file.path / part, "") if file.path.is_dir() else (file.path, part)
            data = whole(replace(file, path=below[0], member=below[1], name=f"{file.name}/{part}"), LONGEST_TEXT)
            texts[part] = decode(data, file.settings.encoding if file.settings else None)[0]
        person = file.settings.person if file.settings else None
        reading = FileReading(file.name, "slack", _CHATS["slack"], "", "utf-8", 0, 0, 0, 0)
        yield from self._counted(reading, read_slack(file.name, texts, person, self._system))

    def _counted(self, reading: FileReading, found: Iterator[Conversation | Finding]) -> Iterator[Found]:
        conversations, dropped, sample = 0, 0, ""
        for item in found:
            conversations += isinstance(item, Conversation)
            dropped += isinstance(item, Finding) and item.done == "dropped"
            if not sample and isinstance(item, Conversation):
                sample = _sample(item)
            yield item
        reason = _("it is a chat; a conversation ends at a silence of three hours")
        done = replace(
            reading, reason=reason, rows=conversations + dropped, conversations=conversations, dropped=dropped, sample=sample
        )
        self._add(done, None, None)

    # ── what the user is told ──

    def _add(self, reading: FileReading, records: Records | None, choice: Choice | None) -> None:
        self.files.append(reading)
        if len(self.files) <= _TOLD and reading.shape:
            self._events.info(_STAGE, _chosen_text(reading, records, choice))

    def _tell_the_rest(self) -> None:
        if more := self.files[_TOLD:]:
            text = _("{count} more files: {kept} of {rows} rows are conversations")
            kept, rows = sum(file.conversations for file in more), sum(file.rows for file in more)
            self._events.info(_STAGE, text.format(count=len(more), kept=kept, rows=rows))
        for tell, is_loss in ((self._events.warn, True), (self._events.info, False)):
            passed = [file for file in self._passed_over if file.is_loss == is_loss]
            named = ", ".join(f"{file.name} ({file.reason})" for file in passed[:_NAMED])
            if len(passed) > _NAMED:
                named += _(" and {count} more").format(count=len(passed) - _NAMED)
            if passed:
                tell(_STAGE, _("not read: {files}").format(files=named))


def _with_its_break(items: Iterator[Item]) -> Iterator[Item]:
    """The rows of a file that a folder or a pattern named; where it breaks off, that is found like a broken row."""
    try:
        yield from items
    except BrokenFileError as error:
        yield broken(error.source, _("{reason}; nothing behind it in this file is read").format(reason=error.reason))


def _chosen_text(reading: FileReading, records: Records | None, choice: Choice | None) -> str:
    kind = (
        reading.kind.upper()
        if reading.kind in ("jsonl", "json", "csv", "yaml")
        else _CHATS.get(reading.kind, reading.kind.title())
    )
    kind += _(" with {delimiter!r}").format(delimiter=records.delimiter) if records and records.delimiter else ""
    text = _("{path}: {kind}, read as {shape}: {reason}; {kept} of {rows} rows are conversations").format(
        path=reading.name,
        kind=kind,
        shape=reading.shape,
        reason=reading.reason,
        kept=reading.conversations,
        rows=reading.rows,
    )
    if reading.preferences:
        text += _(", {count} preference pairs").format(count=reading.preferences)
    if choice and choice.unused:
        text += _("; not used: {keys}").format(keys=", ".join(map(repr, choice.unused)))
    return mask(text)


def _sample(conversation: Conversation) -> str:
    """The first question and its answer, on one line each."""
    turns = [message for message in conversation.messages if message.role != "system"][:2]
    return "\n".join(f"{turn.role}: {_short(mask(turn.content[:_MASKED]))}" for turn in turns)


def _short(text: str) -> str:
    line = " ".join(text[: 4 * _SAMPLE].split())
    return line if len(line) <= _SAMPLE else line[: _SAMPLE - 1] + "…"
