"""Chats as WhatsApp, Telegram and Slack export them: one person's messages become the answers.

A chat is cut into sessions at each silence of three hours. In a session what one side says in a row makes one turn, line below
line; it begins with the others and ends with the person. Where several others speak, each line of theirs begins with its name.
What a session holds before the first question or behind the last answer is left out and told, as is whatever has no text.
"""

from __future__ import annotations

import difflib
import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Conversation, Finding, Message, Source
from afina.data.read.row import BROKEN_ROW, NO_ANSWER, NOT_TEXT, ROLE_ORDER, is_blank, is_whole
from afina.data.read.strict_json import BrokenJsonError, parse_json
from afina.data.read.whatsapp import is_whatsapp, read_whatsapp

ChatKind = Literal["whatsapp", "telegram", "slack"]

SILENCE = timedelta(hours=3)
_PERSONS_SHOWN = 20
_SAMPLE = 20_000  # characters that decide what a file is
_DAY = re.compile(r"\d{4}-\d\d-\d\d\.json")
_MARKUP = re.compile(r"<([@#!]?)([^<>|]*)(?:\|([^<>]*))?>")  # Slack: <@U12>, <#C12|general>, <https://…|here>
_TELEGRAM_MARK = re.compile(r'"id":\s?(\d+)')
_SLACK_MARK = re.compile(r'"ts":\s?"([\d.]+)"')
_USERS = ("users.json", "org_users.json")


@dataclass(frozen=True)
class Said:
    """One message. ``text`` is empty where it was a picture, a sound or a file."""

    line: int
    file: str
    time: datetime
    person: str
    text: str


@dataclass(frozen=True)
class Chat:
    """What is said in one place. A thread is one session, however long its silences are."""

    title: str
    messages: list[Said]
    is_thread: bool = False


def recognise_chat(name: str, text: str) -> ChatKind | None:
    """What kind of chat a file is, by its name and what stands in it; None where it is no chat."""
    start = text[:_SAMPLE].lstrip("\ufeff \t\r\n")
    if start.startswith("{"):
        telegram = '"messages"' in start and ('"from_id"' in start or '"date_unixtime"' in start or '"actor_id"' in start)
        return "telegram" if telegram else None
    if is_whatsapp(start):
        return "whatsapp"
    slack = start.startswith("[") and _DAY.fullmatch(PurePosixPath(name).name) and '"ts"' in start and '"type"' in start
    return "slack" if slack else None


def is_slack_export(names: Iterable[str]) -> bool:
    """Whether a folder or an archive with these members is an export of Slack: users, and a file a day in each channel."""
    paths = [PurePosixPath(name) for name in names]
    return any(path.name in _USERS for path in paths) and any(_DAY.fullmatch(path.name) for path in paths)


def read_chat(kind: ChatKind, name: str, text: str, person: str | None, system: str | None) -> Iterator[Conversation | Finding]:
    """The conversations of one file, sessions in their order; then what was left out of them.

    ``person``: whose messages are the answers. Raises DataError where it is missing or not in the chat (it lists who is), or
    where the file cannot be read.
    """
    if kind == "slack":
        return read_slack(name, {name: text}, person, system)
    if kind == "telegram":
        return _conversations(name, _telegram(name, text), person, system)
    said = [Said(line, name, time, who, what) for line, time, who, what in read_whatsapp(text)]
    return _conversations(name, [Chat(PurePosixPath(name).stem, said)], person, system)


def read_slack(name: str, members: Mapping[str, str], person: str | None, system: str | None) -> Iterator[Conversation | Finding]:
    """As ``read_chat``, of an export of Slack: the texts of ``users.json`` and of each ``channel/2024-01-31.json``, by path.

    A thread is a session of its own; what programs say, and notices that somebody joined, are no messages.
    """
    users: dict[str, str] = {}
    for path, text in members.items():
        if PurePosixPath(path).name in _USERS:
            users |= _slack_users(_json(path, text))
    chats: dict[str, Chat] = {}
    for path in sorted(members):
        if not _DAY.fullmatch(PurePosixPath(path).name):
            continue
        file = path if path == name else f"{name}/{path}"
        channel = PurePosixPath(path).parent.name or PurePosixPath(name).stem
        for thread, said in _slack_day(file, members[path], users):
            title = f"{channel} {thread}" if thread else channel
            chats.setdefault(title, Chat(title, [], bool(thread))).messages.append(said)
    return _conversations(name, list(chats.values()), person, system)


# ── from messages to conversations ────────────────────────────────────────────────────────────────────────────────────


