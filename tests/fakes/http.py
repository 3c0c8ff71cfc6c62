"""A small HTTP server on this machine: what a function makes of each request. Clients that go away are no news."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Request:
    """``body``: what its JSON says; None where there is none."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Response:
    """``content``: bytes as they are, anything else as JSON. ``cut``: the connection breaks in the middle of it."""

    content: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


Answer = Callable[[Request], Response]


class QuietServer(ThreadingHTTPServer):
    """Several requests at once, each in a thread of its own."""

    daemon_threads = True
    request_queue_size = 32

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes in the middle of an answer is no news; all else is a fault of the test."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def running(handler: type[BaseHTTPRequestHandler], port: int = 0) -> Iterator[QuietServer]:
    """At ``port``; 0 takes a free one."""
    server = QuietServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def answering(answer: Answer, port: int = 0) -> Iterator[str]:
    """The address of a server that answers: ``http://127.0.0.1:40123``."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.respond(None)

        def do_POST(self) -> None:
            self.respond(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def respond(self, body: Any) -> None:
            response = answer(Request(self.command, self.path, dict(self.headers), body))
            content = response.content if isinstance(response.content, bytes) else json.dumps(response.content).encode()
            self.send_response(response.status)
            for name, value in {**response.headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if response.cut else content)

    with running(Handler, port) as server:
        yield f"http://127.0.0.1:{server.server_port}"
