"""From a conversation to token ids and the mask ``trained``, recorded while the text is built.

    <|im_start|>user\\nHola<|im_end|>\\n<|im_start|>assistant\\n | Buenas<|im_end|> | \\n
    trained:            no                                      |      yes         | no

For each answer the prompt is rendered as the served model gets it (``add_generation_prompt``), and the answer is what the
template writes behind it, up to and with the end-of-turn token. Nothing is found by searching for markers in the user's text.

Several answers of a conversation share a row where the text of each later prompt begins with the row so far. Some templates
rewrite earlier turns (Qwen3 drops their thoughts): there each answer becomes a row of its own, behind exactly the prompt that it
would be asked with.

Each text is encoded once. A tokenizer cuts its input at special tokens before anything else, so the ids of a prompt are those of
the whole up to the prompt's last special token, and then those of the few characters behind it (``assistant\\n``), which are
encoded once for all rows:

    whole   … <|im_end|>  \\n  <|im_start|>   assistant \\n   Buenas  <|im_end|>
                               ^ anchor       ^ tail         ^ the answer begins here, and the ids before are the prompt's

Where they are not (a token spans the border, or there is no special token to hold on to), the prompt is encoded by itself.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.clean.checks import Action
from afina.data.conversation import Conversation, Finding, Message, Source
from afina.data.encode import Encoded, Encoder
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer

_ANSWER = "\ue000"  # a private-use character that no template writes
_WINDOW = 64  # characters at the end of a prompt in which its last special token is looked for
_SHOWN = 20  # characters that a finding shows
_WIDTH = array("i").itemsize
_DEFAULTS: Mapping[str, Action] = {}


@dataclass(frozen=True)
class Row:
    """Token ids, int32 (T,), and which of them are targets: those from a start up to its stop, ``spans`` of (start, stop)."""

    ids: array[int]
    spans: tuple[tuple[int, int], ...]
    source: Source

    @property
    def trained(self) -> tuple[bool, ...]:
        """The mask, (T,)."""
        mask = [False] * len(self.ids)
        for start, stop in self.spans:
            mask[start:stop] = [True] * (stop - start)
        return tuple(mask)

    @property
    def trained_tokens(self) -> int:
        return sum(stop - start for start, stop in self.spans)


@dataclass(frozen=True)
class Limits:
    """The longest row; ``split``: a longer one is parted between turns; ``last_only``: only the last answer is learned."""

    max_tokens: int
    split: bool = False
    last_only: bool = False


@dataclass(frozen=True)
class Rendered:
    """A conversation with its rows."""

    conversation: Conversation
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of one conversation: itself, its parts, or nothing, and what was found."""

    rendered: tuple[Rendered, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class _Answer:
    """Where an answer stands in its row's text: ``start`` and ``stop`` count characters."""

    start: int
    stop: int
    trained: bool


@dataclass(frozen=True)
class _Text:
    """A row before it is encoded."""

    text: str
    answers: tuple[_Answer, ...]


@dataclass(frozen=True)
class Draft:
    """A conversation whose rows are written and not yet encoded, so that many can be encoded at once."""

    conversation: Conversation
    rows: tuple[_Text, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]


class Shortcuts(NamedTuple):
    """Quicker ways that still give what the long ones do: cutting prompts out of the whole text, encoding each word once."""

    cuts: bool
    remembers: bool


@dataclass
class _Cutting:
    """Whether prompts are still cut out of the whole text."""

    holds: bool = True


@dataclass(frozen=True)
class Renderer:
    """A template and a tokenizer that fit together; ``end_of_turn`` is the token that closes each answer."""

    template: ChatTemplate
    tokenizer: Tokenizer
    tail: str  # what the template writes behind an answer
    end_of_turn: str
    _cutting: _Cutting = field(default_factory=_Cutting, compare=False, repr=False)
    _tails: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)  # text from an anchor on → its ids

    @classmethod
    def build(cls, template: ChatTemplate, tokenizer: Tokenizer) -> Renderer:
        """Raises DataError where the template does not end an answer with a special token: such a model would never stop."""
        example = (Message("user", "a"), Message("assistant", _ANSWER))
        tail = template.render(example, add_generation_prompt=False).partition(_ANSWER)[2]
        places = [(tail.index(token), -len(token), token) for token in tokenizer.special if token in tail]
        if not places:
            raise DataError(
                _(
                    "the chat template '{name}' ends an answer with {tail!r}, which holds no special token of the tokenizer"
                ).format(name=template.name, tail=tail),
                fix=_("choose a chat_template that writes eos_token behind each answer, for example plain"),
            )
        return cls(template, tokenizer, tail, min(places)[2])

    @cached_property
    def end_of_turn_id(self) -> int:
        return self.tokenizer.special[self.end_of_turn]

    @cached_property
    def _end_of_turn_bytes(self) -> bytes:
        return _bytes([self.end_of_turn_id])

    @cached_property
    def rewrites_turns(self) -> bool:
        """Whether an earlier turn is written otherwise once there is a later one: each answer is then a row of its own."""
        talk = tuple(Message(role, "a") for role in ("user", "assistant", "user", "assistant"))
        draft = self.draft(Conversation(talk, Source("", 1)), Limits(0))
        return isinstance(draft, Draft) and len(draft.rows) > 1

    def prompt_ids(self, messages: Sequence[Message], tools: str = "") -> list[int]:
        """Ids of what the model reads before it answers ``messages``."""
        return self.tokenizer.encode(self.template.render(messages, tools, add_generation_prompt=True))

    def written(self, conversation: Conversation) -> Conversation:
        """The conversation with a last answer that calls tools as the text that the model writes for it."""
        last = conversation.messages[-1]
        if not last.calls:
            return conversation
        text = self._texts(conversation, last_only=True, prove=True)[-1]
        answer = text.text[text.answers[-1].start : text.answers[-1].stop]
        content = self.tokenizer.decode(self.tokenizer.encode(answer))
        return replace(conversation, messages=(*conversation.prompt, replace(last, content=content, calls=())))

    def rows(self, conversation: Conversation, limits: Limits, chosen: Mapping[str, Action] = _DEFAULTS) -> Outcome:
        """The conversation's training rows. ``chosen``: what is done by which check, where it is not to drop the row."""
        draft = self.draft(conversation, limits, chosen)
        if isinstance(draft, Finding):
            return Outcome((), (draft,))
        return self.finish(draft, self.encoder.encode(draft.texts), limits, chosen)

    @cached_property
    def encoder(self) -> Encoder:
        """Encodes the texts of drafts, many at once."""
        return Encoder(self.tokenizer)

    @property
    def shortcuts(self) -> Shortcuts:
        """Those that hold."""
        return Shortcuts(self._cutting.holds, self.encoder.remembers)

    def forgo(self, shortcuts: Shortcuts) -> None:
        """Takes no shortcut from now on but ``shortcuts``."""
        self._cutting.holds &= shortcuts.cuts
        self.encoder.remembers &= shortcuts.remembers

    # ── before encoding ───────────────────────────────────────────────────────────────────────────────────────────────

    def draft(
        self, conversation: Conversation, limits: Limits, chosen: Mapping[str, Action] = _DEFAULTS, *, prove: bool = True
    ) -> Draft | Finding:
        """The texts of the conversation's rows and where their answers stand, or why it cannot be used.

        ``prove``: whether it is proved on this one that the quick way to the prompts gives what the long one does.
        """
        findings: tuple[Finding, ...] = ()
        checked = conversation
        for message in conversation.messages:
            if token := self.tokenizer.special_in(message.content):
                reason = _("the {role}'s text holds the special token {token}").format(role=message.role, token=token)
                if chosen.get("special-token") != "fix":
                    return Finding(conversation.source, "special-token", reason)
                findings = (Finding(conversation.source, "special-token", reason, "changed"),)
        if findings:
            messages = [replace(message, content=self.escaped(message.content)) for message in conversation.messages]
            checked = replace(conversation, messages=tuple(messages))
        try:
            return Draft(checked, self._texts(checked, limits.last_only, prove), findings)
        except DataError as error:
            return Finding(conversation.source, "template", error.what)

    def escaped(self, text: str) -> str:
        """The text with a blank inside each special token (``< |im_end|>``), so that it is text like any other."""
        content = text
        while token := self.tokenizer.special_in(content):
            content = content.replace(token, f"{token[0]} {token[1:]}")
        return content

    def _texts(self, conversation: Conversation, last_only: bool, prove: bool) -> tuple[_Text, ...]:
        messages = conversation.messages
        places = [number for number, message in enumerate(messages) if message.role == "assistant"]
        whole = self.template.render(messages[: places[-1] + 1], conversation.tools, add_generation_prompt=False)
        if messages[0].role == "system" and messages[0].content.strip() not in whole:
            raise DataError(
                _("the chat template '{name}' leaves the system message out").format(name=self.template.name),
                fix=_("put the system message into the user's turn, or choose another chat_template in the recipe"),
            )
        if conversation.tools and (missing := [name for name in _names_of_tools(conversation) if name not in whole]):
            raise DataError(
                _("the chat template '{name}' leaves out the tool {tool}").format(name=self.template.name, tool=missing[0]),
                fix=_("take a base whose chat template knows tools, for example Qwen/Qwen2.5-0.5B-Instruct"),
            )
        rows: list[_Text] = []
        text = ""
        answers: list[_Answer] = []
        for place, (prompt, written) in zip(places, self._turns(conversation, places, whole, prove), strict=True):
            stop = written.find(self.end_of_turn, len(prompt))
            if stop < 0 or not written.startswith(prompt):
                raise DataError(
                    _("the chat template '{name}' does not write the answer behind its own prompt").format(
                        name=self.template.name
                    ),
                    fix=_("choose another chat_template in the recipe"),
                )
            stop += len(self.end_of_turn)
            if not prompt.startswith(text):
                rows.append(_Text(text, tuple(answers)))
                answers = []
            text = written[:stop]
            answers.append(_Answer(len(prompt), stop, messages[place].trained and (not last_only or place == places[-1])))
        rows.append(_Text(text, tuple(answers)))
        return tuple(row for row in rows if any(answer.trained for answer in row.answers)) or tuple(rows[-1:])

    def _turns(self, conversation: Conversation, places: Sequence[int], whole: str, prove: bool) -> list[tuple[str, str]]:
        """For each answer the text of its prompt, and a text that begins with the prompt and the answer.

        Where a template opens every answer with the same special token, the prompts can be cut from the whole; that this gives
        what the template itself renders is proved where ``prove`` says so.
        """
        cut = self._cut_at_openings(whole, len(places)) if self._cutting.holds else None
        if cut is not None and not prove:
            return cut
        turns = []
        for place in places:
            prompt = self.template.render(conversation.messages[:place], conversation.tools, add_generation_prompt=True)
            written = whole
            if not whole.startswith(prompt):  # a later turn changed how this one is written
                written = self.template.render(
                    conversation.messages[: place + 1], conversation.tools, add_generation_prompt=False
                )
            turns.append((prompt, written))
        if cut is not None and cut != turns:
            self._cutting.holds = False
        return turns

    def _cut_at_openings(self, whole: str, count: int) -> list[tuple[str, str]] | None:
        """The turns of ``whole`` where it holds the opening of an answer ``count`` times, else None."""
        opening = self._opening
        if not opening or whole.count(opening) != count:
            return None
        turns = []
        stop = 0
        for _nth in range(count):
            stop = whole.index(opening, stop) + len(opening)
            turns.append((whole[:stop], whole))
        return turns

    @cached_property
    def _opening(self) -> str:
        """What the template writes to open an answer, where it holds a special token and so stands nowhere else; else ``""``."""
        question = (Message("user", "a"),)
        try:
            before, prompt = (self.template.render(question, add_generation_prompt=on) for on in (False, True))
        except DataError:
            return ""
        opening = prompt[len(before) :] if prompt.startswith(before) else ""
        return opening if self.tokenizer.special_in(opening) else ""

    # ── behind encoding ───────────────────────────────────────────────────────────────────────────────────────────────

    def finish(
        self,
        draft: Draft,
        encoded: Sequence[Encoded],
        limits: Limits,
        chosen: Mapping[str, Action] = _DEFAULTS,
    ) -> Outcome:
        """The rows of a draft whose texts were encoded, each of them proved."""
        source = draft.conversation.source
        findings = draft.findings
        if lost := self._lost(draft, encoded):
            reason = _("the tokenizer cannot write {count} characters: {lost}").format(count=len(lost), lost=lost[:_SHOWN])
            if chosen.get("lost-characters", "drop") == "drop":
                return Outcome((), (Finding(source, "lost-characters", reason),))
            findings = (*findings, Finding(source, "lost-characters", reason, "kept"))
        try:
            rows = [row for text, found in zip(draft.rows, encoded, strict=True) for row in self._rows(text, found.ids, source)]
        except DataError as error:
            return Outcome((), (Finding(source, "template", error.what),))
        for row in rows:
            if problem := self._problem(row):
                return Outcome((), (problem,))
        longest = max(len(row.ids) for row in rows)
        if longest <= limits.max_tokens:
            return Outcome((Rendered(draft.conversation, tuple(rows)),), findings)
        if limits.split and len(_exchanges(draft.conversation.messages)) > 1:
            return self._parted(draft.conversation, limits, chosen, findings)
        reason = _("{count} tokens; at most {limit} fit").format(count=longest, limit=limits.max_tokens)
        return Outcome((), (Finding(source, "too-long", reason),))

    def _lost(self, draft: Draft, encoded: Sequence[Encoded]) -> str:
        """The characters that do not come back from the ids, ``""`` where all do."""
        if all(row.exact for row in encoded):
            return ""
        return "".join(
            sorted({char for message in draft.conversation.messages for char in self.tokenizer.loses(message.content)})
        )

    def _rows(self, row: _Text, ids: array[int], source: Source) -> list[Row]:
        """The row with the spans of its answers; see the module's docstring."""
        raw = ids.tobytes()
        spans: list[tuple[int, int]] = []
        place = character = 0
        for answer in row.answers:
            start = self._start(row.text, character, answer.start, raw, place)
            end = -1 if start is None else _find(raw, self._end_of_turn_bytes, start)
            if start is None or end < 0:
                return self._rows_by_pairs(row, source)
            place = end + 1
            character = answer.stop
            if answer.trained:
                spans.append((start, place))
        return [Row(ids[:place], tuple(spans), source)]

    def _start(self, text: str, since: int, stop: int, raw: bytes, place: int) -> int | None:
        """Where the ids of ``text[:stop]`` end, the prompt's own; None where they are not the first of ``raw``.

        ``place`` in the ids stands for ``since`` in ``text``.
        """
        if self._opening and text.endswith(self._opening, since, stop):
            anchor, tail = self._anchor_of_opening
        else:
            window = text[max(since, stop - _WINDOW) : stop]
            anchors = list(self.tokenizer.special_pattern.finditer(window))
            if not anchors:
                alone = _bytes(self.tokenizer.encode(text[:stop]))
                return len(alone) // _WIDTH if raw.startswith(alone) else None
            anchor, tail = anchors[-1].group(), self._tail(window[anchors[-1].start() :])
        begin = place - 1
        for _nth in range(text.count(anchor, since, stop)):
            begin = _find(raw, tail[:_WIDTH], begin + 1)
            if begin < 0:
                return None
        return begin + len(tail) // _WIDTH if raw.startswith(tail, _WIDTH * begin) else None

    @cached_property
    def _anchor_of_opening(self) -> tuple[str, bytes]:
        """The last special token of what opens an answer, and the ids from there on."""
        anchor = list(self.tokenizer.special_pattern.finditer(self._opening))[-1]
        return anchor.group(), self._tail(self._opening[anchor.start() :])

    def _tail(self, text: str) -> bytes:
        """Ids of a special token and the few characters behind it."""
        if text not in self._tails:
            self._tails[text] = _bytes(self.tokenizer.encode(text))
        return self._tails[text]

    def _rows_by_pairs(self, row: _Text, source: Source) -> list[Row]:
        """As ``_rows``, with each prompt encoded by itself; a new row where a prompt does not begin with the row so far."""
        rows: list[Row] = []
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for answer in row.answers:
            prompt, found = self._encode_pair(row.text[: answer.start], row.text[answer.start : answer.stop])
            if prompt[: len(ids)] != ids:
                rows.append(Row(array("i", ids), tuple(spans), source))
                spans = []
            ids = prompt + found
            if answer.trained:
                spans.append((len(prompt), len(ids)))
        return [made for made in (*rows, Row(array("i", ids), tuple(spans), source)) if made.spans]

    def _encode_pair(self, prompt: str, answer: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt, as the served model gets them, and of the answer behind it."""
        prompt_ids = self.tokenizer.encode(prompt)
        whole = self.tokenizer.encode(prompt + answer)
        if whole[: len(prompt_ids)] == prompt_ids:
            return prompt_ids, whole[len(prompt_ids) :]
        # A token spans the border: the server never sees it, for it encodes the prompt alone. Then the answer is encoded alone as
        # well; SentencePiece-like pipelines put a blank in front of it that is not in the text, so what decodes to the text is
        # taken.
        alone = self.tokenizer.encode(answer)
        for candidate in (alone, alone[1:]):
            if self.tokenizer.decode(prompt_ids + candidate) == self.tokenizer.decode(whole):
                return prompt_ids, candidate
        raise DataError(
            _("a token spans the end of the prompt and the start of the answer"),
            fix=_("choose a chat_template whose prompt ends with a line end or a special token"),
        )

    def _problem(self, row: Row) -> Finding | None:
        """Why this row must not be trained on, or None."""
        raw, bos_id = row.ids.tobytes(), self.tokenizer.bos_id
        if bos_id is not None and bos_id != self.end_of_turn_id:
            bos = _bytes([bos_id])
            first = _find(raw, bos, 0)
            if first >= 0 and _find(raw, bos, first + 1) >= 0:
                reason = _("{count} tokens mark the beginning").format(count=row.ids.count(bos_id))
                return Finding(row.source, "double-bos", reason)
        if any(_find(raw, self._end_of_turn_bytes, start) != stop - 1 for start, stop in row.spans):
            ends = sum(row.ids[start:stop].count(self.end_of_turn_id) for start, stop in row.spans)
            reason = _("{count} end-of-turn tokens in {answers} answers").format(count=ends, answers=len(row.spans))
            return Finding(row.source, "end-of-turn", reason)
        if row.trained_tokens <= len(row.spans):
            return Finding(row.source, "teaches-nothing", _("no token of an answer is left to train on"))
        return None

    def _parted(
        self, conversation: Conversation, limits: Limits, chosen: Mapping[str, Action], findings: tuple[Finding, ...]
    ) -> Outcome:
        """The halves of a conversation that is too long, each behind the system message, and the halves of these."""
        exchanges = _exchanges(conversation.messages)
        system = tuple(message for message in conversation.messages[:1] if message.role == "system")
        middle = (len(exchanges) + 1) // 2
        group = conversation.group or str(conversation.source)  # its parts stay on one side of the split
        parts = [
            self.rows(replace(conversation, messages=(*system, *(m for e in half for m in e)), group=group), limits, chosen)
            for half in (exchanges[:middle], exchanges[middle:])
        ]
        rendered = tuple(piece for part in parts for piece in part.rendered)
        found = (*findings, *(finding for part in parts for finding in part.findings))
        if not rendered:
            return Outcome((), found[-1:])
        reason = _("longer than {limit} tokens: parted between turns").format(limit=limits.max_tokens)
        parted = Finding(conversation.source, "too-long", reason, "changed")
        told = (replace(f, done="changed") if f.check == "too-long" and f.done == "dropped" else f for f in found if f != parted)
        return Outcome(rendered, (parted, *told))


def _bytes(ids: Sequence[int]) -> bytes:
    """Token ids as they lie in an array of int32, where they are found as fast as letters in a text."""
    return array("i", ids).tobytes()


def _find(raw: bytes, token: bytes, start: int) -> int:
    """The first place from ``start`` on, counted in tokens, at which ``token`` stands; -1 where it stands nowhere."""
    at = raw.find(token, _WIDTH * start)
    while at >= 0 and at % _WIDTH:
        at = raw.find(token, at + 1)
    return at // _WIDTH


def _names_of_tools(conversation: Conversation) -> Iterator[str]:
    """The names of the tools on offer and of those that are called."""
    for tool in json.loads(conversation.tools):
        yield str(tool.get("function", tool).get("name", ""))
    for message in conversation.messages:
        yield from (call.name for call in message.calls)


def _exchanges(messages: Sequence[Message]) -> list[list[Message]]:
    """The messages from one of the user's to the next one."""
    parts: list[list[Message]] = []
    for message in messages:
        if message.role == "user":
            parts.append([])
        if parts:
            parts[-1].append(message)
    return parts


def segments(row: Row, tokenizer: Tokenizer) -> list[tuple[str, bool]]:
    """The row's text, special tokens included, in stretches that are trained or not: what a person checks before a run."""
    borders = sorted({0, len(row.ids), *(place for span in row.spans for place in span)})
    starts = {start for start, _stop in row.spans}
    return [
        (str(tokenizer.pipeline.decode(list(row.ids[start:stop]), skip_special_tokens=False)), start in starts)
        for start, stop in pairwise(borders)
    ]
