"""A model elsewhere, behind Ollama or an address that speaks as OpenAI's API does, asked a few questions at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from afina.compare.kept import Kept, key_of
from afina.core.errors import ServiceError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.infer.answer import Answer
from afina.infer.ollama import Ollama
from afina.infer.openai import OpenAI, is_local
from afina.infer.several import AT_ONCE_HERE, at_once, several
from afina.recipe.recipe import Model

TIMEOUT_S = 300.0  # for one answer


@dataclass(frozen=True)
class Told:
    """An answer, and the tokens of its prompt as the server counted them; 0 where it does not tell."""

    answer: Answer
    prompt_tokens: int


@dataclass(frozen=True)
class Endpoint:
    """``name`` is what the model is called here, ``model`` at its server."""

    name: str
    model: str
    client: OpenAI | Ollama

    def ask_all(self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, kept: Kept | None) -> Iterator[Told]:
        """An answer to each, in their order, a few asked at once; each is kept as it comes. Raises as ``ask`` does."""
        return several(lambda prompt: self.ask_once(prompt, max_new_tokens, kept), prompts, at_once(self.client.address))

    def ask(self, messages: Sequence[Message], max_new_tokens: int) -> Told:
        """One answer, greedy where the server allows it. Raises ServiceError or DataError, each a sentence."""
        start = time.monotonic()
        reply = self.client.chat(self.model, messages, max_new_tokens)
        seconds = time.monotonic() - start
        answer = Answer(reply.text, (), "length" if reply.finish == "length" else "stop", seconds, reply.answer_tokens)
        return Told(answer, reply.prompt_tokens)

    def ask_once(self, messages: Sequence[Message], max_new_tokens: int, kept: Kept | None) -> Told:
        """The same; what the server answered to the same messages before is taken from ``kept``."""
        key = self._key(messages, max_new_tokens)
        if kept is not None and (found := kept.get(key)) is not None:
            text, finish, seconds, counted, prompt_tokens = found
            return Told(Answer(text, (), finish, seconds, counted), prompt_tokens)
        told = self.ask(messages, max_new_tokens)
        if kept is not None:
            answer = told.answer
            kept.put(key, [answer.text, answer.finish, round(answer.seconds, 4), answer.counted, told.prompt_tokens])
        return told

    def was_asked(self, messages: Sequence[Message], max_new_tokens: int, kept: Kept) -> bool:
        """Whether the answer is kept."""
        return kept.get(self._key(messages, max_new_tokens)) is not None

    def _key(self, messages: Sequence[Message], max_new_tokens: int) -> str:
        return key_of("elsewhere", self.client.address, self.model, [asdict(message) for message in messages], max_new_tokens)


def called(models: Sequence[Model]) -> list[str]:
    """What the recipe's models are called here: by their names, and where two have one, with their place."""
    names = [model.name for model in models]
    return [f"{model.name} ({model.at})" if names.count(model.name) > 1 else model.name for model in models]


def open_endpoints(models: Sequence[Model]) -> list[Endpoint]:
    """The recipe's models elsewhere. Nothing is asked yet."""
    return [replace(open_endpoint(model), name=name) for model, name in zip(models, called(models), strict=True)]


def open_endpoint(model: Model) -> Endpoint:
    """The model's endpoint. Raises ServiceError where its address is none, or its key is not there."""
    if model.at == "ollama":
        return Endpoint(model.name, model.name, Ollama(Ollama.from_environment().address, AT_ONCE_HERE * TIMEOUT_S))
    client = OpenAI.at(model.at, model.key, TIMEOUT_S)
    if is_local(client.address):  # it may answer one question after the other
        client = replace(client, timeout_s=AT_ONCE_HERE * TIMEOUT_S)
    return Endpoint(model.name, model.name, client)


def require_no_tools(tools: Sequence[str], name: str) -> None:
    """Raises ServiceError where questions offer tools: what a server answers to them is no text that could be compared."""
    if any(tools):
        raise ServiceError(
            _("{model}: the held-out questions offer tools, which is not compared with models elsewhere").format(model=name),
            fix=_("take it out of compare.models"),
        )
