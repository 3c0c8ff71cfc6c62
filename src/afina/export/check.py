"""The proof that a GGUF is the model that was trained: its numbers, its reading of text, and its choices, against our own.

 1. numbers   the file reopened by the ``gguf`` reader: each tensor against the merged weight, relative error below a ceiling
 2. reading   prompts and whole held-out conversations: rendered and cut into tokens by llama.cpp, the same ids as in training
 3. choices   greedy tokens on held-out prompts: llama.cpp says them, and torch, with the adapter beside the base, reads the same
              text and tells for each token whether it would have chosen it

Where the choices part, the margin decides by which torch's token is ahead of llama.cpp's. Rounding moves margins a little, for
llama.cpp rounds activations to the type of the weights. Below NEAR_TIE such a place is a near tie, counted. Above it, it is an
error.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray

from afina.core.errors import QualityError
from afina.core.translation import _
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Renderer
from afina.data.tokenizer import Tokenizer
from afina.export.encode import Piece, encoders, pieces_of
from afina.export.gguf import FilePlan, OnBytes, TensorFile
from afina.export.proof import parting_place
from afina.export.tensor import TensorPlan
from afina.infer.llama import LlamaServer
from afina.model.merge import MergedWeights
from afina.model.streamed import Passage
from afina.model.weights import Float32
from afina.recipe.kinds import Kind

# Logits. The largest differences of margins measured: F32 0.00002, in the Gemma family 0.004, from llama.cpp's table of GELU; F16
# 0.011 on 960 tokens of real small models, 0.044 on random ones. A margin of 0.05 is 51 % against 49 % between the two tokens.
NEAR_TIE: dict[Kind, float] = {"f32": 1e-2, "f16": 5e-2}
# The same between a more rounded file and torch with the numbers of that file: llama.cpp rounds what goes into a product, too.
# Measured: 0.06 on a real small model, 0.7 on random ones, whose words differ by tens of nats.
ROUNDED_NEAR_TIE = 1.0
MERGING_ALLOWED = 1e-2  # nats
# Relative root mean square error of a tensor: F32 exact, 11 and 8 bits of mantissa, 8 bits a block of 32, and so on. On normally
# distributed numbers it is about half of what is allowed here.
CEILING = {
    "F32": 0.0,
    "F16": 4e-4,
    "BF16": 3e-3,
    "Q8_0": 1.5e-2,
    "Q6_K": 4e-2,
    "Q5_K": 7e-2,
    "Q5_0": 7e-2,
    "Q5_1": 7e-2,
    "Q4_K": 0.14,
    "IQ4_XS": 0.14,
    "IQ4_NL": 0.14,
    "Q4_0": 0.18,
    "Q3_K": 0.28,
}
_SHOWN_TOKENS = 6


@dataclass(frozen=True)
class NumberCheck:
    """``worst_error``: the largest relative error of a tensor, and which."""

    tensors: int
    worst_error: float
    worst_tensor: str


@dataclass(frozen=True)
class ReadingCheck:
    """``untidy`` ones are read alike only with accents in one character each (NFC) and without unusual blanks at the ends."""

    conversations: int
    untidy: int


@dataclass(frozen=True)
class Said:
    """What llama.cpp says to a held-out prompt: ``ids``, at most as many as are compared, and ``more`` where it then goes on.

    ``early_ends``: how often it ended at a token whose name it knows, and that the base does not call an end.
    """

    source: Source
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    more: tuple[int, ...] = ()
    early_ends: int = 0

    @property
    def passage(self) -> Passage:
        """For torch: the text, and the places of what was said."""
        start = len(self.prompt_ids)
        return Passage((*self.prompt_ids, *self.ids), tuple(range(start, start + len(self.ids))))


@dataclass(frozen=True)
class Judgement:
    """What torch would have said in the place of each token, and by how much that is likelier (in nats; 0 for the same one)."""

    choices: tuple[int, ...]
    ahead: tuple[float, ...]


@dataclass(frozen=True)
class NearTie:
    """A place where rounding decided: ``position`` counts generated tokens from 0; torch's token is likelier by ``margin``."""

    source: Source
    position: int
    torch_id: int
    llama_id: int
    margin: float


