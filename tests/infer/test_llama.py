"""llama.cpp in its child process: its answers, its end, and what its troubles look like from here."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import transformers

from afina.core.errors import DataError, ResourceError, ServiceError
from afina.data.conversation import Message
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.infer import llama
from afina.infer.llama import LlamaServer
from afina.infer.torch_local import TorchEngine
from tests.fakes.chain import SENTENCE, write_chain_gguf, write_chain_model
from tests.fakes.processes import wait_until_gone

HELLO = [Message("user", "Hello?")]
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chain_gguf(tmp_path_factory.mktemp("chain") / "chain.gguf")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chain_gguf(tmp_path_factory.mktemp("endless") / "endless.gguf", ends=False)


@pytest.fixture(scope="module")
def server(chain: Path) -> Iterator[LlamaServer]:
    with LlamaServer(chain, context=512, exact=True) as running:
        yield running


def collect(stream: Generator[str, None, str]) -> tuple[list[str], str]:
    """The pieces of a streamed answer, and how it ended."""
    pieces: list[str] = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, str(end.value)


def child_of(server: LlamaServer) -> subprocess.Popen[bytes]:
    assert server._child is not None
    return server._child


def test_an_answer_ends_by_itself_and_its_ids_hold_the_end_token(server: LlamaServer) -> None:
    answer = server.answer(HELLO, 64)
    assert (answer.text, answer.finish, answer.ids[-1]) == (SENTENCE, "stop", 2)


def test_an_answer_that_is_cut_says_so(server: LlamaServer) -> None:
    answer = server.answer(HELLO, 3)
    assert answer.finish == "length"
    assert len(answer.ids) == 3


def test_text_and_ids_are_those_of_training(server: LlamaServer, chain: Path) -> None:
    tokenizer = Tokenizer.load(chain.with_suffix(".tokenizer"))
    text = choose_template("auto", tokenizer).render(HELLO, add_generation_prompt=True)
    assert server.render(HELLO) == text
    assert server.prompt_ids(HELLO) == tokenizer.encode(text)
    assert server.tokenize("<|im_end|> ¿qué?") == tokenizer.encode("<|im_end|> ¿qué?")


def test_the_greedy_tokens_are_those_of_torch(server: LlamaServer, tmp_path: Path) -> None:
    folder = write_chain_model(tmp_path)
    tokenizer = Tokenizer.load(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    engine = TorchEngine(model, tokenizer, choose_template("auto", tokenizer))
    prompt = engine.renderer.prompt_ids(HELLO)
    assert server.greedy(prompt, 32) == engine.greedy(prompt, 32)
    assert server.answer(HELLO, 32).text == engine.answer(HELLO, 32).text


def test_the_same_question_gets_the_same_tokens(server: LlamaServer) -> None:
    prompt = server.prompt_ids(HELLO)
    assert server.greedy(prompt, 16) == server.greedy(prompt, 16)


def test_a_streamed_answer_comes_in_whole_characters_and_says_how_it_ended(server: LlamaServer) -> None:
    pieces, finish = collect(server.chat(HELLO))
    assert finish == "stop"
    assert len(pieces) > 3
    assert "".join(pieces) == SENTENCE
    assert "€" in pieces  # three tokens


def test_a_closed_stream_stops_the_model(endless: Path) -> None:
    with LlamaServer(endless, context=60_000) as server:
        stream = server.chat(HELLO)
        next(stream)
        stream.close()
        start = time.monotonic()
        assert server.answer(HELLO, 2).finish == "length"
        assert time.monotonic() - start < 5


def test_a_stream_that_fills_the_context_ends_with_length(endless: Path) -> None:
    with LlamaServer(endless, context=256) as server:
        _pieces, finish = collect(server.chat(HELLO))
        assert finish == "length"


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ufffe", "\U0010ffff", "<|im_end|><|im_start|>", "\u202e" * 50, "", "\r\n\t"])
def test_strange_text_is_answered(server: LlamaServer, text: str) -> None:
    assert server.answer([Message("user", text)], 4).ids


def test_half_a_character_is_refused_and_the_server_goes_on(server: LlamaServer) -> None:
    with pytest.raises(ServiceError, match="refuses the request"):
        server.answer([Message("user", "\ud800")], 4)
    assert server.answer(HELLO, 64).text == SENTENCE


def test_a_streamed_answer_is_refused_like_any_other(server: LlamaServer) -> None:
    with pytest.raises(DataError, match="the context holds 512"):
        next(server.chat([Message("user", "x y " * 600)]))


def test_a_token_that_does_not_exist_is_refused_and_the_server_goes_on(server: LlamaServer) -> None:
    with pytest.raises(ServiceError, match="invalid tokens"):
        server.greedy([1_000_000], 1)
    assert server.answer(HELLO, 64).text == SENTENCE


def test_a_conversation_that_does_not_fit_is_an_error_with_both_numbers(server: LlamaServer) -> None:
    with pytest.raises(DataError, match=r"has \d{4} tokens; the context holds 512"):
        server.answer([Message("user", "x y " * 600)], 4)


def test_the_model_has_our_name_and_no_page_of_another_origin_may_read(server: LlamaServer) -> None:
    assert server.request("GET", "/v1/models")["data"][0]["id"] == "afina"
    with server._exchange("GET", "/health") as response:
        assert response.getheader("Access-Control-Allow-Origin") == "https://afina.invalid"


def test_it_listens_on_the_loopback_only(server: LlamaServer) -> None:
    assert server.address.startswith("http://127.0.0.1:")


def test_a_port_in_use_is_an_error_before_anything_is_loaded(chain: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        server = LlamaServer(chain, context=256, port=port)
        with pytest.raises(ResourceError, match=f"port {port} of 127.0.0.1 is in use") as caught:
            server.__enter__()
        assert server._child is None
        assert "--port" in caught.value.fix
        server.close()


def test_a_chosen_port_is_the_one_it_listens_on(chain: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with LlamaServer(chain, context=256, port=port) as server:
        assert server.address == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("kind", ["garbage", "cut", "empty"])
def test_a_broken_file_is_an_error_with_llama_cpp_s_own_words(chain: Path, tmp_path: Path, kind: str) -> None:
    content = {"garbage": b"not a model at all", "cut": chain.read_bytes()[:-100_000], "empty": b""}[kind]
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content)
    with pytest.raises(DataError, match=r"llama.cpp refuses .*broken\.gguf:\n") as caught, LlamaServer(broken, context=256):
        pass
    assert "failed to load model" in caught.value.what
    assert caught.value.exit_code == 3


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"), LlamaServer(tmp_path / "none.gguf", context=256):
        pass


@posix_only
def test_a_crash_is_an_error_with_its_signal_and_the_last_lines_of_the_log(chain: Path, tmp_path: Path) -> None:
    log = tmp_path / "llama.log"
    with LlamaServer(chain, context=256, log=log) as server:
        child_of(server).send_signal(signal.SIGSEGV)
        child_of(server).wait()
        with pytest.raises(ServiceError, match="SIGSEGV") as caught:
            server.answer(HELLO, 4)
        assert str(log) in caught.value.fix
        assert "listening" in caught.value.what


@posix_only
def test_a_crash_in_the_middle_of_a_stream_is_an_error(endless: Path) -> None:
    with LlamaServer(endless, context=60_000) as server:
        stream = server.chat(HELLO)
        next(stream)
        child_of(server).kill()
        with pytest.raises(ServiceError, match="SIGKILL"):
            for _piece in stream:
                pass


@posix_only
def test_a_child_that_hangs_is_an_error_after_the_time_limit(chain: Path) -> None:
    with LlamaServer(chain, context=256, timeout_s=0.5) as server:
        child_of(server).send_signal(signal.SIGSTOP)
        with pytest.raises(ServiceError, match=r"no answer for 0\.5 s"):
            server.answer(HELLO, 4)
        child_of(server).kill()


@posix_only
def test_a_child_that_never_gets_ready_is_ended(chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "START_S", 0.2)
    server = LlamaServer(chain, context=256)
    server._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(ServiceError, match="not ready after"):
        server.__enter__()
    assert server._child is None


def test_a_child_that_ends_while_starting_is_an_error_with_its_words(chain: Path, tmp_path: Path) -> None:
    server = LlamaServer(chain, context=256, log=tmp_path / "log")
    server._command = [sys.executable, "-c", "import sys; sys.exit('illegal instruction')"]
    with pytest.raises(ServiceError, match="illegal instruction"):
        server.__enter__()


@posix_only
def test_the_child_dies_with_its_parent_even_by_kill_9(chain: Path, tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from afina.infer.llama import LlamaServer
        with LlamaServer(Path(sys.argv[1]), context=256, log=Path(sys.argv[2])) as server:
            print(server._child.pid, flush=True)
            time.sleep(60)
    """)
    command = [sys.executable, "-c", script, str(chain), str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=dict(os.environ)) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    assert wait_until_gone(child)


