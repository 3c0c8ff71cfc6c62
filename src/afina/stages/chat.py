"""Chat: a conversation with a run's exported model, in the embedded llama.cpp."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from afina.core.errors import AfinaError
from afina.core.run import RunFolder
from afina.data.conversation import Message
from afina.infer.llama import LlamaServer
from afina.recipe.recipe import Recipe
from afina.stages.deploy import choose_context, choose_gguf

LOG = "chat.log"


@dataclass
class Chat:
    """A conversation that grows: ``turns`` are what was said so far, ``system`` stands before them."""

    server: LlamaServer
    model: str
    context: int
    system: str | None
    turns: list[Message] = field(default_factory=list)

    def ask(self, question: str) -> Generator[str, None, Literal["stop", "length"]]:
        """The answer in pieces, as it is made; returns whether it ended by itself.

        An answer that is stopped half-way stays in the conversation as far as it came; a question without any answer does not.
        """
        system = [Message("system", self.system)] if self.system else []
        asked = Message("user", question)
        pieces: list[str] = []
        stream = self.server.chat([*system, *self.turns, asked])
        try:
            while True:
                try:
                    piece = next(stream)
                except StopIteration as end:
                    return end.value  # type: ignore[no-any-return]
                pieces.append(piece)
                yield piece
        except AfinaError:
            pieces.clear()
            raise
        finally:
            stream.close()
            if pieces:
                self.turns += [asked, Message("assistant", "".join(pieces))]

    def reset(self) -> None:
        self.turns.clear()


@contextmanager
def open_chat(recipe: Recipe, run: RunFolder) -> Iterator[Chat]:
    """A conversation with the run's model, which runs while the block does."""
    gguf = choose_gguf(recipe, run)
    context = choose_context(recipe)
    with LlamaServer(gguf, context=context, name=recipe.name, log=run.root / "logs" / LOG) as server:
        yield Chat(server=server, model=gguf.name, context=context, system=recipe.system)
