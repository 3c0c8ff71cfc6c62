"""The door in front of llama.cpp: OpenAI's interface and Ollama's, who may come in, and how it closes."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from afina.data.conversation import Message
from afina.infer import gateway
from afina.infer.gateway import Behind, Gateway
from afina.infer.llama import LlamaServer
from afina.infer.ollama import Ollama
from tests.fakes.chain import SENTENCE, write_chain_gguf


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    gguf = write_chain_gguf(tmp_path_factory.mktemp("chain") / "chain.gguf")
    with LlamaServer(gguf, context=512, slots=2, name="shop") as server:
        yield Behind(server.address, "shop", 512, size_bytes=1234, modified=1.7e9, sha256="ab" * 32)


@pytest.fixture
def door(behind: Behind) -> Iterator[Gateway]:
    with Gateway(behind, port=0) as open_door:
        yield open_door


def ask(
    door: Gateway, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes, http.client.HTTPResponse]:
    connection = http.client.HTTPConnection("127.0.0.1", int(door.address.rpartition(":")[2]), timeout=30)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content, response


QUESTION = {"messages": [{"role": "user", "content": "Hello?"}]}


def test_openai_s_interface_is_handed_on_whole_and_in_pieces(door: Gateway) -> None:
    status, content, _response = ask(door, "POST", "/v1/chat/completions", QUESTION)
    assert status == 200
    assert json.loads(content)["choices"][0]["message"]["content"] == SENTENCE
    status, content, response = ask(door, "POST", "/v1/chat/completions", {**QUESTION, "stream": True})
    assert response.getheader("Content-Type") == "text/event-stream"
    events = [json.loads(line[6:]) for line in content.decode().splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"]) == SENTENCE
    assert content.rstrip().endswith(b"data: [DONE]")
    assert json.loads(ask(door, "GET", "/v1/models")[1])["data"][0]["id"] == "shop"


def test_ollama_s_clients_get_answers(door: Gateway) -> None:
    client = Ollama(door.address)
    assert client.require_recent() == "0.30.0"
    assert client.models() == ["shop:latest"]
    answer = client.chat("shop", [Message("user", "Hello?")])
    assert (answer.text, answer.finish) == (SENTENCE, "stop")
    assert answer.prompt_tokens > 5
    assert answer.answer_tokens > 3
    short = client.chat("shop", [Message("user", "Hello?")], 2)
    assert (short.finish, short.answer_tokens) == ("length", 2)


def test_ollama_s_stream_is_lines_and_the_last_one_is_done(door: Gateway) -> None:
    status, content, response = ask(door, "POST", "/api/chat", QUESTION)
    lines = [json.loads(line) for line in content.splitlines()]
    assert (status, response.getheader("Content-Type")) == (200, "application/x-ndjson")
    assert len(lines) > 2
    assert "".join(line["message"]["content"] for line in lines) == SENTENCE
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1]["done_reason"] == "stop"
    status, content, _response = ask(door, "POST", "/api/generate", {"prompt": "Hello?", "stream": False})
    assert json.loads(content)["response"] == SENTENCE


def test_ollama_s_own_program_finds_what_it_asks_for(door: Gateway) -> None:
    """A sign of life, the list with size and date, what is loaded, and an empty question that loads."""
    status, content, response = ask(door, "HEAD", "/")
    assert (status, content, response.getheader("Content-Length")) == (200, b"", "17")
    assert ask(door, "GET", "/")[1] == b"Ollama is running"
    (model,) = json.loads(ask(door, "GET", "/api/tags")[1])["models"]
    assert (model["name"], model["size"], model["digest"]) == ("shop:latest", 1234, "ab" * 32)
    assert model["modified_at"] == "2023-11-14T22:13:20Z"
    (loaded,) = json.loads(ask(door, "GET", "/api/ps")[1])["models"]
    assert (loaded["name"], loaded["context_length"]) == ("shop:latest", 512)
    for path, body in (("/api/chat", {"model": "shop", "messages": []}), ("/api/generate", {"model": "shop"})):
        reply = json.loads(ask(door, "POST", path, body)[1])
        assert (reply["done"], reply["done_reason"]) == (True, "load")


def test_ollama_s_interface_brings_the_model_s_system_message_and_openai_s_does_not(behind: Behind) -> None:
    with Gateway(replace(behind, system="You sell tools."), port=0) as door:
        client = Ollama(door.address)
        bare = client.chat("shop", [Message("user", "Hello?")], 2)
        own = client.chat("shop", [Message("system", "You sell tools."), Message("user", "Hello?")], 2)
        other = client.chat("shop", [Message("system", "No."), Message("user", "Hello?")], 2)
        assert bare.prompt_tokens == own.prompt_tokens > other.prompt_tokens
        assert json.loads(ask(door, "POST", "/api/show", {"model": "shop"})[1])["system"] == "You sell tools."
        content = ask(door, "POST", "/v1/chat/completions", {**QUESTION, "max_tokens": 2})[1]
        assert json.loads(content)["usage"]["prompt_tokens"] < other.prompt_tokens


def test_several_are_answered_at_a_time(door: Gateway) -> None:
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _n: ask(door, "POST", "/v1/chat/completions", QUESTION), range(12)))
    assert {json.loads(content)["choices"][0]["message"]["content"] for _status, content, _response in found} == {SENTENCE}


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "words"),
    [
        ("POST", "/api/chat", b"{", {}, 400, "no JSON"),
        ("POST", "/api/chat", b"[]", {}, 400, "no JSON object"),
        ("POST", "/api/chat", {"messages": "Hello?"}, {}, 400, "no list"),
        ("POST", "/api/show", {"model": "other"}, {}, 404, "only shop"),
        ("POST", "/api/chat", {**QUESTION, "options": {"num_ctx": 4096}}, {}, 400, "served with 512 tokens"),
        ("POST", "/api/pull", {}, {}, 404, "no /api/pull here"),
        ("GET", "/slots", None, {}, 404, "no /slots here"),
        ("POST", "/v1/chat/completions", QUESTION, {"Origin": "https://evil.example"}, 403, "this machine"),
        ("POST", "/v1/chat/completions", QUESTION, {"Host": "evil.example:80"}, 403, "this machine"),
        ("POST", "/api/chat", b"", {"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
        ("POST", "/api/chat", b"", {"Content-Length": str(1 << 40)}, 413, "at most"),
        ("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "x " * 3000}]}, {}, 400, "context"),
        ("POST", "/api/chat", {"messages": [{"role": "user", "content": "x " * 3000}]}, {}, 400, "context"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_words(
    door: Gateway, method: str, path: str, body: Any, headers: dict[str, str], status: int, words: str
) -> None:
    got, content, _response = ask(door, method, path, body, headers)
    assert (got, words in content.decode()) == (status, True), content
    assert ask(door, "GET", "/health")[0] == 200


def test_pages_and_programs_of_this_machine_may_come_in(door: Gateway) -> None:
    assert ask(door, "GET", "/api/version", headers={"Origin": "http://localhost:3000"})[0] == 200
    assert ask(door, "GET", "/api/version", headers={"Host": "localhost:11434"})[0] == 200


def test_with_a_key_nobody_comes_in_without_it(behind: Behind) -> None:
    with Gateway(behind, port=0, key="s3cret") as door:
        assert ask(door, "GET", "/v1/models")[0] == 401
        assert ask(door, "GET", "/v1/models", headers={"Authorization": "Bearer wrong"})[0] == 401
        assert ask(door, "GET", "/v1/models", headers={"Authorization": "Bearer s3cret"})[0] == 200


def test_a_closed_door_lets_those_inside_end(behind: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Gateway(behind, port=0)
    read = gateway._Request._read_body
    inside = threading.Event()

    def slowly(request: gateway._Request) -> bytes:
        inside.set()
        time.sleep(0.5)
        return read(request)

    monkeypatch.setattr(gateway._Request, "_read_body", slowly)
    with ThreadPoolExecutor(1) as threads:
        with door:
            asked = threads.submit(ask, door, "POST", "/v1/chat/completions", QUESTION)
            assert inside.wait(5)
        assert json.loads(asked.result()[1])["choices"][0]["message"]["content"] == SENTENCE
    with pytest.raises(ConnectionRefusedError):
        ask(door, "GET", "/health")


def test_a_llama_cpp_that_is_gone_is_told(tmp_path: Path) -> None:
    with Gateway(Behind("http://127.0.0.1:9", "shop", 512), port=0) as door:
        status, content, _response = ask(door, "POST", "/api/chat", QUESTION)
    assert (status, b"llama.cpp does not answer" in content) == (502, True)
