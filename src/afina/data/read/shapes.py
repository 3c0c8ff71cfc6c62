"""What a row means: from the many ways in which examples are written to one Conversation.

The shape of a file is decided by the keys of its first rows; a row of another shape in the same file is recognised too.
Upper and lower case and blanks around keys do not matter, and a key whose value is null counts as not there. The text of a
turn is never changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.clean.personal import mask
from afina.data.conversation import Conversation, Finding, Message, Preference, Source
from afina.data.read.columns import have_columns, listed, mapped, refuse_missing_group
from afina.data.read.marked import marked_messages, recognise_marks
from afina.data.read.messages import MESSAGE_KEYS, UNUSED_PARTS, conversation, is_message, joined_text, read_messages, side
from afina.data.read.number import Number
from afina.data.read.preferences import ANSWERS, prefer
from afina.data.read.row import (
    BROKEN_ROW,
    BROKEN_TOOLS,
    DRAFT,
    EMPTY,
    NO_ANSWER,
    NOT_TEXT,
    PLAIN_TEXT,
    PREFERENCE,
    UNKNOWN_SHAPE,
    Refused,
    Row,
    fold,
    folded,
    is_blank,
    is_whole,
    list_of,
    shown,
)
from afina.data.tools import BrokenToolsError, normalise_tools
from afina.recipe.recipe import Columns

__all__ = ["BROKEN_ROW", "SHAPES", "Choice", "Shape", "choose_shape", "converse", "is_message", "knows", "recognise"]

TOOL_KEYWORDS = "tool-keywords"  # tells what the server would leave out of the tools' definitions

_TOOL_KEYS = ("tools", "functions")
_MEDIA_KEYS = ("image", "images", "video", "videos", "audio", "audios")
_LABEL_KEYS = ("label", "kto_tag")
_ABOUT_KEYS = ("kind", "rating")  # what a row says of itself, for the comparison
_MORE = ("system", "status", *_TOOL_KEYS, *_MEDIA_KEYS, *_LABEL_KEYS, *_ABOUT_KEYS)
# Columns about a row, which are no question and no answer.
_NEITHER = frozenset({
    "id", "qid", "uuid", "index", "idx", "key", "no", "nr", "num", "number", "url", "link", "href", "date", "fecha", "time",
    "datetime", "timestamp", "created", "updated", "source", "fuente", "origen", "lang", "language", "idioma", "split", "meta",
    "metadata", "category", "categoria", "categoría", "type", "tipo", "score", "tags", *_ABOUT_KEYS,
})  # fmt: skip
_EMPTY_VALUES: tuple[Any, ...] = (None, "", "[]", "{}", [], {})


@dataclass(frozen=True)
class Shape:
    """A way to write a row: the keys that it needs, how its turns are found, and the keys that it may have besides.

    ``answers``: the keys of the better and the worse answer where rows of this shape are preference pairs; then ``turns`` finds
    the prompt alone.
    """

    name: str
    needs: tuple[str, ...]
    turns: Callable[[Row], list[Message]]
    may_have: tuple[str, ...] = _MORE
    answers: tuple[str, str] | None = None


@dataclass(frozen=True)
class Choice:
    """The shape of a file's rows, why it was chosen, and the keys of its first rows that are not used.

    ``mapped``: the recipe names the columns, and no row is read in another way.
    """

    shape: Shape
    reason: str
    unused: tuple[str, ...] = ()
    mapped: bool = False


def knows(keys: Collection[str], columns: Columns | None) -> bool:
    """Whether rows with these keys can be made into conversations: by the recipe's columns where it names some."""
    keys_folded = frozenset(map(fold, keys))
    if columns is None:
        return _shape_with(keys_folded) is not None
    return have_columns(keys_folded, columns)


def recognise(value: Any) -> Shape | None:
    """The first shape whose keys ``value`` has; None where there is none."""
    if isinstance(value, list):
        return MESSAGE_LIST if value and all(is_message(item) for item in value) else None
    if not isinstance(value, dict):
        return None
    return _shape_with(frozenset(fold(str(key)) for key, item in value.items() if item is not None))


