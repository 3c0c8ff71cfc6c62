"""A server that speaks as OpenAI's API does, and as Ollama's, and may misbehave: each request takes the next of its ``ways``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.http import Request, Response, answering

Answer = Callable[[list[dict[str, str]]], str]

OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"


@dataclass
class Server:
    """``ways``: ``well``, ``429``, ``500``, ``half`` (it hangs up in the middle), ``undone``, ``rubbish``, ``slow``; the last one
    stays.

    ``requests``: headers and body of each. ``root`` is the address, ``address`` that of OpenAI's API.
    """

    answer: Answer
    ways: list[str] = field(default_factory=lambda: ["well"])
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    pause: str = "0"
    root: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return f"{self.root}/v1"

    def respond(self, request: Request) -> Response:
        with self._lock:
            self.requests.append((dict(request.headers), request.body))
            way = self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]
        if way == "slow":
            threading.Event().wait(1.0)  # a test may have stopped time.sleep
        if way == "429":
            return Response(b"wait", 429, {"Retry-After": self.pause})
        if way == "500":
            return Response(b"oh", 500)
        if way == "rubbish":
            return Response(b"<html>hello</html>")
        text = self.answer(request.body["messages"])
        content = _of_ollama(text, done=way != "undone") if request.path == OLLAMA else _of_openai(text)
        return Response(content, cut=way == "half")


def _of_openai(text: str) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 50, "completion_tokens": 7},
    }


def _of_ollama(text: str, *, done: bool) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"message": message, "done": done, "done_reason": "stop", "prompt_eval_count": 50, "eval_count": 7}


@contextmanager
def serving(answer: Answer, *ways: str, port: int = 0) -> Iterator[Server]:
    fake = Server(answer, list(ways) or ["well"])
    with answering(fake.respond, port) as fake.root:
        yield fake
