"""Models elsewhere: what a server that misbehaves comes to, and where a key goes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from afina.compare import endpoint as place
from afina.compare.endpoint import Endpoint, open_endpoint, open_endpoints
from afina.compare.kept import Kept
from afina.core.errors import ServiceError
from afina.data.conversation import Message
from afina.infer import openai
from afina.infer.gateway import Behind, Gateway
from afina.infer.llama import LlamaServer
from afina.recipe.load import validate
from afina.recipe.recipe import Model
from tests.fakes.chain import SENTENCE, write_chain_gguf
from tests.fakes.clock import Clock
from tests.fakes.endpoint import Server, serving

HELLO = [Message("user", "¿Qué?")]
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that would have been waited; no key of the environment."""
    clock = Clock()
    monkeypatch.setattr("afina.infer.patience.time", clock)
    for name in openai.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return clock.waits


def model(address: str, **more: object) -> Model:
    return Model.model_validate({"name": "qwen", "at": address, **more})


def test_an_answer_has_its_tokens_as_the_server_counted_them() -> None:
    with serving(lambda _messages: "Hola.", "429", "half", "well") as server:
        told = open_endpoint(model(server.address)).ask(HELLO, 9)
    assert (told.answer.text, told.answer.finish, told.answer.tokens, told.prompt_tokens) == ("Hola.", "stop", 7, 50)


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_what_was_answered_before_a_server_went_is_kept(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 questions 16 are answered, then nobody is there: the next time 4 are asked, and all stand in their order."""
    kept = Kept(tmp_path / "answers.jsonl")
    prompts = [[Message("user", f"¿{number}?")] for number in range(20)]

    def endpoint(server: Server) -> Endpoint:
        monkeypatch.setenv("OLLAMA_HOST", server.root)
        return open_endpoint(Model(name="qwen", at="ollama" if kind == "ollama" else server.address))

    with serving(lambda messages: messages[-1]["content"]) as server:
        asked = endpoint(server)
        list(asked.ask_all(prompts[:16], 9, kept))
    with pytest.raises(ServiceError, match="answer"):
        list(asked.ask_all(prompts, 9, kept))
    assert [asked.was_asked(prompt, 9, kept) for prompt in prompts] == [True] * 16 + [False] * 4
    port = int(asked.client.address.removesuffix("/v1").rpartition(":")[2])
    with serving(lambda messages: messages[-1]["content"], port=port) as again:
        found = [told.answer.text for told in endpoint(again).ask_all(prompts, 9, Kept(tmp_path / "answers.jsonl"))]
    assert found == [f"¿{number}?" for number in range(20)]
    assert len(again.requests) == 4


def test_answers_that_come_together_are_kept_whole(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "answers.jsonl")
    prompts = [[Message("user", f"¿{number}?")] for number in range(40)]
    with serving(lambda messages: messages[-1]["content"] * 500) as server:
        found = list(open_endpoint(model(server.address)).ask_all(prompts, 9, kept))
    lines = (tmp_path / "answers.jsonl").read_text(encoding="ascii").splitlines()
    assert len({json.loads(line)["key"] for line in lines}) == 40
    assert [told.answer.text for told in found] == [prompt[0].content * 500 for prompt in prompts]


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("429", r"refuses \(429\): wait"),
        ("500", r"refuses \(500\): oh"),
        ("half", "breaks off its answer, 4 times"),
        ("rubbish", "does not speak as OpenAI's API does"),
    ],
)
def test_a_server_that_does_not_mend_is_told_in_a_sentence(way: str, sentence: str) -> None:
    with serving(lambda _messages: "Hola.", way) as server, pytest.raises(ServiceError, match=sentence) as caught:
        open_endpoint(model(server.address)).ask(HELLO, 9)
    assert "\n" not in caught.value.what


def test_a_server_that_is_too_slow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "TIMEOUT_S", 0.2)
    with serving(lambda _messages: "Hola.", "slow") as server, pytest.raises(ServiceError, match="no answer in time"):
        open_endpoint(model(server.address)).ask(HELLO, 9)


def test_the_same_question_is_asked_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "answers.jsonl")
    with serving(lambda _messages: "Hola.") as server:
        asked = open_endpoint(model(server.address))
        first = asked.ask_once(HELLO, 9, kept)
        assert asked.ask_once(HELLO, 9, Kept(tmp_path / "answers.jsonl")).answer.text == first.answer.text
        asked.ask_once(HELLO, 10, kept)
        asked.ask_once([Message("user", "¿Quién?")], 9, kept)
    assert len(server.requests) == 3


def test_a_key_comes_from_the_variable_that_the_recipe_names_and_is_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_API_KEY", KEY)
    with serving(lambda _messages: "Hola.") as server:
        asked = open_endpoint(model(server.address, key="OTHER_API_KEY"))
        asked.ask_once(HELLO, 9, Kept(tmp_path / "answers.jsonl"))
    assert server.requests[0][0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(asked) + (tmp_path / "answers.jsonl").read_text(encoding="ascii")
    monkeypatch.delenv("OTHER_API_KEY")
    with pytest.raises(ServiceError, match="OTHER_API_KEY is not set"):
        open_endpoint(model("http://127.0.0.1:9/v1", key="OTHER_API_KEY"))


def test_a_key_does_not_go_over_a_network_unencrypted_and_only_keys_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_API_KEY", KEY)
    with pytest.raises(ServiceError, match="is not encrypted"):
        open_endpoint(model("http://models.example.com/v1", key="OTHER_API_KEY"))
    with pytest.raises(ValueError, match="pattern"):
        model("https://models.example.com/v1", key="AWS_SECRET")


def test_two_models_of_one_name_are_told_apart_and_a_plain_name_is_at_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:5000")
    found = open_endpoints([Model(name="qwen"), model("http://127.0.0.1:8/v1"), Model(name="llama")])
    assert [one.name for one in found] == ["qwen (ollama)", "qwen (http://127.0.0.1:8/v1)", "llama"]
    assert [one.model for one in found] == ["qwen", "qwen", "llama"]


def test_models_and_judge_are_read_from_a_recipe() -> None:
    compare = {"models": ["llama3.2", {"name": "x", "at": "https://h/v1", "prices": [0.2, 0.8]}], "judge": "qwen3"}
    read = validate({"name": "x", "data": {"examples": ["a"]}, "compare": compare}, "t").compare
    assert read.models == (Model(name="llama3.2"), Model(name="x", at="https://h/v1", prices=(0.2, 0.8)))
    assert read.judge == Model(name="qwen3")


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gguf = write_chain_gguf(tmp_path_factory.mktemp("chain") / "chain.gguf")
    with (
        LlamaServer(gguf, context=512, slots=1, name="shop") as server,
        Gateway(Behind(server.address, "shop", 512), port=0) as open_door,
    ):
        yield open_door


@pytest.mark.parametrize("kind", ["openai", "ollama"])
def test_what_afina_serves_can_take_part(door: Gateway, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", door.address)
    asked = open_endpoint(Model(name="shop", at="ollama" if kind == "ollama" else f"{door.address}/v1"))
    told = asked.ask([Message("user", "Hello?")], 64)
    assert (told.answer.text, told.answer.finish) == (SENTENCE, "stop")
    assert told.answer.tokens > 3
    assert told.prompt_tokens > 5
    assert json.dumps(asked.name) == '"shop"'