@lru_cache(maxsize=4096)
def _shape_with(keys: frozenset[str]) -> Shape | None:
    return next((shape for shape in SHAPES if keys.issuperset(shape.needs)), None)


def choose_shape(first: Sequence[tuple[Source, Any]], columns: Columns | None, group_by: str = "") -> Choice:
    """How the rows of a file are read, from its first ones (at least one). ``group_by``: the column that keeps rows together.

    Raises DataError where none of them is of a known shape: it shows the keys that were found and the ``data.map`` to write.
    """
    names = _names(value for _source, value in first)
    if group_by:
        refuse_missing_group(group_by, names, first[0][0].file)
    if columns is not None:
        found_columns = mapped(columns, names, first[0][0].file)
        may_have = (*found_columns.may_have, "status", *_ABOUT_KEYS)
        shape = Shape("data.map", found_columns.needs, found_columns.turns, may_have)
        reason = _("data.map names {keys}").format(keys=listed(names[key] for key in shape.needs))
        return Choice(shape, reason, _unused(shape, first, names, group_by, mapped=True), mapped=True)
    found = Counter(known for _source, value in first if (known := recognise(value)))
    if not found:
        by_order = _two_columns(first, names)
        if by_order is None:
            raise _unknown_shape(*first[0], names)
        question, answer = by_order.needs
        reason = _("there are two columns of text: {question!r} is taken for the question and {answer!r} for the answer")
        reason = reason.format(question=names[question], answer=names[answer])
        return Choice(by_order, reason, _unused(by_order, first, names, group_by))
    commonest, count = found.most_common(1)[0]
    having = listed(names.get(key, key) for key in commonest.needs) or _("a list of messages")
    reason = _("{count} of the first {rows} rows have {keys}").format(count=count, rows=len(first), keys=having)
    if commonest is TEXT and (marks := _marks_in(first)):
        reason += _("; the turns in it are marked as in {marks}").format(marks=marks)
    return Choice(commonest, reason, _unused(commonest, first, names, group_by))


def converse(
    value: Any, source: Source, choice: Choice, system: str | None, group_by: str = "", notes: list[Finding] | None = None
) -> Conversation | Preference | Finding:
    """The conversation or the preference pair of one row, or why it is none.

    ``system`` is put in front where the row has no system message; ``group_by`` is the column whose value keeps rows together.
    What was changed in a row that is used is added to ``notes``.
    """
    try:
        if isinstance(value, list) and not choice.mapped:
            return conversation(read_messages(value), source, system)
        if not isinstance(value, dict):
            raise Refused(BROKEN_ROW, _("the row is not an object with keys"))
        row: Row = value
        plan = _plan(tuple(value))
        if plan is None or None in value.values():
            row = folded(value)
            plan = _plan(tuple(row)) or _NO_PLAN
        if "status" in plan.special and _is_draft(row["status"]) and "status" not in choice.shape.needs:
            raise Refused(DRAFT, _("a draft: read it, then change its status to ok or delete the line"))
        if choice.mapped:
            return _mapped_conversation(row, source, choice, system, group_by)
        return _conversation(row, plan, source, choice, system, group_by, notes)
    except Refused as refused:
        return Finding(source, refused.check, refused.reason)


@dataclass(frozen=True)
class _Plan:
    """What is known of a row by its keys alone: its shape, and which of the keys that need a look it has."""

    shape: Shape | None
    special: tuple[str, ...]


_NO_PLAN = _Plan(None, ())


@lru_cache(maxsize=4096)
def _plan(keys: tuple[Any, ...]) -> _Plan | None:
    """None where the keys must be folded first."""
    if any(not isinstance(key, str) or fold(key) != key for key in keys):
        return None
    return _Plan(_shape_with(frozenset(keys)), tuple(key for key in keys if key in _MORE))


