"""What is asked of a deployed model before anybody relies on it.

Held-out questions must pass: the text that the served model reads is that of training, so are its tokens, what it would say
first is as likely as for the same file here, and an answer ends by itself. Hard cases (no system message, an empty one, several
turns, emoji, outer blanks, text that looks like a special token, tools) are asked besides; where one is read otherwise, the proof
says so, and everybody knows what not to send.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from afina.core.errors import DataError, QualityError
from afina.core.translation import _
from afina.data.conversation import Conversation, Message
from afina.data.render import Renderer
from afina.data.tools import normalise_tools
from afina.recipe.kinds import Kind

QUESTIONS = 8
HELD_OUT = "held-out"
TOP = 20  # first tokens whose likelihood is compared
_COMPARED = 5  # of them must be there on both sides
_FEW = 8  # tokens of an answer that need not end
# How far the log-probability of a first token may be off. 16 bits: key-value cache and attention in half precision. Fewer: the
# products' inputs are rounded as well, on another machine in another grouping.
LARGEST_DIFFERENCE: dict[Kind, float] = {"f32": 1e-2, "f16": 1e-2, "bf16": 1e-2}
LARGEST_ROUNDED_DIFFERENCE = 1e-1
# Rounding moves all of them alike, also what would hardly ever be said: a tuned model is sure of its first word, and of the
# others at one in a million only the least is known. Below this probability so many times as much is rounding.
RARE = 1e-4
_RARE_TIMES = 5
_SHOWN = 60  # characters on each side of a difference


@dataclass(frozen=True)
class Question:
    """``text`` and ``ids``: what the model was trained to read for ``messages``, up to its answer. ``case``: why it is asked."""

    messages: tuple[Message, ...]
    text: str
    ids: tuple[int, ...]
    tools: str = ""
    case: str = HELD_OUT

    @property
    def asked(self) -> str:
        return self.messages[-1].content


@dataclass(frozen=True)
class Parting:
    """Where a text parts from that of training: after ``place`` characters, both of them from a little before it on."""

    place: int
    wanted: str
    got: str


@dataclass(frozen=True)
class Checked:
    """What came of a question: whether text and tokens were those of training (None: not told), and the largest difference of a
    first token's log-probability (None: not told, or a hard case). ``parting``: where the text is another one.
    """

    case: str
    question: str
    same_text: bool | None
    tokens: int
    wanted_tokens: int
    same_tokens: bool
    difference: float | None = None
    remark: str = ""
    parting: Parting | None = None


@dataclass(frozen=True)
class Proof:
    """A question that was answered; ``ended``: the answer ended by itself. ``checked``: all that were asked.

    ``tokens_per_second`` while the answer was written: neither loading nor reading counts. None where it was not told.
    """

    question: str
    answer: str
    answer_tokens: int
    tokens_per_second: float | None
    ended: bool
    checked: tuple[Checked, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What a deployed model gave. ``finish``: ``stop`` where it ended by itself; ``first``: log-probabilities of first tokens.

    ``tokens_per_second`` as in ``Proof``.
    """

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    answer_tokens: int
    tokens_per_second: float | None
    first: Mapping[bytes, float]


@dataclass(frozen=True)
class Expected:
    """What llama.cpp says here with the same file, which is of ``kind``: log-probabilities of a question's first tokens."""

    kind: Kind
    first: Callable[[Question], Mapping[bytes, float]]


def choose_questions(held_out: Sequence[Conversation], renderer: Renderer, limit: int) -> list[Question]:
    """At most eight held-out questions of up to ``limit`` tokens, the first ones in their order."""
    chosen: list[Question] = []
    for conversation in held_out:
        text = renderer.template.render(conversation.prompt, conversation.tools, add_generation_prompt=True)
        ids = tuple(renderer.tokenizer.encode(text))
        if len(ids) <= limit:
            chosen.append(Question(conversation.prompt, text, ids, conversation.tools))
        if len(chosen) == QUESTIONS:
            break
    if not chosen:
        raise QualityError(
            _("none of the {count} held-out questions fits into {limit} tokens").format(count=len(held_out), limit=limit),
            fix=_("raise deploy.context, or lower compare.max_new_tokens"),
        )
    return chosen


