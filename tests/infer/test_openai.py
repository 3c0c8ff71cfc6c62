"""A client of OpenAI's API, against a server of real behaviour: what it sends and understands, and where the key never goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from afina.core.errors import DataError, ServiceError
from afina.data.conversation import Message
from afina.infer import openai
from afina.infer.llama import LlamaServer
from afina.infer.openai import OpenAI, base_address
from afina.infer.patience import TRIES
from tests.fakes.chain import SENTENCE, write_chain_gguf
from tests.fakes.clock import Clock
from tests.fakes.http import Request, Response, answering

HELLO = [Message("user", "¿Qué?")]
KEY = "sk-very-secret"


@dataclass
class Server:
    """Answers with what stands next in ``replies``: status, headers, body."""

    replies: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    address: str = ""

    def respond(self, request: Request) -> Response:
        self.requests.append(request)
        status, headers, content = self.replies.pop(0)
        return Response(content, status, headers)


@pytest.fixture
def server() -> Iterator[Server]:
    fake = Server()
    with answering(fake.respond) as address:
        fake.address = f"{address}/v1"
        yield fake


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in openai.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited."""
    clock = Clock()
    monkeypatch.setattr("afina.infer.patience.time", clock)
    return clock.waits


def answer(text: str | None, finish: str = "stop") -> tuple[int, dict[str, str], Any]:
    return 200, {}, {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}


def test_a_question_is_sent_and_its_answer_understood(server: Server) -> None:
    server.replies = [answer("Nada.", "length")]
    reply = OpenAI(server.address).chat("some-model", HELLO, 7)
    assert (reply.text, reply.finish) == ("Nada.", "length")
    sent = server.requests[0]
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert sent.body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "¿Qué?"}],
        "temperature": 0,
        "max_tokens": 7,
    }
    assert "Authorization" not in sent.headers


def test_an_answer_without_text_is_empty(server: Server) -> None:
    server.replies = [answer(None)]
    assert OpenAI(server.address).chat("m", HELLO).text == ""


def test_the_models_are_listed(server: Server) -> None:
    server.replies = [(200, {}, {"data": [{"id": "a"}, {"id": "b"}]})]
    assert OpenAI(server.address).models() == ["a", "b"]


def test_the_key_of_the_environment_is_sent_and_never_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "of-others")
    monkeypatch.setenv("AFINA_API_KEY", KEY)
    client = OpenAI.at(server.address)
    server.replies = [(401, {}, {"error": {"message": f"Incorrect API key provided: {KEY}."}})]
    with pytest.raises(ServiceError, match=r"refuses \(401\): Incorrect API key provided: …") as error:
        client.chat("m", HELLO)
    assert server.requests[0].headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(client) + repr(error.value) + error.value.fix
    assert "AFINA_API_KEY" in error.value.fix


def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_API_KEY", f"{KEY}\r\nX: y")
    with pytest.raises(ServiceError, match="AFINA_API_KEY holds characters that no key has") as error:
        OpenAI.at("http://127.0.0.1:1/v1")
    assert KEY not in error.value.what


def test_the_key_of_other_programs_does_not_go_out_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(ServiceError, match="OPENAI_API_KEY is not sent there"):
        OpenAI.at("http://198.51.100.7/v1")
    assert OpenAI.at("http://127.0.0.1:1/v1").key == KEY
    assert OpenAI.at("https://api.example.com").key == KEY
    monkeypatch.setenv("AFINA_API_KEY", "own")
    assert OpenAI.at("http://198.51.100.7/v1").key == "own"


def test_a_redirect_is_not_followed(server: Server) -> None:
    server.replies = [(302, {"Location": "http://127.0.0.1:1/"}, b"")]
    with pytest.raises(ServiceError, match=r"refuses \(302\)"):
        OpenAI(server.address, KEY).chat("m", HELLO)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again_when_it_says(server: Server, waits: list[float]) -> None:
    server.replies = [(429, {"Retry-After": "7"}, {}), (503, {}, b""), answer("ready")]
    assert OpenAI(server.address).chat("m", HELLO).text == "ready"
    assert waits == [7.0, 4.0]


def test_a_server_that_stays_busy_is_told(server: Server, waits: list[float]) -> None:
    server.replies = [(429, {}, {"error": {"message": "slow down"}})] * TRIES
    with pytest.raises(ServiceError, match=r"\(429\): slow down") as error:
        OpenAI(server.address).chat("m", HELLO)
    assert len(waits) == TRIES - 1
    assert "wait" in error.value.fix


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"", {"choices": []}, {"choices": [{}]}, [], {"choices": [{"message": None}]}, b"[" * 100_000],
)
def test_an_answer_of_something_else_is_told(server: Server, body: Any) -> None:
    server.replies = [(200, {}, body)]
    with pytest.raises(ServiceError, match="does not speak as OpenAI's API does"):
        OpenAI(server.address).chat("m", HELLO)


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"code": "context_length_exceeded", "message": "This model's maximum context length is 8 tokens."}},
        {"error": {"type": "exceed_context_size_error", "message": "the request exceeds the available context size"}},
    ],
)
def test_a_text_that_is_too_long_is_an_error_of_the_data(server: Server, body: Any) -> None:
    server.replies = [(400, {}, body)]
    with pytest.raises(DataError, match="too long for the model"):
        OpenAI(server.address).chat("m", HELLO)


def test_no_server_is_told() -> None:
    with pytest.raises(ServiceError, match=r"no server answers at http://127.0.0.1:1/v1"):
        OpenAI.at("127.0.0.1:1").models()


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("127.0.0.1:8090", "http://127.0.0.1:8090/v1"),
        ("localhost:1234/", "http://localhost:1234/v1"),
        ("http://127.0.0.1:8090/v1/chat/completions", "http://127.0.0.1:8090/v1"),
        ("api.example.com/v1", "https://api.example.com/v1"),
        ("https://example.com/openai/v1/", "https://example.com/openai/v1"),
        ("http://[::1]:80", "http://[::1]:80/v1"),
    ],
)
def test_addresses_are_understood_as_people_write_them(typed: str, address: str) -> None:
    assert base_address(typed) == address


@pytest.mark.parametrize("typed", ["", "http://", "ftp://example.com", "http://a:99999", "http://user:key@example.com", "a b:c"])
def test_what_is_no_address_is_told(typed: str) -> None:
    with pytest.raises(ServiceError, match="is not the address of a server"):
        base_address(typed)


def test_the_embedded_llama_answers_through_it(tmp_path: Path) -> None:
    gguf = write_chain_gguf(tmp_path / "chain.gguf")
    with LlamaServer(gguf, context=256, name="chain") as llama:
        client = OpenAI.at(llama.address)
        assert client.models() == ["chain"]
        reply = client.chat("chain", HELLO, 64)
        assert (reply.text, reply.finish) == (SENTENCE, "stop")
        with pytest.raises(DataError, match="too long for the model"):
            client.chat("chain", [Message("user", "word " * 2000)])