def _conversation(
    row: Row, plan: _Plan, source: Source, choice: Choice, system: str | None, group_by: str, notes: list[Finding] | None
) -> Conversation | Preference:
    shape = plan.shape
    if shape is None:
        shape = choice.shape
        if not shape.needs or not all(key in row for key in shape.needs):
            raise _refused_keys(row, shape)
    tools = _special(row, plan.special, source, notes) if plan.special else ""
    if shape.answers:
        if tools:
            raise Refused(BROKEN_TOOLS, _("a preference pair that offers tools: not supported yet"))
        return prefer(row, *shape.answers, lambda row: [*_system(row), *shape.turns(row)], source, system)
    messages = shape.turns(row)
    if "system" in plan.special:
        messages = [*_system(row), *messages]
    talk = conversation(messages, source, system, tools, _group(row, group_by) if group_by else "")
    return _with_about(talk, row) if plan.special else talk


def _mapped_conversation(row: Row, source: Source, choice: Choice, system: str | None, group_by: str) -> Conversation:
    if missing := [key for key in choice.shape.needs if key not in row]:
        raise Refused(EMPTY, _("the row has no {keys}").format(keys=listed(missing)))
    talk = conversation(choice.shape.turns(row), source, system, "", _group(row, group_by) if group_by else "")
    return _with_about(talk, row)


def _with_about(talk: Conversation, row: Row) -> Conversation:
    """The conversation with its row's ``kind`` and ``rating``, where it has them."""
    kind, rating = (_group(row, key).strip() for key in _ABOUT_KEYS)
    return replace(talk, kind=kind, rating=rating) if kind or rating else talk


def _refused_keys(row: Row, shape: Shape) -> Refused:
    if shape.needs and shape.needs[0] in row:
        missing = [key for key in shape.needs if key not in row]
        return Refused(NO_ANSWER, _("the row has no {keys}").format(keys=listed(missing)))
    return Refused(UNKNOWN_SHAPE, _("the keys {keys} are of no known shape").format(keys=listed(row)))


def _special(row: Row, keys: Sequence[str], source: Source, notes: list[Finding] | None) -> str:
    """The tools that a row offers, or ``""``. Raises Refused where it holds more than text, or a bad answer."""
    tools = ""
    for key in keys:
        value = row[key]
        if key in _LABEL_KEYS and value is False:
            raise Refused(PREFERENCE, _("the answer is marked as a bad one (label: false)"))
        if key in _MEDIA_KEYS and value not in _EMPTY_VALUES:
            raise Refused(NOT_TEXT, _("the row has {key!r}: only text is supported").format(key=key))
        if key in _TOOL_KEYS and value not in _EMPTY_VALUES:
            try:
                tools, left_out = normalise_tools(value)
            except BrokenToolsError as error:
                raise Refused(BROKEN_TOOLS, _("the row's tools: {reason}").format(reason=error.reason)) from None
            if not is_whole(tools):
                raise Refused(BROKEN_ROW, _("the row's tools have half of a surrogate pair, which is no character"))
            if left_out and notes is not None:
                reason = _("words that Ollama does not show to the model are left out of the tools: {words}")
                notes.append(Finding(source, TOOL_KEYWORDS, reason.format(words=listed(left_out)), "changed"))
    return tools


def _is_draft(status: Any) -> bool:
    return isinstance(status, str) and fold(status) in ("draft", "borrador")


def _system(row: Row) -> list[Message]:
    return [Message("system", joined_text(row["system"], "system"))] if "system" in row else []


def _group(row: Row, column: str) -> str:
    value = row.get(fold(column))
    return "" if value is None else value if isinstance(value, str) else shown(value)


# ── the shapes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _message_list(key: str) -> Callable[[Row], list[Message]]:
    def turns(row: Row) -> list[Message]:
        value = row[key]
        return read_messages(value if type(value) is list else list_of(value, key))

    return turns


