"""An Ollama that is none, with the behaviour that was seen of 0.32.15: real blobs, real GGUF files, answers by llama.cpp.

``faults`` make it behave as badly as the real one can: see ``Fault``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Self

import gguf

from afina.core.errors import DataError
from afina.data.conversation import Message
from afina.infer.llama import LlamaServer
from tests.fakes.http import running

EVAL_NS = 2_000_000  # for a token
VALIDATION = "failed to validate GGUF with llama-quantize without compatibility patches: llama-quantize failed: exit status 1"


class Fault(Enum):
    """What can go wrong at the other end."""

    DIGEST = auto()  # an upload breaks on its way
    CREATE_IN_STREAM = auto()  # refusal inside an answer with status 200
    CREATE_500 = auto()
    CREATE_BREAKS_OFF = auto()  # the stream ends before "success"
    FORGETS_CONTEXT = auto()
    NOT_DONE = auto()  # 200, done: false
    OTHER_TEXT = auto()  # another chat template than the GGUF's
    OTHER_COUNT = auto()  # a BOS more
    OTHER_NUMBERS = auto()  # it rounded the weights anew
    OTHER_INSIDE = auto()  # likewise, and only within an answer is it seen
    NO_DEBUG = auto()  # does not tell the text
    OLD = auto()


@dataclass(frozen=True)
class Made:
    """A model: its blob and what it was made with."""

    blob: Path
    parameters: dict[str, Any]
    system: str


@dataclass
class FakeOllama:
    folder: Path
    faults: set[Fault] = field(default_factory=set)
    made: dict[str, Made] = field(default_factory=dict)
    requests: list[tuple[str, str, Any]] = field(default_factory=list)
    address: str = ""
    _servers: dict[tuple[Path, int], LlamaServer] = field(default_factory=dict)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        fake: FakeOllama = self

        class Handler(_Handler):
            ollama = fake

        server = self._stack.enter_context(running(Handler))
        self.address = f"http://127.0.0.1:{server.server_port}"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def blob(self, digest: str) -> Path:
        return self.folder / digest.replace(":", "-")

    def running(self, model: Made) -> LlamaServer:
        """llama.cpp with the model's file, started once."""
        context = int(model.parameters.get("num_ctx", 4096))
        with self._lock:
            if (model.blob, context) not in self._servers:
                self._servers[model.blob, context] = self._stack.enter_context(LlamaServer(model.blob, context=context))
            return self._servers[model.blob, context]


