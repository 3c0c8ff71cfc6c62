"""A server that speaks as OpenAI's API does, and may misbehave: each request takes the next of its ``ways``."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[list[dict[str, str]]], str]


@dataclass
class Server:
    """``ways``: ``well``, ``429``, ``500``, ``half`` (it hangs up in the middle), ``rubbish``, ``slow``; the last one stays.

    ``requests``: headers and body of each.
    """

    answer: Answer
    ways: list[str] = field(default_factory=lambda: ["well"])
    requests: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    address: str = ""


@contextmanager
def serving(answer: Answer, *ways: str) -> Iterator[Server]:
    fake = Server(answer, list(ways) or ["well"])

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.requests.append((dict(self.headers), body))
            way = fake.ways.pop(0) if len(fake.ways) > 1 else fake.ways[0]
            text = fake.answer(body["messages"])
            whole = json.dumps(
                {
                    "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 50, "completion_tokens": 7},
                }
            ).encode()
            if way == "slow":
                threading.Event().wait(1.0)  # a test may have stopped time.sleep
            status = {"429": 429, "500": 500}.get(way, 200)
            content = {"rubbish": b"<html>hello</html>", "429": b"wait", "500": b"oh"}.get(way, whole)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if way == "429":
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if way == "half" else content)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.address = f"http://127.0.0.1:{http.server_port}/v1"
    try:
        yield fake
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