def _pair(prompt: str, answer: str) -> Callable[[Row], list[Message]]:
    def turns(row: Row) -> list[Message]:
        return [*side(row[prompt], "user", prompt), *side(row[answer], "assistant", answer)]

    return turns


def _alpaca(answer: str) -> Callable[[Row], list[Message]]:
    def turns(row: Row) -> list[Message]:
        return [*_task(row), *side(row[answer], "assistant", answer)]

    return turns


def _task(row: Row) -> list[Message]:
    """The task and what it works on make one turn, one below the other; earlier rounds stand in ``history``."""
    parts = [joined_text(row[key], key) for key in ("instruction", "input", "context") if key in row]
    filled = [part for part in parts if not is_blank(part)]
    earlier: list[Message] = []
    for number, turn in enumerate(list_of(row.get("history", []), "history"), start=1):
        if not isinstance(turn, list) or len(turn) != 2:
            raise Refused(BROKEN_ROW, _("round {number} of 'history' is not a list of two texts").format(number=number))
        earlier += [Message("user", joined_text(turn[0], "history")), Message("assistant", joined_text(turn[1], "history"))]
    return [*earlier, Message("user", "\n".join(filled))]


def _text(row: Row) -> list[Message]:
    text = joined_text(row["text"], "text")
    if is_blank(text):
        raise Refused(EMPTY, _("{key!r} is empty").format(key="text"))
    if (messages := marked_messages(text)) is None:
        reason = _("a text without a question: name its file in data.documents, or write questions for it (afina draft)")
        raise Refused(PLAIN_TEXT, reason)
    return messages


def _prompt(row: Row) -> list[Message]:
    """The prompt of a preference pair, where it stands by itself."""
    for key in ("messages", "conversations"):
        if key in row:
            return read_messages(list_of(row[key], key))
    if "instruction" in row:
        return _task(row)
    for key in ("prompt", "question", "query", "input"):
        if key in row:
            value = row[key]
            return (marked_messages(value) if isinstance(value, str) else None) or side(value, "user", key)
    return []


_PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "answer"),
    ("prompt", "output"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
    ("input", "response"),
    ("user", "assistant"),
    ("human", "assistant"),
    ("problem", "solution"),
    ("q", "a"),
    ("pregunta", "respuesta"),
    ("consulta", "respuesta"),
    ("instrucción", "respuesta"),
    ("instruccion", "respuesta"),
    ("entrada", "salida"),
    ("pergunta", "resposta"),
    ("utterance", "intent"),
    ("text", "label"),
    ("text", "summary"),
)
_ALPACA = ("input", "context", "history", *_MORE)
_PROMPTS = ("prompt", "question", "query", "instruction", "input", "history", "messages", "conversations", *_MORE)
MESSAGE_LIST = Shape("list of messages", (), lambda _row: [])
TEXT = Shape("text", ("text",), _text)
# In this order: the first whose keys a row has is taken.
SHAPES = (
    *(Shape("preference pairs", pair, _prompt, _PROMPTS, pair) for pair in ANSWERS),
    Shape("OpenAI messages", ("messages",), _message_list("messages")),
    Shape("ShareGPT", ("conversations",), _message_list("conversations")),
    Shape("ShareGPT", ("conversation",), _message_list("conversation")),
    *(Shape("Alpaca", ("instruction", key), _alpaca(key), _ALPACA) for key in ("output", "response", "answer")),
    *(Shape(f"{key}/{answer}", (key, answer), _pair(key, answer)) for key, answer in _PAIRS),
    TEXT,
)


