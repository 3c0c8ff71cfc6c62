"""What was counted in examples, and the rows that show it: the material of an advice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from afina.data.clean.personal import masked
from afina.data.clean.row import spans_of
from afina.data.conversation import Conversation

_EXCERPT, _QUESTION = 110, 60  # characters of an answer and of a question that are shown
_MASKED = 20_000  # characters that are looked through for personal data
_ROWS = 2  # rows that show a figure

_WORD = re.compile(r"\w+(?:[.,:]\d+)*")
_WITHOUT_BLANKS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"  # Thai, Lao, Burmese, Khmer, kana, Han
_LETTER_OR_WORD = re.compile(rf"[{_WITHOUT_BLANKS}]|[^\W{_WITHOUT_BLANKS}]+(?:[.,:]\d+)*")


@dataclass(frozen=True)
class Example:
    """What is asked, without the system message, and the last answer. ``place``: ``faq.jsonl:12``."""

    question: str
    answer: str
    place: str

    @classmethod
    def of(cls, conversation: Conversation) -> Example:
        last = conversation.messages[-1]
        answer = last.content or "\n".join(f"{call.name}({call.arguments})" for call in last.calls)
        asked = "\n".join(message.content for message in conversation.prompt if message.role != "system")
        return cls(asked, answer, str(conversation.source))


@dataclass(frozen=True)
class Shown:
    """A row as a report may show it: one line, shortened, personal data and secrets masked."""

    place: str
    text: str


@dataclass(frozen=True)
class Figure:
    """``count`` of ``of`` examples are so, as ``rows`` show; ``others`` are not. ``values``: what else its sentence needs."""

    name: str
    count: int
    of: int
    rows: tuple[Shown, ...] = ()
    others: tuple[Shown, ...] = ()
    values: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return self.count / max(1, self.of)


def figure(
    name: str,
    examples: Sequence[Example],
    is_so: Callable[[int], bool],
    *,
    show_others: bool = False,
    at_end: bool = False,
    **values: str | int,
) -> Figure:
    """The figure of what ``is_so`` says of the number of each example, with the first rows that are so, and one that is not.

    ``at_end``: the ends of the answers are shown.
    """
    so = [number for number in range(len(examples)) if is_so(number)]
    others = (example for number, example in enumerate(examples) if not is_so(number)) if show_others else iter(())
    rows = shown((examples[number] for number in so[:_ROWS]), at_end)
    return Figure(name, len(so), len(examples), rows, shown(islice(others, 1), at_end), values)


def shown(examples: Iterable[Example], at_end: bool = False) -> tuple[Shown, ...]:
    return tuple(Shown(one.place, excerpt(one, at_end=at_end)) for one in examples)


def excerpt(example: Example, around: str = "", at_end: bool = False, asked: bool = False) -> str:
    """The answer on one line, masked: its beginning, its end, or a stretch around a piece of it.

    With the question before it where that is wanted, or where the answer says too little alone.
    """
    question, answer = _masked(example)
    at = answer.lower().find(" ".join(around.lower().split())) if around else 0
    start = max(0, len(answer) - _EXCERPT if at_end else at - _EXCERPT // 2)
    cut = ("…" if start else "") + _cut(answer[start:], _EXCERPT)
    return f"{_cut(question, _QUESTION)} → {cut}" if question and (asked or len(answer) <= _QUESTION) else cut


def _masked(example: Example) -> tuple[str, str]:
    """Question and answer on a line each, masked; what is known as a telephone from one of them is hidden in the other too."""
    texts = [example.question[:_MASKED], example.answer[:_MASKED]]
    spans = spans_of(list(dict.fromkeys(texts)))
    question, answer = (" ".join(masked(text, spans.get(text, ())).split()) for text in texts)
    return question, answer


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def words_of(text: str) -> list[str]:
    """The folded words of a text, in their order; a number with its decimals is one, and so is a letter of a script without
    blanks.
    """
    return (_WORD if text.isascii() else _LETTER_OR_WORD).findall(text.casefold())