@dataclass(frozen=True)
class ChoiceCheck:
    """``early_ends``: answers that llama.cpp ended at a token whose name it knows, and that the base does not call an end."""

    prompts: int
    tokens: int
    near_ties: tuple[NearTie, ...]
    early_ends: int


def check_numbers(
    path: Path,
    plan: FilePlan,
    weights: MergedWeights,
    importance: Mapping[str, Float32] | None = None,
    progress: OnBytes | None = None,
) -> NumberCheck:
    """Reopens ``path`` with the ``gguf`` reader. Raises QualityError where keys, shapes or numbers are not those of the plan.

    ``importance``: as the file was rounded with it.
    """
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, OSError) as cause:  # what the reader raises for a file that is cut
        raise _not_as_written(path, str(cause)) from cause
    _require_keys(path, plan, reader)
    found = {tensor.name: tensor for tensor in reader.tensors}
    if list(found) != [tensor.name for tensor in plan.tensors]:
        raise _not_as_written(path, _("{count} tensors instead of {wanted}").format(count=len(found), wanted=len(plan.tensors)))
    for tensor in plan.tensors:
        _require_form(path, tensor, found[tensor.name], plan)
    read = {tensor: tensor.plan for tensor in plan.tensors if tensor.plan is not None}
    placed = _placed(read, {name: int(tensor.data_offset) for name, tensor in found.items()})
    off, size = dict.fromkeys(read, 0.0), dict.fromkeys(read, 0.0)
    done, total = 0, sum(tensor.nbytes for tensor in read)
    with encoders(weights, {tensor.type for tensor in read}, plan.values, importance) as encoder:
        deviations = encoder.deviations(path, (pair for _tensor, pair in placed()))
        for (tensor, (piece, _offset)), deviation in zip(placed(), deviations, strict=True):
            off[tensor] += deviation.off
            size[tensor] += deviation.size
            done += piece.nbytes
            if progress is not None:
                progress(done, total)
    worst = (0.0, "")
    for tensor in read:
        error = float(np.sqrt(off[tensor] / (size[tensor] or 1.0)))
        if not error <= CEILING[tensor.type.name]:  # NaN fails as well
            raise _not_as_written(
                path,
                _("{name} ({type}) is off by {error:.2f} % of its size; at most {ceiling:.2f} % is rounding").format(
                    name=tensor.name, type=tensor.type.name, error=100 * error, ceiling=100 * CEILING[tensor.type.name]
                ),
            )
        worst = max(worst, (error, tensor.name))
    return NumberCheck(len(found), *worst)


def check_reading(server: LlamaServer, renderer: Renderer, conversations: Sequence[Conversation]) -> ReadingCheck:
    """Raises QualityError where llama.cpp renders a prompt otherwise than training, or cuts a text into other tokens."""
    untidy = 0
    for conversation in conversations:
        if _misreading(server, renderer, conversation.messages, conversation.tools) is None:
            continue
        misreading = _misreading(server, renderer, tuple(map(_tidy, conversation.messages)), conversation.tools)
        if misreading is not None:
            raise QualityError(
                _("llama.cpp reads {source} otherwise than training did: {misreading}").format(
                    source=conversation.source, misreading=misreading
                ),
                fix=_("do not use this file; choose another chat_template, or another base"),
            )
        untidy += 1
    return ReadingCheck(len(conversations), untidy)


def listen(
    server: LlamaServer, renderer: Renderer, conversations: Sequence[Conversation], most: int, stop_ids: Sequence[int]
) -> list[Said]:
    """What llama.cpp says to the conversations' prompts: up to ``most`` greedy tokens, one after another."""
    return [
        _listen(server, talk.source, renderer.prompt_ids(talk.prompt, talk.tools), most, frozenset(stop_ids))
        for talk in conversations
    ]