class _Handler(BaseHTTPRequestHandler):
    ollama: FakeOllama
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._say(200 if self.ollama.blob(self.path.rpartition("/")[2]).is_file() else 404)

    def do_GET(self) -> None:
        version = "0.12.6" if Fault.OLD in self.ollama.faults else "0.32.15"
        if self.path == "/api/version":
            self._say(200, {"version": version})
        elif self.path == "/api/tags":
            self._say(200, {"models": [_tag(name, made) for name, made in self.ollama.made.items()]})
        else:
            self._say(404)

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/api/blobs/"):
            self.ollama.requests.append(("POST", self.path, len(content)))
            self._receive_blob(self.path.rpartition("/")[2], content)
            return
        body = json.loads(content)
        self.ollama.requests.append(("POST", self.path, body))
        match self.path:
            case "/api/create":
                self._create(body)
            case "/api/show":
                self._show(body["model"])
            case "/api/chat":
                self._chat(body)
            case "/api/generate":
                self._go_on(body)
            case "/api/copy":
                made = self._known(body["source"])
                if made is not None:
                    self.ollama.made[_tagged(body["destination"])] = made
                    self._say(200)
            case _:
                self._say(404)

    def do_DELETE(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.ollama.requests.append(("DELETE", self.path, body))
        if self._known(body["model"]) is not None:
            del self.ollama.made[_tagged(body["model"])]
            self._say(200)

    def _receive_blob(self, digest: str, content: bytes) -> None:
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            self._say(400, {"error": "invalid digest format"})
            return
        if Fault.DIGEST in self.ollama.faults:
            content = content[:-1]
        got = f"sha256:{hashlib.sha256(content).hexdigest()}"
        if got != digest:
            self._say(400, {"error": f'digest mismatch, expected "{digest}", got "{got}"'})
            return
        self.ollama.blob(digest).write_bytes(content)
        self._say(201)

    def _create(self, body: dict[str, Any]) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*(:[A-Za-z0-9._-]+)?", body["model"]):
            self._say(400, {"error": "invalid model name"})
            return
        if Fault.CREATE_500 in self.ollama.faults:
            self._say(500, {"error": "write /var/lib/ollama/blobs/x: no space left on device"})
            return
        self._stream(self._creation(body))

    def _creation(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The lines of the stream; the model is there when the last one is."""
        (digest,) = body["files"].values()
        blob = self.ollama.blob(digest)
        if not blob.is_file():
            yield {"error": f"open {blob}: no such file or directory"}
            return
        yield {"status": "parsing GGUF"}
        if blob.read_bytes()[:4] != b"GGUF":
            yield {"error": "supplied file was not in GGUF format"}
            return
        try:
            reader = gguf.GGUFReader(blob)
        except ValueError:
            yield {"error": "unexpected EOF"}
            return
        yield {"status": "verifying conversion"}
        if Fault.CREATE_IN_STREAM in self.ollama.faults or "llama.context_length" not in reader.fields:
            yield {"error": VALIDATION}
            return
        yield {"status": f"creating new layer {digest}"}
        yield {"status": "writing manifest"}
        if Fault.CREATE_BREAKS_OFF in self.ollama.faults:
            return
        self.ollama.made[_tagged(body["model"])] = Made(blob, body.get("parameters", {}), body.get("system", ""))
        yield {"status": "success"}

    def _show(self, name: str) -> None:
        model = self._known(name)
        if model is None:
            return
        parameters = {**model.parameters, **({"num_ctx": 2048} if Fault.FORGETS_CONTEXT in self.ollama.faults else {})}
        template = gguf.GGUFReader(model.blob).fields["tokenizer.chat_template"].contents()
        record = {
            "template": template,
            "parameters": "\n".join(f"{key:<30} {value}" for key, value in parameters.items()),
            "details": {"format": "gguf", "family": "llama"},
            "capabilities": ["completion"],
        }
        self._say(200, {**record, **({"system": model.system} if model.system else {})})

    def _chat(self, body: dict[str, Any]) -> None:
        model = self._known(body["model"])
        if model is None:
            return
        messages = [Message(row["role"], row["content"]) for row in body["messages"]]
        if model.system and messages[0].role != "system":
            messages.insert(0, Message("system", model.system))
        server = self.ollama.running(model)
        if body.get("_debug_render_only") and Fault.NO_DEBUG not in self.ollama.faults:
            text = server.render(messages)
            if Fault.OTHER_TEXT in self.ollama.faults:
                text = text.replace("<|im_start|>user\n", "USER: ")
            told = {"message": {"role": "", "content": ""}, "done": False, "_debug_info": {"rendered_template": text}}
            self._say(200, {"model": body["model"], **told})  # as Ollama 0.33 does: nothing was answered, so nothing is done
            return
        if body.get("tools") and body.get("logprobs"):
            self._say(400, {"error": "logprobs is not supported with tools + stream"})
            return
        try:
            answer = server.answer(messages, body["options"].get("num_predict", -1))
        except DataError as error:  # as Ollama hands llama-server's answer on: JSON in JSON
            inner = {"error": {"code": 400, "message": error.what + " (exceeds the available context size)"}}
            self._say(400, {"error": json.dumps(inner)})
            return
        if Fault.NOT_DONE in self.ollama.faults:
            self._say(
                200, {"model": "", "created_at": "0001-01-01T00:00:00Z", "message": {"role": "", "content": ""}, "done": False}
            )
            return
        prompt_ids = server.prompt_ids(messages)
        count = len(prompt_ids) + (Fault.OTHER_COUNT in self.ollama.faults)
        off = 0.5 if Fault.OTHER_NUMBERS in self.ollama.faults else 0.0
        first = _rivals(server, prompt_ids, body, off)
        self._say(
            200,
            {
                "model": body["model"],
                "message": {"role": "assistant", "content": answer.text},
                "done": True,
                "done_reason": answer.finish,
                "prompt_eval_count": count,
                "eval_count": len(answer.ids),
                "eval_duration": EVAL_NS * len(answer.ids),
                "load_duration": 60_000_000_000,  # a first answer waits for the model
                **({"logprobs": [{**first[0], "top_logprobs": first}]} if body.get("logprobs") else {}),
            },
        )

    def _go_on(self, body: dict[str, Any]) -> None:
        """A raw prompt and one token more."""
        model = self._known(body["model"])
        if model is None:
            return
        server = self.ollama.running(model)
        ids = server.tokenize(body["prompt"])
        off = -0.5 if Fault.OTHER_INSIDE in self.ollama.faults else 0.0
        first = _rivals(server, ids, body, off)
        told = {"prompt_eval_count": len(ids), "eval_count": 1, "logprobs": [{**first[0], "top_logprobs": first}]}
        self._say(200, {"model": body["model"], "response": first[0]["token"], "done": True, "done_reason": "length", **told})

    def _known(self, name: str) -> Made | None:
        """The model, or None after the answer that it is not there."""
        made = self.ollama.made.get(_tagged(name))
        if made is None:
            self._say(404, {"error": f'model "{_tagged(name)}" not found'})
        return made

    def _say(self, status: int, body: Any = None) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _stream(self, records: Iterator[dict[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for record in records:
            line = json.dumps(record).encode() + b"\n"
            self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


def _rivals(server: LlamaServer, prompt_ids: list[int], body: dict[str, Any], off: float) -> list[dict[str, Any]]:
    """The likeliest tokens, each ``off`` by so many nats."""
    return [
        {"token": one.text.decode("utf-8", "replace"), "logprob": one.log_probability + off, "bytes": list(one.text)}
        for one in server.likeliest(prompt_ids, body.get("top_logprobs", 1))
    ]


def _tag(name: str, made: Made) -> dict[str, Any]:
    digest = hashlib.sha256(repr(made).encode()).hexdigest()
    return {
        "name": name,
        "model": name,
        "digest": digest,
        "size": made.blob.stat().st_size,
        "modified_at": "2026-11-22T10:00:00Z",
    }


def _tagged(name: str) -> str:
    return name if ":" in name else f"{name}:latest"
