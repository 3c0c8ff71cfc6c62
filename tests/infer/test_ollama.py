"""The client of Ollama's API: addresses, and what its refusals become. The fake behaves as Ollama 0.32.15 was seen to."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from afina.core.errors import ServiceError
from afina.data.conversation import Message
from afina.data.tools import normalise_tools
from afina.infer.ollama import NextWords, Ollama, address_of, find_ollama
from tests.fakes.chain import SENTENCE, write_chain_gguf
from tests.fakes.clock import Clock
from tests.fakes.http import Response, answering
from tests.fakes.ollama import FakeOllama, Fault

HELLO = [Message("user", "Hello?")]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chain_gguf(tmp_path_factory.mktemp("chain") / "chain.gguf")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeOllama]:
    with FakeOllama(tmp_path) as running:
        yield running


@pytest.fixture
def ollama(fake: FakeOllama) -> Ollama:
    return Ollama(fake.address, timeout_s=30)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("", "http://127.0.0.1:11434"),
        ("localhost", "http://localhost:11434"),
        ("10.0.0.7:8080", "http://10.0.0.7:8080"),
        (":5000", "http://127.0.0.1:5000"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:5000", "http://127.0.0.1:5000"),
        ("[::]:5000", "http://[::1]:5000"),
        ("::1", "http://[::1]:11434"),
        ("http://box", "http://box:80"),
        ("https://box/ollama/", "https://box:443/ollama/"),
        ("http://box:11434/", "http://box:11434"),
        (' "box" ', "http://box:11434"),
    ],
)
def test_every_spelling_of_a_host_is_an_address(host: str, address: str) -> None:
    assert address_of(host) == address


@pytest.mark.parametrize("host", ["a b", "box:port", "box:70000", "ftp://box", "[::1"])
def test_a_host_that_is_no_address_is_an_error_and_not_the_default(host: str) -> None:
    with pytest.raises(ServiceError, match="OLLAMA_HOST"):
        address_of(host)


def test_ollama_is_found_where_the_environment_says(fake: FakeOllama, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", fake.address)
    found = find_ollama()
    assert found is not None
    assert found.version() == "0.32.15"


def test_nobody_there_is_none_for_finding_and_an_error_for_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free_port()}")
    assert find_ollama() is None
    with pytest.raises(ServiceError, match="does not answer at http://127") as caught:
        Ollama.from_environment().version()
    assert "ollama serve" in caught.value.fix


def test_a_certificate_that_nobody_vouches_for_and_https_where_there_is_none_are_told(
    fake: FakeOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServiceError, match="does not answer at https://127") as caught:
        Ollama(fake.address.replace("http:", "https:")).version()
    assert "perhaps it begins with http://" in caught.value.fix

    def refused(*_given: object) -> None:
        raise ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")

    monkeypatch.setattr(http.client.HTTPSConnection, "request", refused)
    with pytest.raises(ServiceError, match="self-signed certificate") as caught:
        Ollama("https://localhost:8443").version()
    assert "SSL_CERT_FILE" in caught.value.fix


def test_another_program_at_the_address_is_not_taken_for_ollama() -> None:
    with (
        answering(lambda _request: Response(b"<html>hello</html>")) as address,
        pytest.raises(ServiceError, match="is not Ollama"),
    ):
        Ollama(address).version()


def test_with_tools_a_model_is_asked_without_likelihoods_which_ollama_then_refuses(
    fake: FakeOllama, ollama: Ollama, gguf: Path
) -> None:
    ollama.create("shop:v1", ollama.upload(gguf), parameters={"num_ctx": 512})
    tools, _left_out = normalise_tools([{"type": "function", "function": {"name": "price", "parameters": {"type": "object"}}}])
    answer = ollama.chat("shop:v1", HELLO, 32, tools)
    assert (answer.text, answer.first) == (SENTENCE, {})
    assert ollama.chat("shop:v1", HELLO, 32).first


def test_an_ollama_that_ignores_the_chat_template_is_too_old(fake: FakeOllama, ollama: Ollama) -> None:
    assert ollama.require_recent() == "0.32.15"
    fake.faults.add(Fault.OLD)
    with pytest.raises(ServiceError, match=r"0\.12\.6 .* 0\.30 or newer"):
        ollama.require_recent()


def test_a_model_is_uploaded_made_asked_copied_and_deleted(fake: FakeOllama, ollama: Ollama, gguf: Path) -> None:
    sent: list[int] = []
    digest = ollama.upload(gguf, sent.append)
    assert sent[-1] == gguf.stat().st_size
    assert ollama.has_blob(digest)
    words: list[str] = []
    ollama.create("shop:v1", digest, parameters={"num_ctx": 512}, system="Be brief.", on_status=words.append)
    assert words[-1] == "success"
    assert ollama.show("shop:v1")["system"] == "Be brief."
    answer = ollama.chat("shop:v1", HELLO, 32)
    assert (answer.text, answer.finish) == (SENTENCE, "stop")
    assert ollama.rendered("shop:v1", HELLO) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello?<|im_end|>\n<|im_start|>assistant\n"
    )
    ollama.copy("shop:v1", "shop:latest")
    assert ollama.models() == ["shop:v1", "shop:latest"]
    ollama.delete("shop:v1")
    assert ollama.models() == ["shop:latest"]


def test_a_file_that_is_there_is_not_sent_again(fake: FakeOllama, ollama: Ollama, gguf: Path) -> None:
    ollama.upload(gguf)
    ollama.upload(gguf)
    assert len([path for _method, path, _body in fake.requests if path.startswith("/api/blobs/")]) == 1


def test_a_template_is_never_sent(fake: FakeOllama, ollama: Ollama, gguf: Path) -> None:
    ollama.create("shop:v1", ollama.upload(gguf), parameters={"num_ctx": 512})
    (body,) = [body for _method, path, body in fake.requests if path == "/api/create"]
    assert set(body) == {"model", "files", "parameters"}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.CREATE_IN_STREAM, "llama-quantize failed"),
        (Fault.CREATE_500, "no space left on device"),
        (Fault.CREATE_BREAKS_OFF, "did not finish making shop:v1; its last word was 'writing manifest'"),
    ],
)
def test_every_way_of_refusing_a_model_is_an_error(
    fake: FakeOllama, ollama: Ollama, gguf: Path, fault: Fault, words: str
) -> None:
    digest = ollama.upload(gguf)
    fake.faults.add(fault)
    with pytest.raises(ServiceError, match=words) as caught:
        ollama.create("shop:v1", digest, parameters={})
    assert caught.value.exit_code == 5
    assert fake.made == {}


def test_an_upload_that_broke_is_an_error_with_both_digests(fake: FakeOllama, ollama: Ollama, gguf: Path) -> None:
    fake.faults.add(Fault.DIGEST)
    with pytest.raises(ServiceError, match=r"digest mismatch, expected .*, got ") as caught:
        ollama.upload(gguf)
    assert "again" in caught.value.fix


def test_an_upload_that_is_broken_off_is_an_error(gguf: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def refuse() -> None:
            for _call in range(2):  # HEAD, then POST
                connection, _address = listener.accept()
                connection.recv(10)
                connection.close()

        thread = Thread(target=refuse)
        thread.start()
        port = listener.getsockname()[1]
        ollama = Ollama(f"http://127.0.0.1:{port}", timeout_s=5)
        with pytest.raises(ServiceError, match="does not answer"):
            ollama.has_blob("sha256:" + "0" * 64)
        with (
            pytest.raises(ServiceError, match="does not answer"),
            ollama._exchange("POST", "/api/blobs/x", iter([b"0" * 2**22]), 2**22),
        ):
            pass
        thread.join()


@pytest.mark.parametrize("content", [b"not a model", b"", b"GGUF\x03\0\0\0"])
def test_a_file_that_is_no_model_is_refused_inside_the_stream(ollama: Ollama, tmp_path: Path, content: bytes) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content)
    with pytest.raises(ServiceError, match="refuses"):
        ollama.create("shop:v1", ollama.upload(broken), parameters={})


def test_an_answer_without_done_is_not_an_answer(
    fake: FakeOllama, ollama: Ollama, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("afina.infer.patience.time", clock)
    ollama.create("shop:v1", ollama.upload(gguf), parameters={"num_ctx": 512})
    fake.faults.add(Fault.NOT_DONE)
    with pytest.raises(ServiceError, match="breaks off its answer, 4 times"):
        ollama.chat("shop:v1", HELLO, 8)
    assert clock.waits == [2.0, 4.0, 8.0]


def test_json_inside_the_json_of_an_error_is_read(fake: FakeOllama, ollama: Ollama, gguf: Path) -> None:
    ollama.create("shop:v1", ollama.upload(gguf), parameters={"num_ctx": 256})
    with pytest.raises(ServiceError, match=r"refuses: the conversation has \d+ tokens") as caught:
        ollama.chat("shop:v1", [Message("user", "x y " * 600)], 8)
    assert "{" not in caught.value.what
    assert "deploy.context" in caught.value.fix


def test_a_model_that_is_not_there_is_an_error(ollama: Ollama) -> None:
    for ask in (lambda: ollama.show("x"), lambda: ollama.copy("x", "y"), lambda: ollama.delete("x")):
        with pytest.raises(ServiceError, match='model "x:latest" not found'):
            ask()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_tokens_that_ollama_tells_alike_are_left_out_and_an_empty_answer_to_a_raw_text_is_none() -> None:
    """As Ollama 0.33 was seen to: half a character is dropped from a token's bytes, or the whole token is a replacement sign."""
    rivals = [(" a", -1.0), ("qu", -2.0), ("\ufffd", -3.0), ("qu", -6.0)]
    told = [{"token": text, "logprob": value, "bytes": list(text.encode())} for text, value in rivals]
    full = {"response": " a", "done": True, "prompt_eval_count": 3, "logprobs": [{**told[0], "top_logprobs": told}]}
    empty = {"model": "", "created_at": "0001-01-01T00:00:00Z", "response": "", "done": False}
    answers = iter([full, empty])
    with answering(lambda _request: Response(next(answers))) as address:
        ollama = Ollama(address)
        assert ollama.next_words("shop", "x") == NextWords(3, {b" a": -1.0})
        assert ollama.next_words("shop", "y") == NextWords(0, {})