def judge(said: Sequence[Said], logs: Iterable[NDArray[np.float32]]) -> Iterator[Judgement]:
    """From torch's log-probabilities at each place of ``said``, (places, V).

    Raises QualityError where they are not numbers: the weights or the adapter are broken.
    """
    for one, values in zip(said, logs, strict=True):
        places = np.arange(len(one.ids))
        choices = values.argmax(-1)  # the first of equal ones
        if not np.isfinite(values[places, choices]).all():
            raise QualityError(
                _("the model's output is not finite: its weights or its adapter are broken"),
                fix=_("train again with a lower train.learning_rate, or check the base model's files"),
            )
        ahead = values[places, choices] - values[places, list(one.ids)]
        yield Judgement(tuple(choices.tolist()), tuple(ahead.tolist()))


def check_choices(
    said: Sequence[Said], judged: Sequence[Judgement], tokenizer: Tokenizer, stop_ids: Sequence[int], near_tie: float
) -> ChoiceCheck:
    """Raises QualityError at the first place where llama.cpp chooses another token than torch, and not for rounding's sake."""
    ties: list[NearTie] = []
    for one, judgement in zip(said, judged, strict=True):
        ties += _near_ties(one, judgement, tokenizer, frozenset(stop_ids), near_tie)
    return ChoiceCheck(len(said), sum(len(one.ids) for one in said), tuple(ties), sum(one.early_ends for one in said))


def near_tie(kind: Kind) -> float:
    """Nats by which torch may find another token likelier than the one that llama.cpp chose."""
    return NEAR_TIE.get(kind, ROUNDED_NEAR_TIE)


def check_merging(beside: Iterable[NDArray[np.float32]], merged: Iterable[NDArray[np.float32]]) -> float:
    """The largest difference of a log-probability between the adapter beside its base and worked into it, both by torch.

    Raises QualityError above what rounding does.
    """
    worst = max((float(np.abs(one - other).max(initial=0.0)) for one, other in zip(beside, merged, strict=True)), default=0.0)
    if not worst <= MERGING_ALLOWED:  # NaN fails as well
        raise QualityError(
            _(
                "the adapter worked into the weights is not the adapter beside them: log-probabilities are off by {worst:.3g}"
            ).format(worst=worst)
            + _("; at most {allowed:g} is rounding").format(allowed=MERGING_ALLOWED),
            fix=_("do not use these files; please report it with the base's name"),
        )
    return worst


def check_ending(server: LlamaServer, conversations: Sequence[Conversation], max_new_tokens: int) -> Source | None:
    """The first of ``conversations`` whose prompt gets an answer that ends by itself; None where none does."""
    for conversation in conversations:
        if server.answer(conversation.prompt, max_new_tokens, conversation.tools).finish == "stop":
            return conversation.source
    return None


def _listen(server: LlamaServer, source: Source, prompt_ids: Sequence[int], most: int, stop_ids: frozenset[int]) -> Said:
    """One token more is asked for: whoever ends with the last one must not go on."""
    ids: list[int] = []
    early_ends = 0
    while len(ids) <= most:
        wanted = most + 1 - len(ids)
        got = server.greedy([*prompt_ids, *ids], wanted)
        ids += got
        if len(got) == wanted or not got or got[-1] in stop_ids:
            break
        early_ends += 1
    return Said(source, tuple(prompt_ids), tuple(ids[:most]), tuple(ids[most:]), early_ends)


def _near_ties(
    said: Said, judgement: Judgement, tokenizer: Tokenizer, stop_ids: frozenset[int], near_tie: float
) -> Iterator[NearTie]:
    """Raises QualityError at a place that is none, and where llama.cpp goes on behind an end."""
    for place, (token, choice, ahead) in enumerate(zip(said.ids, judgement.choices, judgement.ahead, strict=True)):
        if choice != token:
            if ahead >= near_tie:
                torch_side = _("torch chose {token}").format(token=_token(tokenizer, choice))
                raise _parted(said, place, tokenizer, torch_side, token, ahead)
            yield NearTie(said.source, place, choice, token, ahead)
        following = [*said.ids[place + 1 :], *said.more]
        if token in stop_ids and following:
            raise _parted(said, place + 1, tokenizer, _("torch ended there"), following[0], None)


