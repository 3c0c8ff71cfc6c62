"""A client of Ollama's HTTP API, on the standard library.

What is dealt with here: errors of a stream come inside an answer with status 200; an answer without ``done: true`` is not one;
the text of an error may itself be JSON; a conversation that is too long is cut in silence unless ``truncate`` is false.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from afina.core.errors import ServiceError
from afina.core.files import sha256_of
from afina.core.translation import _
from afina.core.units import MIB
from afina.data.conversation import Message, as_dict
from afina.infer.patience import BROKEN, Reply, Turnstile, broken_off, exchange, persist

PORT = 11434
PING_S = 2.0
TOP = 20  # log-probabilities of a token's rivals that Ollama tells at most
OLDEST = (0, 30)  # older ones do not use the GGUF's own chat template
_BLOCK = MIB
_REPLACEMENT = "\ufffd".encode()


@dataclass(frozen=True)
class OllamaAnswer:
    """``finish`` is Ollama's done_reason (``stop``, ``length``); ``prompt_tokens`` counts all that the model read.

    ``first``: log-probabilities of the likeliest first tokens by their bytes; empty where Ollama does not tell them, with tools
    for example. ``tokens_per_second``: while the answer was written, the loading and reading before it aside; None where Ollama
    does not tell it, or the answer is too short for it.
    """

    text: str
    finish: str
    prompt_tokens: int
    answer_tokens: int
    first: dict[bytes, float]
    tokens_per_second: float | None


@dataclass(frozen=True)
class NextWords:
    """What may follow a text of ``read`` tokens: log-probabilities of the likeliest tokens by their bytes, if they were told.

    They are not where the likeliest is an end or a part of a character; ``read`` may then be 0.
    """

    read: int
    first: dict[bytes, float]


@dataclass(frozen=True)
class OllamaTag:
    """A name that Ollama knows. Names with one ``digest`` are one model."""

    name: str
    digest: str
    size_bytes: int
    modified: str


@dataclass(frozen=True)
class Ollama:
    """An Ollama at ``address``; every failure is a ServiceError. ``timeout_s`` is for one answer, or one line of a stream."""

    address: str
    timeout_s: float = 600.0
    turnstile: Turnstile = field(default_factory=Turnstile, repr=False, compare=False)

    @classmethod
    def from_environment(cls) -> Ollama:
        """The one that ``OLLAMA_HOST`` names, else 127.0.0.1:11434."""
        return cls(address_of(os.environ.get("OLLAMA_HOST", "")))

    @property
    def is_open_to_others(self) -> bool:
        """Whether what is sent leaves this machine unencrypted."""
        place = urlsplit(self.address)
        return place.scheme == "http" and place.hostname not in ("127.0.0.1", "localhost", "::1")

    def version(self) -> str:
        """Ollama's version, within two seconds."""
        reply = self._json("GET", "/api/version", timeout_s=PING_S)
        if not isinstance(reply, dict) or "version" not in reply:
            raise self._stranger()
        return str(reply["version"])

    def require_recent(self) -> str:
        """The version; ServiceError where it is too old to use the model's own chat template."""
        version = self.version()
        numbers = tuple(int(number) for number in re.findall(r"\d+", version.partition("-")[0])[:2])
        if (0, 0) < numbers < OLDEST:  # 0.0.0 is a build of one's own
            raise ServiceError(
                _("Ollama {version} at {address} does not use the chat template of a GGUF; {oldest} or newer does").format(
                    version=version, address=self.address, oldest=".".join(map(str, OLDEST))
                ),
                fix=_("update Ollama (https://ollama.com/download), or take deploy.to: embedded"),
            )
        return version

    def models(self) -> list[str]:
        """Names with tags: ``soporte:v3``."""
        return [tag.name for tag in self.tags()]

    def tags(self) -> list[OllamaTag]:
        return [
            OllamaTag(
                str(model["name"]), str(model.get("digest", "")), int(model.get("size", 0)), str(model.get("modified_at", ""))
            )
            for model in self._json("GET", "/api/tags")["models"]
        ]

    def has_blob(self, digest: str) -> bool:
        with self._exchange("HEAD", f"/api/blobs/{digest}") as response:
            if response.status == http.client.NOT_FOUND:
                return False
            self._require_ok(response)
            return True

    def upload(self, file: Path, on_bytes: Callable[[int], None] | None = None) -> str:
        """Sends a file's content where it is not there yet; returns its digest, ``sha256:…``."""
        digest = f"sha256:{sha256_of(file)}"
        if self.has_blob(digest):
            return digest
        with self._exchange("POST", f"/api/blobs/{digest}", _blocks(file, on_bytes), file.stat().st_size) as response:
            self._require_ok(response)
        return digest

    def create(
        self,
        model: str,
        digest: str,
        *,
        parameters: Mapping[str, int | float],
        system: str | None = None,
        licence: str | None = None,
        on_status: Callable[[str], None] | None = None,
    ) -> None:
        """Makes ``model`` of an uploaded GGUF. Its chat template is the GGUF's own: a ``template`` is never sent."""
        body: dict[str, Any] = {"model": model, "files": {"model.gguf": digest}, "parameters": dict(parameters)}
        if system is not None:
            body["system"] = system
        if licence is not None:
            body["license"] = licence
        last = ""
        with self._exchange("POST", "/api/create", _encoded(body)) as response:
            self._require_ok(response)
            for record in self._records(response):
                if "error" in record:
                    raise self._refusal(record["error"])
                last = str(record.get("status", ""))
                if on_status is not None:
                    on_status(last)
        if last != "success":
            raise ServiceError(
                _("Ollama at {address} did not finish making {model}; its last word was '{status}'").format(
                    address=self.address, model=model, status=last
                ),
                fix=_("look at Ollama's log and at the free space on its disk, then try again"),
            )

    def show(self, model: str) -> dict[str, Any]:
        """Ollama's record of a model: ``template``, ``parameters``, ``system``, ``model_info``, ``details``, …"""
        return dict(self._json("POST", "/api/show", {"model": model}))

    def copy(self, source: str, destination: str) -> None:
        """A second name for a model, over an existing one too."""
        self._empty("POST", "/api/copy", {"source": source, "destination": destination})

    def delete(self, model: str) -> None:
        self._empty("DELETE", "/api/delete", {"model": model})

    def chat(self, model: str, messages: Sequence[Message], max_new_tokens: int | None = None, tools: str = "") -> OllamaAnswer:
        """One greedy answer. A conversation that is too long for the model's context is an error, never cut."""
        options = {} if max_new_tokens is None else {"num_predict": max_new_tokens}
        wanted = {} if tools else {"logprobs": True, "top_logprobs": TOP}  # with tools, Ollama 0.33 refuses to tell them
        reply = self._chat(model, messages, tools, options, **wanted)
        if not isinstance(reply, dict) or not isinstance(reply.get("message", {}).get("content", ""), str):
            raise self._stranger()
        tokens, nanoseconds = reply.get("eval_count", 0), reply.get("eval_duration", 0)
        return OllamaAnswer(
            text=reply.get("message", {}).get("content", ""),
            finish=reply.get("done_reason", ""),
            prompt_tokens=reply.get("prompt_eval_count", 0),  # zero and empty values are left out by Ollama
            answer_tokens=tokens,
            first=_first(reply),
            tokens_per_second=1e9 * tokens / nanoseconds if tokens > 1 and nanoseconds else None,
        )

    def next_words(self, model: str, text: str) -> NextWords:
        """What the model would say after ``text``, which it reads as it stands, without a chat template."""
        body = {
            "model": model,
            "prompt": text,
            "raw": True,
            "stream": False,
            "truncate": False,
            "shift": False,
            "logprobs": True,
            "top_logprobs": TOP,
            "options": {"temperature": 0, "num_predict": 1},
        }
        # Where the next token is a part of a character, the answer is empty, and never said to be done.
        reply = self._patient_json("/api/generate", body, whole=False)
        if not isinstance(reply, dict):
            raise self._stranger()
        return NextWords(int(reply.get("prompt_eval_count", 0)), _first(reply))

    def rendered(self, model: str, messages: Sequence[Message], tools: str = "") -> str | None:
        """The text that the model would read, up to the assistant's turn; None where this Ollama does not tell."""
        reply = self._chat(model, messages, tools, {"num_predict": 1}, _debug_render_only=True)
        told = reply.get("_debug_info")
        return str(told["rendered_template"]) if told else None

    def _chat(self, model: str, messages: Sequence[Message], tools: str, options: Mapping[str, int], **more: int) -> Any:
        body = {
            "model": model,
            "messages": [as_dict(message) | ({"tool_name": message.name} if message.name else {}) for message in messages],
            **({"tools": json.loads(tools)} if tools else {}),
            "stream": False,
            "truncate": False,
            "shift": False,
            "options": {"temperature": 0, **options},
            **more,
        }
        return self._patient_json("/api/chat", body)

    def _patient_json(self, path: str, body: Any, *, whole: bool = True) -> Any:
        """The answer, asked for again where Ollama is busy, fails or, if it must be ``whole``, breaks off (``patience.py``)."""
        data, headers = _encoded(body), {"Content-Type": "application/json"}

        def ask() -> Reply:
            reply = exchange(self.address, "POST", path, data, headers, timeout_s=self.timeout_s)
            return _whole(reply) if whole else reply

        try:
            reply = persist(self.turnstile, ask)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        if reply.status == BROKEN:
            raise broken_off(self.address)
        if reply.status >= http.client.BAD_REQUEST:
            raise self._refusal(reply.content.decode("utf-8", errors="replace").strip() or f"HTTP {reply.status}")
        try:
            return json.loads(reply.content)
        except (ValueError, RecursionError):
            raise self._stranger() from None

    def _json(self, method: str, path: str, body: Any = None, timeout_s: float | None = None) -> Any:
        with self._exchange(method, path, None if body is None else _encoded(body), timeout_s=timeout_s) as response:
            self._require_ok(response)
            try:
                return json.loads(response.read())
            except (ValueError, RecursionError):
                raise self._stranger() from None

    def _empty(self, method: str, path: str, body: Any) -> None:
        with self._exchange(method, path, _encoded(body)) as response:
            self._require_ok(response)
            response.read()

    @contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        length: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        place = urlsplit(self.address)
        kind = http.client.HTTPSConnection if place.scheme == "https" else http.client.HTTPConnection
        connection = kind(place.hostname or "127.0.0.1", place.port, timeout=timeout_s or self.timeout_s)
        headers = {"Content-Type": "application/octet-stream" if length is not None else "application/json"}
        if length is not None:
            headers["Content-Length"] = str(length)
        try:
            try:
                connection.request(method, place.path.rstrip("/") + path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                if length is None:
                    raise  # an upload that is refused half-way has an answer that says why
            yield connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        finally:
            connection.close()

    def _records(self, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
        """The JSON lines of a stream."""
        while line := response.readline():
            if line.strip():
                yield json.loads(line)

    def _require_ok(self, response: http.client.HTTPResponse) -> None:
        if response.status < http.client.BAD_REQUEST:
            return
        content = response.read().decode("utf-8", errors="replace").strip()
        raise self._refusal(_reason(content) or f"HTTP {response.status} {response.reason}")

    def _refusal(self, reason: Any) -> ServiceError:
        text = _reason(reason)
        return ServiceError(
            _("Ollama at {address} refuses: {reason}").format(address=self.address, reason=text), fix=_fix_for(text)
        )

    def _stranger(self) -> ServiceError:
        return ServiceError(
            _("what answers at {address} is not Ollama").format(address=self.address),
            fix=_("correct OLLAMA_HOST, or take deploy.to: embedded"),
        )

    def _unreachable(self, error: Exception) -> ServiceError:
        reason = _("no answer in time") if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return ServiceError(
            _("Ollama does not answer at {address}: {reason}").format(address=self.address, reason=reason),
            fix=_fix_unreachable(error),
        )


def find_ollama() -> Ollama | None:
    """The Ollama that answers at ``OLLAMA_HOST`` or 127.0.0.1:11434, or None."""
    ollama = Ollama.from_environment()
    try:
        ollama.version()
    except ServiceError:
        return None
    return ollama


def address_of(host: str) -> str:
    """``http://127.0.0.1:11434`` from what ``OLLAMA_HOST`` may hold.

    That is nothing, host, host:port, :port, a URL, or an address to listen on; ServiceError where it is none of these.
    """
    text = host.strip().strip("\"'")
    scheme, mark, rest = text.partition("://")
    if not mark:
        scheme, rest = "http", text
    default = {"http": 80, "https": 443}.get(scheme) if mark else PORT
    authority, slash, path = rest.partition("/")
    if re.fullmatch(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*", authority):
        authority = f"[{authority}]"  # an IPv6 address without brackets, and so without a port
    match = re.fullmatch(r"(?P<name>\[[0-9a-fA-F:]+\]|[^\[\]:\s]*)(:(?P<port>\d{1,5}))?", authority)
    if match is None or default is None or int(match["port"] or default) > 65535:
        raise ServiceError(
            _("OLLAMA_HOST is {text!r}, which is no address").format(text=host),
            fix=_("write host:port, for example: export OLLAMA_HOST=127.0.0.1:{port}").format(port=PORT),
        )
    # A server's "every interface" is no place to call; on this machine it answers at the loopback.
    name = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(match["name"], match["name"])  # noqa: S104
    return f"{scheme}://{name}:{match['port'] or default}{slash + path if path else ''}"


def _first(reply: Mapping[str, Any]) -> dict[bytes, float]:
    """The likeliest first tokens. Of one that ends within a character Ollama tells the whole characters or a replacement sign:
    what thus stands there twice could be either, and is left out.
    """
    told = reply.get("logprobs") or [{}]
    rivals = [
        (bytes(token["bytes"]), float(token["logprob"])) for token in told[0].get("top_logprobs") or () if token.get("bytes")
    ]
    often = Counter(text for text, _value in rivals)
    return {text: value for text, value in rivals if often[text] == 1 and _REPLACEMENT not in text}


def _whole(reply: Reply) -> Reply:
    """The same; BROKEN where it is an answer that does not say that it is done. A rendered text alone never says so."""
    try:
        record = json.loads(reply.content) if reply.status == http.client.OK else {}
    except (ValueError, RecursionError):
        return reply
    is_broken = isinstance(record, dict) and record.get("done") is False and "_debug_info" not in record
    return Reply(BROKEN, None, b"") if is_broken else reply


def _encoded(body: Any) -> bytes:
    return json.dumps(body).encode("ascii")


def _blocks(file: Path, on_bytes: Callable[[int], None] | None) -> Iterator[bytes]:
    """A file's content; ``on_bytes`` hears how much of it was taken so far."""
    sent = 0
    with file.open("rb") as source:
        while block := source.read(_BLOCK):
            yield block
            sent += len(block)
            if on_bytes is not None:
                on_bytes(sent)


def _reason(content: Any) -> str:
    """The message in an error: Ollama nests JSON in JSON, up to three deep."""
    if isinstance(content, dict):
        return _reason(content.get("error") or content.get("message") or "")
    text = str(content)
    if text.startswith("{"):
        try:
            return _reason(json.loads(text)) or text
        except ValueError:
            return text
    return text


def _fix_unreachable(error: Exception) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return _("correct the address; or name the file of the certificate that you trust (.pem) in SSL_CERT_FILE")
        case ssl.SSLError():
            return _("correct the address: perhaps it begins with http:// and not with https://")
        case _:
            return _("start it with: ollama serve; or set OLLAMA_HOST; or take deploy.to: embedded")


def _fix_for(reason: str) -> str:
    """What helps against a refusal, by what Ollama says."""
    if "digest mismatch" in reason:
        return _("the file changed or broke on its way; run the same command again")
    if "no space" in reason or "not enough space" in reason:
        return _("free space on Ollama's disk: a model needs twice its size while it is made")
    if "llama-quantize" in reason or "GGUF" in reason:
        return _("make the file again with: afina export NAME; Ollama's own log has the reason")
    if "context size" in reason:
        return _("make the conversation shorter, or deploy with a larger deploy.context")
    if "not found" in reason:
        return _("see what is there with: ollama list")
    return _("look at Ollama's log; the embedded server is always there: --set deploy.to=embedded")