def _conversations(name: str, chats: Sequence[Chat], person: str | None, system: str | None) -> Iterator[Conversation | Finding]:
    counts = Counter(said.person for chat in chats for said in chat.messages if not is_blank(said.text))
    return _sessions(chats, _speaker(name, counts, person), system)


def _sessions(chats: Sequence[Chat], person: str, system: str | None) -> Iterator[Conversation | Finding]:
    without_text: list[Said] = []
    one_sided: list[Said] = []
    cut_off: list[Said] = []
    for chat in chats:
        spoken = [said for said in chat.messages if not is_blank(said.text)]
        without_text += [said for said in chat.messages if is_blank(said.text)]
        others = {said.person for said in spoken} - {person}
        for session in [spoken] if chat.is_thread and spoken else _cut_at_silence(spoken):
            first = next((at for at, said in enumerate(session) if said.person != person), len(session))
            last = max((at for at, said in enumerate(session) if said.person == person), default=-1)
            if last < first:
                one_sided.append(session[0])
                continue
            cut_off += [*session[:first], *session[last + 1 :]]
            kept = session[first : last + 1]
            source = Source(kept[0].file, kept[0].line)
            turns = _turns(kept, person, named=len(others) > 1)
            if not all(is_whole(turn.content) for turn in turns):
                yield Finding(source, BROKEN_ROW, _("a message has half of a surrogate pair, which is no character"))
                continue
            before = (Message("system", system),) if system else ()
            yield Conversation((*before, *turns), source, group=f"{chat.title} {kept[0].time:%Y-%m-%d %H:%M}")
    yield from _left_out(without_text, NOT_TEXT, _("messages without text (pictures, sounds, files) are left out: {count}"))
    yield from _left_out(one_sided, NO_ANSWER, _("sessions in which only one side speaks are left out: {count}"))
    reason = _("messages before the first question or behind the last answer of a session are left out: {count}")
    yield from _left_out(cut_off, ROLE_ORDER, reason)


def _left_out(messages: Sequence[Said], check: str, reason: str) -> Iterator[Finding]:
    if messages:
        yield Finding(Source(messages[0].file, messages[0].line), check, reason.format(count=len(messages)), "changed")


def _cut_at_silence(messages: Sequence[Said]) -> Iterator[list[Said]]:
    session: list[Said] = []
    for said in messages:
        if session and said.time - session[-1].time >= SILENCE:
            yield session
            session = []
        session.append(said)
    if session:
        yield session


def _turns(messages: Sequence[Said], person: str, *, named: bool) -> tuple[Message, ...]:
    """User and assistant in turn. ``named``: the others' lines begin with their names."""
    turns: list[tuple[bool, list[str]]] = []
    for said in messages:
        answers = said.person == person
        text = said.text if answers or not named else f"{said.person}: {said.text}"
        if turns and turns[-1][0] == answers:
            turns[-1][1].append(text)
        else:
            turns.append((answers, [text]))
    return tuple(Message("assistant" if answers else "user", "\n".join(texts)) for answers, texts in turns)


def _speaker(name: str, counts: Counter[str], person: str | None) -> str:
    """The person to imitate as the chat writes it."""
    if not counts:
        raise DataError(_("{path}: the chat holds no messages").format(path=name), fix=_("export it again, with its messages"))
    if person is not None:
        wanted = person.strip().casefold()
        if found := next((known for known in counts if known.casefold() == wanted), None):
            return found
    listed = ", ".join(f"{known} ({count})" for known, count in counts.most_common(_PERSONS_SHOWN))
    if len(counts) > _PERSONS_SHOWN:
        listed += _(" and {count} more").format(count=len(counts) - _PERSONS_SHOWN)
    if person is None:
        what = _("{path} is a chat, and the recipe does not say whose messages are the answers; there speak: {persons}")
        likely = max(reversed(counts), key=counts.__getitem__)  # who says most; of equals not the one who asked first
    else:
        what = _("{path}: nobody is called {person!r}; there speak: {persons}")
        by_name = {known.casefold(): known for known in counts}
        likely = by_name[(difflib.get_close_matches(person.casefold(), by_name, n=1) or list(by_name))[0]]
    fix = _("name the person in the recipe: data: {{examples: [{{files: {path}, person: {person}}}]}}")
    raise DataError(
        what.format(path=name, person=person, persons=listed),
        fix=fix.format(path=json.dumps(name, ensure_ascii=False), person=json.dumps(likely, ensure_ascii=False)),
    )


def _json(name: str, text: str) -> Any:
    try:
        return parse_json(text.lstrip("\ufeff"))
    except BrokenJsonError as error:
        line = 1 if error.position is None else text.count("\n", 0, error.position) + 1
        raise DataError(f"{name}:{line}: {error.reason}", fix=_("export the chat again")) from None