def _parted(said: Said, place: int, tokenizer: Tokenizer, torch_side: str, llama_id: int, margin: float | None) -> QualityError:
    before = tokenizer.decode(said.ids[max(0, place - _SHOWN_TOKENS) : place])
    what = _("llama.cpp and torch part at token {place} of the answer to {source}: {torch_side}, llama.cpp chose {token}").format(
        place=place + 1, source=said.source, torch_side=torch_side, token=_token(tokenizer, llama_id)
    )
    if margin is not None:
        what += _("; torch's margin was {margin:.3g}").format(margin=margin)
    return QualityError(
        what + _("; before it stood {text!r}").format(text=before),
        fix=_("do not use this file; please report it with the base's name"),
    )


def _require_keys(path: Path, plan: FilePlan, reader: Any) -> None:
    for key, value in plan.keys.items():
        field = reader.fields.get(key)
        found = None if field is None else field.contents()
        same = np.float32(value) == np.float32(found) if isinstance(value, float) and found is not None else found == value
        if not same:
            shown = repr(found)[:60]
            raise _not_as_written(path, _("the key {key} holds {found}").format(key=key, found=shown))


def _require_form(path: Path, tensor: TensorFile, found: Any, plan: FilePlan) -> None:
    """Shape and type, and the very numbers of a tensor that is computed."""
    same = tuple(reversed(found.shape.tolist())) == tensor.shape and found.tensor_type == tensor.type
    if not same or (tensor.plan is None and not np.array_equal(found.data, plan.layout.computed[tensor.name])):
        raise _not_as_written(
            path, _("{name} is {type} {shape}").format(name=tensor.name, type=found.tensor_type.name, shape=found.shape.tolist())
        )


def _placed(
    read: Mapping[TensorFile, TensorPlan], offsets: Mapping[str, int]
) -> Callable[[], Iterator[tuple[TensorFile, tuple[Piece, int]]]]:
    """All pieces of all tensors with their places in the file, as often as they are asked for."""

    def pieces() -> Iterator[tuple[TensorFile, tuple[Piece, int]]]:
        for tensor, plan in read.items():
            offset = offsets[tensor.name]
            for piece in pieces_of(plan, tensor.type):
                yield tensor, (piece, offset)
                offset += piece.nbytes

    return pieces


def _misreading(server: LlamaServer, renderer: Renderer, messages: tuple[Message, ...], tools: str) -> str | None:
    """Where llama.cpp reads ``messages`` otherwise than training does; None where all ids are the same."""
    text = renderer.template.render(messages, tools, add_generation_prompt=False)
    readings = (
        (_("prompt"), renderer.prompt_ids(messages[:-1], tools), server.prompt_ids(messages[:-1], tools)),
        (_("conversation"), renderer.tokenizer.encode(text), server.tokenize(text)),
    )
    for part, wanted, got in readings:
        if wanted != got:
            place = parting_place(wanted, got)
            return _("{part}, from token {place} on {got} instead of {wanted}").format(
                part=part,
                place=place + 1,
                got=_tokens(renderer.tokenizer, got[place:]),
                wanted=_tokens(renderer.tokenizer, wanted[place:]),
            )
    return None


def _tidy(message: Message) -> Message:
    """What a base's normalizer (NFC) or a template's ``trim`` may make of a text; llama.cpp has neither but for plain blanks."""
    return replace(message, content=unicodedata.normalize("NFC", message.content).strip())


def _tokens(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return " ".join(_token(tokenizer, number) for number in ids[:_SHOWN_TOKENS]) or _("nothing")


def _token(tokenizer: Tokenizer, number: int) -> str:
    return f"{number} {tokenizer.token(number)!r}"


def _not_as_written(path: Path, reason: str) -> QualityError:
    return QualityError(
        _("{path} is not what was written: {reason}").format(path=path, reason=reason),
        fix=_("look at the disk, then export again: afina export"),
    )