def _two_columns(first: Sequence[tuple[Source, Any]], names: Mapping[str, str]) -> Shape | None:
    """The question and the answer by the order of the columns, where exactly two of them hold texts."""
    filled: dict[str, list[Any]] = {key: [] for key in names}
    for _source, value in first:
        for name, item in value.items() if isinstance(value, dict) else ():
            if item not in _EMPTY_VALUES:
                filled[fold(str(name))].append(item)
    if not all(isinstance(item, str | int | float) for items in filled.values() for item in items):
        return None  # a list or an object may hold the text
    texts = [
        key
        for key, items in filled.items()
        if key not in _NEITHER and any(isinstance(item, str) and not _is_number(item) for item in items)
    ]
    if len(texts) != 2:
        return None
    return Shape("two columns", (texts[0], texts[1]), _pair(texts[0], texts[1]))


def _is_number(text: str) -> bool:
    return isinstance(text, Number) or not any(letter.isalpha() for letter in text)


# ── what the user is told ─────────────────────────────────────────────────────────────────────────────────────────────


def _names(values: Iterable[Any]) -> dict[str, str]:
    """Folded key → the key as it is written, of the rows that have keys."""
    found: dict[str, str] = {}
    for value in values:
        for key in value if isinstance(value, dict) else ():
            found.setdefault(fold(str(key)), str(key).strip())
    return found


def _marks_in(first: Sequence[tuple[Source, Any]]) -> str:
    """The marks of turns in the texts of a file; ``""`` where there are none."""
    for _source, value in first:
        text = value.get("text") if isinstance(value, dict) else None
        if isinstance(text, str) and (found := recognise_marks(text)):
            return found[0]
    return ""


def _unused(
    shape: Shape, first: Sequence[tuple[Source, Any]], names: Mapping[str, str], group_by: str, *, mapped: bool = False
) -> tuple[str, ...]:
    """Keys of the first rows, and of the messages in them, that no conversation will contain."""
    used = {*shape.needs, *shape.may_have, fold(group_by)}
    within: dict[str, None] = {}
    for _source, value in first:
        if not mapped and (own := recognise(value)):  # a row of another shape in the same file uses other keys
            used.update((*own.needs, *own.may_have))
        lists = value.items() if isinstance(value, dict) else [("", value)]
        for key, items in lists:
            for message in items if isinstance(items, list) else ():
                if is_message(message):
                    within.update(dict.fromkeys(_unused_in(message, str(key))))
    return (*(name for key, name in names.items() if key not in used), *within)


def _unused_in(message: Mapping[str, Any], key: str) -> Iterable[str]:
    for name, value in message.items():
        if fold(str(name)) not in MESSAGE_KEYS and value is not None:
            yield f"{key}[].{name}"
        for part in value if isinstance(value, list) else ():
            if isinstance(part, dict) and part.get("type") in UNUSED_PARTS:
                yield f"{key}[].{name}[].{part['type']}"


def _unknown_shape(source: Source, value: Any, names: Mapping[str, str]) -> DataError:
    if not names:
        return DataError(
            _("{place}: the rows are neither objects with keys nor lists of messages").format(place=source),
            fix=_("write each example as an object: {example}").format(example='{"prompt": "…", "completion": "…"}'),
        )
    what = _("{place}: the keys {keys} are of no known shape").format(place=source, keys=listed(names.values()))
    row = value if isinstance(value, dict) else {}
    filled = {str(key).strip(): item for key, item in row.items() if isinstance(item, str)}
    likely = [name for name, item in filled.items() if fold(name) not in _NEITHER and not _is_number(item)]
    texts = likely if len(likely) > 1 else list(filled)
    if len(texts) < 2:
        known = dict.fromkeys(" + ".join(shape.needs) for shape in SHAPES if not shape.answers and shape is not TEXT)
        fix = _("give each row a question and an answer; these keys are known: {keys}").format(keys=", ".join(known))
        return DataError(what, fix=fix)
    prompt, answer = (json.dumps(mask(name), ensure_ascii=False) for name in texts[:2])  # a text of JSON is one of YAML
    fix = _(
        "say in the recipe which is the question and which the answer:\n  data:\n    map: {{prompt: {prompt}, answer: {answer}}}"
    )
    return DataError(what, fix=fix.format(prompt=prompt, answer=answer))