def hard_cases(renderer: Renderer, limit: int, default: str | None = None) -> list[Question]:
    """Those that the template can write, of up to ``limit`` tokens.

    ``default``: the system message that the served model brings; it stands in the cases that have none of their own.
    """
    user, system = Message("user", "Hello, how are you?"), Message("system", "You sell tools.")
    turns = (user, Message("assistant", "Fine. And you?"), Message("user", "What does a hammer cost?"))
    parameters = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    function = {"name": "price", "description": "What a thing costs.", "parameters": parameters}
    tool, _left_out = normalise_tools([{"type": "function", "function": function}])
    cases: dict[str, tuple[tuple[Message, ...], str]] = {
        "one turn": ((user,), ""),
        "system": ((system, user), ""),
        "empty system": ((Message("system", ""), user), ""),
        "several turns": (turns, ""),
        "system, several turns": ((system, *turns), ""),
        "other scripts": ((Message("user", "¿Qué tal? 你好 👋🏽 Ω"),), ""),
        "accents apart": ((Message("user", "Que\u0301 tal"),), ""),
        "outer blanks": ((Message("user", "  hello \n"),), ""),
        "like a special token": ((Message("user", "<s> [INST] <|user|> </s> {{ x }}"),), ""),
        "tools": ((user,), tool),
    }
    found: list[Question] = []
    for case, (written, tools) in cases.items():
        messages = written if default is None or written[0].role == "system" else (Message("system", default), *written)
        try:
            text = renderer.template.render(messages, tools, add_generation_prompt=True)
        except DataError:
            continue  # the template refuses it, and so nothing of the kind was trained on
        if tools and any(text == other.text for other in found):
            continue  # it knows no tools, and Ollama refuses them
        ids = tuple(renderer.tokenizer.encode(text))
        if len(ids) <= limit:
            found.append(Question(messages, text, ids, tools, case))
    return found


def largest_difference(kind: Kind) -> float:
    """Of a first token's log-probability, that is still rounding."""
    return LARGEST_DIFFERENCE.get(kind, LARGEST_ROUNDED_DIFFERENCE)


def first_difference(here: Mapping[bytes, float], there: Mapping[bytes, float], kind: Kind, question: Question) -> float | None:
    """How far the log-probabilities of the likeliest first tokens are off, rare ones left aside; None where nothing was told.

    Raises QualityError above what rounding does, for a rare token also.
    """
    if not there:
        return None
    likeliest = sorted(here, key=lambda token: -here[token])[:_COMPARED]
    missing = [token for token in likeliest if token not in there]
    off = {token: abs(here[token] - there[token]) for token in likeliest if token in there}
    rare = {token for token in likeliest[1:] if here[token] < math.log(RARE)}
    allowed = {token: largest_difference(kind) * (_RARE_TIMES if token in rare else 1) for token in off}
    worst = max(off, key=lambda token: off[token] / allowed[token], default=None)
    if worst is None or off[worst] > allowed[worst] or len(missing) > 1:
        raise QualityError(
            _(
                "the served model finds other first words likely than this file does here (log-probabilities are off by "
                "{difference:.3g}; at most {largest:g} is rounding), for: {question}"
            ).format(
                difference=off[worst] if worst is not None else math.inf,
                largest=allowed[worst] if worst is not None else largest_difference(kind),
                question=question.asked,
            ),
            fix=_("look whether the server changes the file (its own quantizing, an adapter); or take deploy.to: embedded"),
        )
    return max((value for token, value in off.items() if token not in rare), default=None)


