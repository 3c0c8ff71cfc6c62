"""A door in front of llama.cpp for programs on this machine: OpenAI's interface and Ollama's, on 127.0.0.1 only.

    /v1/chat/completions  /v1/completions  /v1/models      handed on as they are, streams too
    /  /api/chat  /api/generate  /api/tags  /api/ps  /api/show  /api/version      Ollama's, translated

Several requests are answered at a time; more wait. A page in a browser that comes from elsewhere gets no answer: its ``Origin``
or ``Host`` tells. With a key, each request must carry it (``Authorization: Bearer …``).
"""

from __future__ import annotations

import http.client
import json
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

from afina.core.translation import _
from afina.core.units import MIB

BODY_LIMIT = 8 * MIB
STOP_S = 10.0  # an answer that is being written when the door closes has so long to end
OLLAMA = "0.30.0"  # the version of its interface
_HOSTS = frozenset(("127.0.0.1", "localhost", "[::1]", "::1"))
_BLOCK = 1 << 16
# Ollama's names of what llama.cpp calls otherwise; the others in _SAME are called alike.
_RENAMED = {"num_predict": "max_tokens"}
_SAME = frozenset(
    ("temperature", "top_k", "top_p", "min_p", "seed", "stop", "repeat_penalty", "presence_penalty", "frequency_penalty")
)

Answer = Callable[["_Request"], None]


@dataclass(frozen=True)
class Behind:
    """The llama.cpp that answers: its address, what clients call the model, and the tokens that a conversation may have.

    ``system`` is what Ollama's interface puts before a conversation that has no system message, as an Ollama would that the model
    was deployed to. ``kind``, ``size_bytes``, ``modified`` (seconds since 1970) and ``sha256`` are of the file, for programs that
    list models.
    """

    address: str
    model: str
    context: int
    system: str | None = None
    kind: str = ""
    size_bytes: int = 0
    modified: float = 0.0
    sha256: str = ""