class _Lines:
    """The lines on which messages stand, by a mark that each has; they are asked for in their order."""

    def __init__(self, text: str, mark: re.Pattern[str]) -> None:
        self._text, self._position, self._line = text, 0, 1
        self._found = mark.finditer(text)

    def of(self, value: str) -> int:
        """The line of the next mark with this value; where there is none, that of the last mark."""
        for match in self._found:
            self._line += self._text.count("\n", self._position, match.start())
            self._position = match.start()
            if match[1] == value:
                break
        return self._line


# ── Telegram ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _telegram(name: str, text: str) -> list[Chat]:
    """The chats of a ``result.json``: of one chat, or of all."""
    export = _json(name, text)
    listed = export["chats"].get("list") if isinstance(export.get("chats"), dict) else [export]
    lines = _Lines(text, _TELEGRAM_MARK)
    chats: list[Chat] = []
    for chat in listed if isinstance(listed, list) else ():
        messages = chat.get("messages") if isinstance(chat, dict) else None
        if not isinstance(messages, list):
            continue
        title = str(chat.get("name") or chat.get("id") or PurePosixPath(name).stem)
        said: list[Said] = []
        for message in messages:
            if isinstance(message, dict) and message.get("type") == "message":
                line = lines.of(str(message.get("id")))
                sender = str(message.get("from") or message.get("from_id") or "?")
                said.append(Said(line, name, _telegram_time(message, name, line), sender, _telegram_text(message.get("text"))))
        chats.append(Chat(title, said))
    return chats


def _telegram_time(message: Mapping[str, Any], name: str, line: int) -> datetime:
    try:
        return datetime.fromisoformat(str(message.get("date"))).replace(tzinfo=UTC)
    except ValueError:
        raise DataError(
            _("{path}:{line}: a message has no date").format(path=name, line=line), fix=_("export the chat again")
        ) from None


def _telegram_text(value: Any) -> str:
    """A text, or a list of texts and of parts with a text (links, bold letters)."""
    parts = value if isinstance(value, list) else [value]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return "".join(text for text in texts if isinstance(text, str)).strip()


# ── Slack ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _slack_users(value: Any) -> dict[str, str]:
    users = {}
    for user in value if isinstance(value, list) else ():
        if isinstance(user, dict) and isinstance(user.get("id"), str):
            profile = user.get("profile")
            users[user["id"]] = _slack_name(profile if isinstance(profile, dict) else {}, user)
    return users


def _slack_name(profile: Mapping[str, Any], user: Mapping[str, Any]) -> str:
    for name in (profile.get("real_name"), user.get("real_name"), profile.get("display_name"), user.get("name"), user.get("id")):
        if isinstance(name, str) and name:
            return name
    return "?"


def _slack_day(path: str, text: str, users: Mapping[str, str]) -> Iterator[tuple[str, Said]]:
    """The messages of one file, each with the thread to which it belongs, or ``""``."""
    messages = _json(path, text)
    if not isinstance(messages, list):
        raise DataError(_("{path}:1: this is no day of Slack").format(path=path), fix=_("export the chat again"))
    lines = _Lines(text, _SLACK_MARK)
    for message in messages:
        if not isinstance(message, dict) or message.get("type") != "message":
            continue
        if message.get("subtype") not in (None, "thread_broadcast", "me_message", "file_share"):
            continue  # somebody joined, a topic was changed, a program speaks
        stamp = str(message.get("ts"))
        line = lines.of(stamp)
        try:
            time = datetime.fromtimestamp(float(stamp), UTC)
        except (ValueError, OverflowError, OSError):
            raise DataError(
                _("{path}:{line}: a message has no date").format(path=path, line=line), fix=_("export the chat again")
            ) from None
        user = str(message.get("user") or "?")
        profile = message.get("user_profile")
        who = users.get(user) or _slack_name(profile if isinstance(profile, dict) else {}, {"id": user})
        thread = str(message.get("thread_ts") or "")
        yield thread, Said(line, path, time, who, _slack_text(str(message.get("text") or ""), users))


def _slack_text(text: str, users: Mapping[str, str]) -> str:
    """The text as it was seen: people and channels by their names, links by their labels."""

    def seen(match: re.Match[str]) -> str:
        sign, target, label = match[1], match[2], match[3]
        if sign == "@":
            return "@" + (users.get(target) or label or target)
        if sign in ("#", "!"):
            return ("#" if sign == "#" else "@") + (label or target).lstrip("@")
        return label or target.removeprefix("mailto:")

    return html.unescape(_MARKUP.sub(seen, text)).strip()
