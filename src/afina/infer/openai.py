"""A client of an OpenAI-compatible address (llama.cpp, vLLM, LM Studio, a provider), on the standard library.

The key comes from ``AFINA_API_KEY``, else from ``OPENAI_API_KEY``. It is never stored, shown or logged, it follows no redirect,
and the second, which is for other programs too, never goes over a network unencrypted.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from afina.core.errors import DataError, ServiceError
from afina.core.translation import _
from afina.data.conversation import Message
from afina.infer.patience import BROKEN, BUSY, Turnstile, broken_off, exchange, persist

KEY_VARIABLES = ("AFINA_API_KEY", "OPENAI_API_KEY")
_TOO_LONG = ("exceed_context_size", "context_length_exceeded", "maximum context length")


@dataclass(frozen=True)
class OpenAIAnswer:
    """``finish`` is ``stop``, ``length``, or another word of the server's. Tokens are 0 where it does not count them."""

    text: str
    finish: str
    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class OpenAI:
    """A server at ``address``, which ends before ``/chat/completions`` (mostly with ``/v1``). Every failure is a ServiceError.

    But a conversation that is too long for the model is a DataError. ``timeout_s`` is for one answer. Several threads may ask at
    once; a server that is busy, fails or breaks off is asked again (``patience.py``).
    """

    address: str
    key: str = field(default="", repr=False)
    timeout_s: float = 600.0
    turnstile: Turnstile = field(default_factory=Turnstile, repr=False, compare=False)

    @classmethod
    def at(cls, address: str, variable: str | None = None, timeout_s: float = 600.0) -> OpenAI:
        """The server at what a user types (``127.0.0.1:8090``, ``https://api.example.com/v1``), with the environment's key.

        ``variable`` names the one that holds it, and must be set.
        """
        base = base_address(address)
        name = variable or next((name for name in KEY_VARIABLES if os.environ.get(name)), "")
        if variable and not os.environ.get(variable):
            raise ServiceError(
                _("{variable} is not set: the key for {address}").format(variable=variable, address=base),
                fix=_("set it: export {variable}=…").format(variable=variable),
            )
        key = os.environ.get(name, "").strip() if name else ""
        if not (key.isascii() and key.isprintable()):
            raise ServiceError(_("{variable} holds characters that no key has").format(variable=name), fix=_("set it anew"))
        if name not in ("", "AFINA_API_KEY") and base.startswith("http:") and not is_local(base):
            raise ServiceError(
                _("{address} is not encrypted (http): {variable} is not sent there").format(address=base, variable=name),
                fix=_("use https, or set AFINA_API_KEY to the key for this server"),
            )
        return cls(base, key, timeout_s)

    def models(self) -> list[str]:
        """The names of the models that the server offers."""
        reply = self._json("GET", "/models")
        if not isinstance(reply, dict) or not isinstance(reply.get("data"), list):
            raise self._stranger()
        return [str(model["id"]) for model in reply["data"] if isinstance(model, dict) and "id" in model]

    def chat(self, model: str, messages: Sequence[Message], max_new_tokens: int | None = None) -> OpenAIAnswer:
        """One answer, greedy where the server allows it."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "temperature": 0,
        }
        if max_new_tokens is not None:
            body["max_tokens"] = max_new_tokens
        reply = self._json("POST", "/chat/completions", body)
        try:
            choice = reply["choices"][0]
            used = reply.get("usage") or {}
            return OpenAIAnswer(
                str(choice["message"]["content"] or ""),
                str(choice.get("finish_reason") or "stop"),
                int(used.get("prompt_tokens") or 0),
                int(used.get("completion_tokens") or 0),
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise self._stranger() from None

    def embeddings(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text, in their order."""
        reply = self._json("POST", "/embeddings", {"model": model, "input": list(texts)})
        try:
            found = sorted(reply["data"], key=lambda one: int(one["index"]))
            vectors = [[float(value) for value in one["embedding"]] for one in found]
        except (KeyError, TypeError, ValueError):
            raise self._stranger() from None
        if len(vectors) != len(texts) or len(set(map(len, vectors))) != 1:
            raise self._stranger()
        return vectors

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        data = None if body is None else json.dumps(body).encode("ascii")
        try:
            reply = persist(self.turnstile, lambda: exchange(self.address, method, path, data, headers, timeout_s=self.timeout_s))
        except (OSError, http.client.HTTPException) as error:
            reason = _("no answer in time") if isinstance(error, TimeoutError) else self._without_key(str(error))
            raise ServiceError(
                _("no server answers at {address}: {reason}").format(address=self.address, reason=reason or type(error).__name__),
                fix=_("start it, or correct the address"),
            ) from None
        if reply.status == BROKEN:
            raise broken_off(self.address)
        if reply.status != http.client.OK:
            raise self._refusal(reply.status, reply.content)
        try:
            return json.loads(reply.content)
        except (ValueError, RecursionError):
            raise self._stranger() from None

    def _refusal(self, status: int, content: bytes) -> ServiceError | DataError:
        reason = self._without_key(_reason(content)) or http.client.responses.get(status, "")
        if any(sign in reason or sign.encode() in content for sign in _TOO_LONG):
            return DataError(
                _("the text is too long for the model at {address}: {reason}").format(address=self.address, reason=reason),
                fix=_("start the server with a larger context, or take a smaller --chunk"),
            )
        what = _("{address} refuses ({status}): {reason}").format(address=self.address, status=status, reason=reason)
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            return ServiceError(what, fix=_("give its key: export AFINA_API_KEY=…"))
        if status == http.client.NOT_FOUND:
            return ServiceError(what, fix=_("correct the address (it mostly ends with /v1) or the name of the model"))
        if status in BUSY:
            return ServiceError(what, fix=_("wait a while; the same command goes on from here"))
        return ServiceError(what, fix=_("look at the server's log"))

    def _stranger(self) -> ServiceError:
        return ServiceError(
            _("what answers at {address} does not speak as OpenAI's API does").format(address=self.address),
            fix=_("correct the address (it mostly ends with /v1)"),
        )

    def _without_key(self, text: str) -> str:
        return text.replace(self.key, "…") if self.key else text


def base_address(text: str) -> str:
    """The address before ``/chat/completions``; ``/v1`` where no path is given, ``http`` for this machine and ``https`` else."""
    typed = text.strip()
    if "://" not in typed:
        typed = f"{'http' if is_local(f'http://{typed}') else 'https'}://{typed}"
    typed = typed.rstrip("/").removesuffix("/chat/completions")
    place = urlsplit(typed)
    try:
        port_is_one = place.port is None or place.port > 0
    except ValueError:
        port_is_one = False
    if place.scheme not in ("http", "https") or not place.hostname or not port_is_one or place.username or place.query:
        raise ServiceError(
            _("{text!r} is not the address of a server").format(text=text),
            fix=_("write it like http://127.0.0.1:8090/v1; a key goes into AFINA_API_KEY"),
        )
    return typed if place.path else f"{typed}/v1"


def is_local(address: str) -> bool:
    """Whether an address is on this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reason(content: bytes) -> str:
    """The message in a refusal, whatever its form; at most a few lines of it."""
    text = content.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text[:300]
    while isinstance(value, dict):
        value = value.get("error") or value.get("message") or value.get("detail") or ""
    return str(value)[:300]