def parting_place(wanted: Sequence[object], got: Sequence[object]) -> int:
    """How many items both begin with alike."""
    apart = (place for place, (one, other) in enumerate(zip(wanted, got, strict=False)) if one != other)
    return next(apart, min(len(wanted), len(got)))


def parting(question: Question, got: str, bos: str | None) -> Parting | None:
    """Where ``got`` parts from the text of training, a BOS that the tokenizer adds aside; None where it is the same."""
    if question.text in (got, (bos or "") + got):
        return None
    place = parting_place(question.text, got)
    start = max(0, place - _SHOWN)
    return Parting(place, question.text[start : place + _SHOWN], got[start : place + _SHOWN])


def require_same_text(question: Question, got: str, bos: str | None) -> None:
    """QualityError where the served model reads another text than in training (a BOS that its tokenizer adds aside)."""
    if (found := parting(question, got, bos)) is None:
        return
    raise QualityError(
        _("the served model would read another text than in training; they part at character {place}:\n{want!r}\n{got!r}").format(
            place=found.place, want=found.wanted, got=found.got
        ),
        fix=_("report it with the chat template of the base; until then: --set deploy.to=embedded"),
    )


def require_same_count(question: Question, count: int) -> None:
    """QualityError where the served model reads another number of tokens (a doubled or a missing BOS, another tokenizer)."""
    if count != len(question.ids):
        raise QualityError(
            _("the served model reads {count} tokens where training had {wanted}, for: {question}").format(
                count=count, wanted=len(question.ids), question=question.asked
            ),
            fix=_("export again with: afina export NAME; if it stays so, report it with the base's name"),
        )


def first_that_ends(
    questions: Sequence[Question],
    ask: Callable[[Question, int], Reply],
    max_new_tokens: int,
    expected: Expected | None = None,
    *,
    must_end: bool = True,
    told_text: bool = True,
) -> Proof:
    """The first answer that ends by itself, else the last one where none need end. Every question is asked, those after
    it for a few tokens only. ``told_text``: whether their texts were compared before, and were the same.

    QualityError where none does and one must, for such a model would talk on for ever; and where one is read otherwise than in
    training, or where first words are less or more likely than is ``expected``.
    """
    proofs: list[Proof] = []
    checked: list[Checked] = []
    for question in questions:
        reply = ask(question, _FEW if any(proof.ended for proof in proofs) else max_new_tokens)
        require_same_count(question, reply.prompt_tokens)
        difference = first_difference(expected.first(question), reply.first, expected.kind, question) if expected else None
        checked.append(
            Checked(
                question.case,
                question.asked,
                True if told_text else None,
                reply.prompt_tokens,
                len(question.ids),
                same_tokens=True,
                difference=difference,
            )
        )
        ended = reply.finish == "stop"
        proofs.append(Proof(question.asked, reply.text, reply.answer_tokens, reply.tokens_per_second, ended))
    ending = next((proof for proof in proofs if proof.ended), None)
    if ending is None and must_end:
        raise QualityError(
            _("none of {count} answers ended by itself within {limit} tokens").format(count=len(questions), limit=max_new_tokens),
            fix=_("train longer (train.epochs), or allow longer answers (compare.max_new_tokens)"),
        )
    return add_checked(ending or proofs[-1], checked)


def checked_case(question: Question, got: str | None, tokens: int, bos: str | None, *, same_tokens: bool) -> Checked:
    """What came of a hard case whose text the server told, if it did."""
    found = None if got is None else parting(question, got, bos)
    return Checked(
        question.case,
        question.asked,
        None if got is None else found is None,
        tokens,
        len(question.ids),
        same_tokens=same_tokens,
        parting=found,
    )


def not_asked(question: Question, remark: str) -> Checked:
    """A hard case that the server refused, and why."""
    return Checked(question.case, question.asked, None, 0, len(question.ids), same_tokens=False, remark=remark)


def add_checked(proof: Proof, checked: Sequence[Checked]) -> Proof:
    return replace(proof, checked=(*proof.checked, *checked))