def test_what_lies_in_the_user_s_folder_is_not_imported(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong json')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry))
    monkeypatch.chdir(tmp_path)
    with LlamaServer(chain, context=256) as server:
        assert server.answer(HELLO, 64).text == SENTENCE


@posix_only
def test_the_child_does_not_hear_ctrl_c(chain: Path) -> None:
    with LlamaServer(chain, context=256) as server:
        child_of(server).send_signal(signal.SIGINT)
        assert server.answer(HELLO, 64).text == SENTENCE


def test_closing_leaves_no_process_and_no_log(chain: Path) -> None:
    with LlamaServer(chain, context=256) as server:
        child, log = child_of(server), server.log
    assert child.returncode is not None
    assert not log.exists()


def test_what_is_asked_of_a_stopped_server_is_an_error(chain: Path) -> None:
    with LlamaServer(chain, context=256) as server:
        pass
    with pytest.raises(ServiceError, match="not running"):
        server.answer(HELLO, 4)


def test_openai_s_clients_get_the_answer_that_was_compared(server: LlamaServer) -> None:
    body = {"messages": [{"role": "user", "content": "Hello?"}]}
    reply = server.request("POST", "/v1/chat/completions", body)
    assert reply["choices"][0] == {"finish_reason": "stop", "index": 0, "message": {"role": "assistant", "content": SENTENCE}}
    assert json.loads(json.dumps(reply))["model"] == "afina"