class _RefusedError(Exception):
    """A request that is not answered: HTTP status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Gateway:
    """Listens on 127.0.0.1:``port`` while the block runs; 0 takes a free one."""

    def __init__(self, behind: Behind, *, port: int, key: str | None = None) -> None:
        self.behind = behind
        self.key = key
        self._server = _Server(("127.0.0.1", port), _Request)
        self._server.gateway = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """No new requests; those under way may end."""
        self._server.shutdown()
        self._server.server_close()
        self._server.wait(STOP_S)


class _Server(ThreadingHTTPServer):
    gateway: Gateway
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._running = 0
        self._changed = threading.Condition()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self._changed:
            self._running += 1
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._running == 0, seconds)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes in the middle of an answer is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 60  # seconds for a client to send what it announced

    def log_message(self, *args: object) -> None:
        """Nothing: what people ask is theirs."""

    def do_GET(self) -> None:
        handed_on = dict.fromkeys(("/health", "/v1/models"), self._relay)
        told = {"/": self._alive, "/api/tags": self._tags, "/api/ps": self._running, "/api/version": self._version}
        self._answer({**handed_on, **told})

    def do_HEAD(self) -> None:
        """Ollama's own program asks so whether anybody is there."""
        self._answer({"/": self._alive, "/api/tags": self._tags, "/api/version": self._version})

    def do_POST(self) -> None:
        handed_on = dict.fromkeys(("/v1/chat/completions", "/v1/completions"), self._relay)
        self._answer({**handed_on, "/api/chat": self._chat, "/api/generate": self._generate, "/api/show": self._show})

    def _answer(self, known: Mapping[str, Callable[[], None]]) -> None:
        self.body = b""
        try:
            self._require_allowed()
            self.body = self._read_body()
            path = urlsplit(self.path).path
            if path not in known:
                raise _RefusedError(404, _("there is no {path} here").format(path=path))
            known[path]()
        except _RefusedError as error:
            self.close_connection = True  # what was not read must not be taken for another request
            self._say(
                error.status,
                {"error": {"message": str(error), "code": error.status}} if "/v1" in self.path else {"error": str(error)},
            )
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, BrokenPipeError | ConnectionResetError):
                raise  # the client went
            self._say(502, {"error": _("llama.cpp does not answer: {reason}").format(reason=error)})

    def _require_allowed(self) -> None:
        host = self.headers.get("Host", "127.0.0.1").rpartition(":")[0] or self.headers.get("Host", "127.0.0.1")
        origin = self.headers.get("Origin")
        if host not in _HOSTS or (origin is not None and (urlsplit(origin).hostname or "") not in _HOSTS):
            raise _RefusedError(403, _("only programs and pages of this machine are answered"))
        key = self.server.gateway.key
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if key is not None and not secrets.compare_digest(given.encode(), key.encode()):
            raise _RefusedError(401, _("the key is missing or wrong: send Authorization: Bearer KEY"))

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") is not None or not length.isdigit():
            raise _RefusedError(411, _("send the length of the body (Content-Length)"))
        if int(length) > BODY_LIMIT:
            reason = _("the body has {size} bytes; at most {limit} are read")
            raise _RefusedError(413, reason.format(size=length, limit=BODY_LIMIT))
        return self.rfile.read(int(length))

    # ── OpenAI's ──

    def _relay(self) -> None:
        """The request as it is, and the answer as it comes."""
        with _Exchange(self.server.gateway.behind.address, self.command, self.path, self.body) as response:
            self.send_response(response.status)
            self.send_header("Content-Type", response.getheader("Content-Type", "application/json"))
            length = response.getheader("Content-Length")
            if length is not None:
                self.send_header("Content-Length", length)
            else:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while block := response.read1(_BLOCK):
                self._write(block, chunked=length is None)
            if length is None:
                self.wfile.write(b"0\r\n\r\n")

    # ── Ollama's ──

    def _version(self) -> None:
        self._say(200, {"version": OLLAMA})

    def _alive(self) -> None:
        self._say_content(200, b"Ollama is running", "text/plain; charset=utf-8")

    def _tags(self) -> None:
        self._say(200, {"models": [self._model()]})

    def _running(self) -> None:
        """The one model is always there, and does not go: its end is one that Ollama's program shows as never."""
        behind = self.server.gateway.behind
        more = {"expires_at": "2318-01-01T00:00:00Z", "size_vram": 0, "context_length": behind.context}
        self._say(200, {"models": [self._model() | more]})

    def _model(self) -> dict[str, Any]:
        behind = self.server.gateway.behind
        return {
            "name": f"{behind.model}:latest",
            "model": f"{behind.model}:latest",
            "modified_at": _moment(behind.modified),
            "size": behind.size_bytes,
            "digest": behind.sha256,
            "details": self._details(),
        }

    def _details(self) -> dict[str, Any]:
        return {"format": "gguf", "quantization_level": self.server.gateway.behind.kind.upper()}

    def _show(self) -> None:
        behind = self.server.gateway.behind
        wanted = str(self._json().get("model") or self._json().get("name") or behind.model)
        if wanted.partition(":")[0] != behind.model:
            raise _RefusedError(404, _("there is no model {wanted} here, only {model}").format(wanted=wanted, model=behind.model))
        self._say(
            200,
            {
                "parameters": f"num_ctx                        {behind.context}",
                **({"system": behind.system} if behind.system is not None else {}),
                "details": self._details(),
                "model_info": {},
                "capabilities": ["completion"],
                "modified_at": _moment(behind.modified),
            },
        )

    def _chat(self) -> None:
        asked = self._json()
        messages = asked.get("messages") or []
        if not isinstance(messages, list):
            raise _RefusedError(400, _("the messages are no list"))
        if not messages:
            self._loaded({"message": {"role": "assistant", "content": ""}})
            return
        self._ask(asked, asked["messages"], lambda text: {"message": {"role": "assistant", "content": text}})

    def _generate(self) -> None:
        asked = self._json()
        if not asked.get("prompt"):
            self._loaded({"response": ""})
            return
        system = [{"role": "system", "content": str(asked["system"])}] if asked.get("system") else []
        self._ask(asked, [*system, {"role": "user", "content": str(asked["prompt"])}], lambda text: {"response": text})

    def _loaded(self, empty: dict[str, Any]) -> None:
        """Without a question Ollama loads the model; here it is always there."""
        self._say(200, {**self._record(empty, done=True), "done_reason": "load"})

    def _ask(self, asked: Mapping[str, Any], messages: list[Any], spoken: Callable[[str], dict[str, Any]]) -> None:
        """Asks llama.cpp in OpenAI's words and answers in Ollama's, line by line or at once."""
        behind, start = self.server.gateway.behind, time.monotonic()
        if behind.system is not None and not (isinstance(messages[0], dict) and messages[0].get("role") == "system"):
            messages = [{"role": "system", "content": behind.system}, *messages]
        options = asked.get("options") or {}
        if int(options.get("num_ctx", 0)) > behind.context:
            reason = _("num_ctx is {wanted}; the model is served with {context} tokens")
            raise _RefusedError(400, reason.format(wanted=options["num_ctx"], context=behind.context))
        body = {
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"tools": asked["tools"]} if asked.get("tools") else {}),
            **{_RENAMED.get(name, name): value for name, value in options.items() if name in _RENAMED or name in _SAME},
        }
        with _Exchange(behind.address, "POST", "/v1/chat/completions", json.dumps(body).encode()) as response:
            if response.status != http.client.OK:
                raise _RefusedError(response.status, _reason_in(response.read()))
            streams = asked.get("stream", True)
            if streams:
                self.send_response(200)
                self.send_header("Content-Type", "application/x-ndjson")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
            whole, finish = "", "stop"
            usage: dict[str, int] = {}
            for event in _events(response):
                usage = event.get("usage") or usage
                for choice in event.get("choices") or ():
                    finish = choice.get("finish_reason") or finish
                    piece = (choice.get("delta") or {}).get("content") or ""
                    whole += piece
                    if piece and streams:
                        self._line(self._record(spoken(piece), done=False))
            last = {
                **self._record(spoken("" if streams else whole), done=True),
                "done_reason": "length" if finish == "length" else "stop",
                "total_duration": int((time.monotonic() - start) * 1e9),
                "prompt_eval_count": usage.get("prompt_tokens", 0),
                "eval_count": usage.get("completion_tokens", 0),
            }
            if streams:
                self._line(last)
                self.wfile.write(b"0\r\n\r\n")
            else:
                self._say(200, last)

    def _record(self, spoken: dict[str, Any], *, done: bool) -> dict[str, Any]:
        return {"model": self.server.gateway.behind.model, "created_at": _moment(time.time()), **spoken, "done": done}

    def _json(self) -> dict[str, Any]:
        try:
            asked = json.loads(self.body)
        except ValueError as error:
            raise _RefusedError(400, _("the body is no JSON: {reason}").format(reason=error)) from None
        if not isinstance(asked, dict):
            raise _RefusedError(400, _("the body is no JSON object"))
        return asked

    def _line(self, record: Mapping[str, Any]) -> None:
        self._write(json.dumps(record, ensure_ascii=False).encode() + b"\n", chunked=True)

    def _write(self, data: bytes, *, chunked: bool) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n" if chunked else data)
        self.wfile.flush()

    def _say(self, status: int, record: Mapping[str, Any]) -> None:
        self._say_content(status, json.dumps(record, ensure_ascii=False).encode(), "application/json")

    def _say_content(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class _Exchange:
    """A request to llama.cpp and its answer; leaving the block closes the connection, which stops an answer under way."""

    def __init__(self, address: str, method: str, path: str, body: bytes) -> None:
        place = urlsplit(address)
        self._connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=600)
        self._request = method, path, body or None, {"Content-Type": "application/json"}

    def __enter__(self) -> http.client.HTTPResponse:
        self._connection.request(*self._request)
        return self._connection.getresponse()

    def __exit__(self, *exc_info: object) -> None:
        self._connection.close()


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The JSON of server-sent events."""
    while line := response.readline():
        field, _colon, value = line.decode("utf-8").partition(":")
        if field == "data" and value.strip() != "[DONE]":
            yield json.loads(value)


def _reason_in(content: bytes) -> str:
    try:
        error = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        return content.decode("utf-8", "replace")[:500]
    return str(error.get("message", error) if isinstance(error, dict) else error)
