"""From a conversation to token ids and the mask ``trained``, recorded while the text is built.

    <|im_start|>user\\nHola<|im_end|>\\n<|im_start|>assistant\\n | Buenas<|im_end|> | \\n
    trained:            no                                      |      yes         | no

For each answer the prompt is rendered as the served model gets it (``add_generation_prompt``), and the answer is what the
template writes behind it, up to and with the first special token of its tail: the end-of-turn token. Nothing is found by
searching for markers in the user's text.

Several answers of a conversation share a row where the tokens of each later prompt begin with the row so far. Some templates
rewrite earlier turns (Qwen3 drops their thoughts): there each answer becomes a row of its own, behind exactly the prompt that it
would be asked with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from afina.core.errors import DataError
from afina.core.translation import _
from afina.data.conversation import Conversation, Finding, Message, Source
from afina.data.template import ChatTemplate
from afina.data.tokenizer import Tokenizer

_ANSWER = "\ue000"  # a private-use character that no template writes


@dataclass(frozen=True)
class Row:
    """Token ids and which of them are targets; both (T,)."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    source: Source

    @property
    def trained_tokens(self) -> int:
        return sum(self.trained)


@dataclass(frozen=True)
class Renderer:
    """A template and a tokenizer that fit together; ``end_of_turn`` is the token that closes each answer."""

    template: ChatTemplate
    tokenizer: Tokenizer
    tail: str  # what the template writes behind an answer
    end_of_turn: str

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

    @property
    def end_of_turn_id(self) -> int:
        return self.tokenizer.special[self.end_of_turn]

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Ids of what the model reads before it answers ``messages``."""
        return self.tokenizer.encode(self.template.render(messages, add_generation_prompt=True))

    def rows(self, conversation: Conversation, max_tokens: int) -> list[Row] | Finding:
        """The conversation's training rows, or why it cannot be used."""
        for message in conversation.messages:
            if token := self.tokenizer.special_in(message.content):
                reason = _("the {role}'s text holds the special token {token}").format(role=message.role, token=token)
                return Finding(conversation.source, "special-token", reason)
            if lost := self.tokenizer.loses(message.content):
                reason = _("the tokenizer cannot write {count} characters: {lost}").format(count=len(lost), lost=lost[:20])
                return Finding(conversation.source, "lost-characters", reason)
        rows: list[Row] = []
        ids: list[int] = []
        trained: list[bool] = []
        try:
            for prompt, answer in self._turns(conversation.messages):
                if prompt[: len(ids)] != ids:
                    rows.append(Row(tuple(ids), tuple(trained), conversation.source))
                    ids, trained = [], []
                trained += [False] * (len(prompt) - len(ids)) + [True] * len(answer)
                ids = prompt + answer
        except DataError as error:
            return Finding(conversation.source, "template", error.what)
        rows.append(Row(tuple(ids), tuple(trained), conversation.source))
        return self._refusal(rows, max_tokens) or rows

    def _turns(self, messages: Sequence[Message]) -> list[tuple[list[int], list[int]]]:
        """Ids of the prompt and of the answer for each assistant message."""
        turns = []
        for place in (number for number, message in enumerate(messages) if message.role == "assistant"):
            prompt = self.template.render(messages[:place], add_generation_prompt=True)
            whole = self.template.render(messages[: place + 1], add_generation_prompt=False)
            if not whole.startswith(prompt) or not whole.endswith(self.tail):
                raise DataError(
                    _("the chat template '{name}' does not write the answer behind its own prompt").format(
                        name=self.template.name
                    ),
                    fix=_("choose another chat_template in the recipe"),
                )
            kept = len(whole) - len(self.tail) + self.tail.index(self.end_of_turn) + len(self.end_of_turn)
            turns.append(self._encode_pair(prompt, whole[len(prompt) : kept]))
        return turns

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

    def _refusal(self, rows: Sequence[Row], max_tokens: int) -> Finding | None:
        """Why these rows must not be trained on, or None."""
        for row in rows:
            if len(row.ids) > max_tokens:
                reason = _("{count} tokens; at most {limit} fit").format(count=len(row.ids), limit=max_tokens)
                return Finding(row.source, "too-long", reason)
            bos_id = self.tokenizer.bos_id
            bos_count = 0 if bos_id is None or bos_id == self.end_of_turn_id else row.ids.count(bos_id)
            if bos_count > 1:
                return Finding(row.source, "double-bos", _("{count} tokens mark the beginning").format(count=bos_count))
            ends = [
                number
                for number, (token, on) in enumerate(zip(row.ids, row.trained, strict=True))
                if on and token == self.end_of_turn_id
            ]
            closings = [n for n, on in enumerate(row.trained) if on and (n + 1 == len(row.ids) or not row.trained[n + 1])]
            if ends != closings:
                reason = _("{count} end-of-turn tokens in {answers} answers").format(count=len(ends), answers=len(closings))
                return Finding(row.source, "end-of-turn", reason)
            if row.trained_tokens <= len(closings):
                return Finding(row.source, "teaches-nothing", _("no token of an answer is left to train on"))
        return None


def preview(row: Row, tokenizer: Tokenizer, limit: int = 400) -> str:
    """The row's tokens with what is trained in ⟦brackets⟧: what a person checks before a run."""
    parts: list[str] = []
    inside = False
    for token, on in islice(zip(row.ids, row.trained, strict=True), limit):
        if on != inside:
            parts.append("⟦" if on else "⟧")
            inside = on
        parts.append(tokenizer.token(token))
    return " ".join(parts) + (" ⟧" if inside else "")
