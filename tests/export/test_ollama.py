"""Deploying to Ollama: a new version is proved before anybody is led to it, and a failed one changes nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from afina.core.errors import AfinaError, QualityError, ServiceError
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Renderer
from afina.data.template import choose_template
from afina.data.tokenizer import Tokenizer
from afina.export.ollama import OllamaModel, deploy_to_ollama, next_version
from afina.export.proof import Expected, Question, choose_questions, first_difference, require_same_text
from afina.infer.llama import LlamaServer
from afina.infer.ollama import Ollama
from tests.fakes.chain import SENTENCE, write_chain_gguf
from tests.fakes.clock import Clock
from tests.fakes.ollama import FakeOllama, Fault

SYSTEM = "You sell tools."


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_chain_gguf(tmp_path_factory.mktemp("chain") / "chain.gguf")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeOllama]:
    with FakeOllama(tmp_path) as running:
        yield running


def questions_for(gguf: Path, *prompts: tuple[Message, ...]) -> list[Question]:
    tokenizer = Tokenizer.load(gguf.with_suffix(".tokenizer"))
    renderer = Renderer.build(choose_template("auto", tokenizer), tokenizer)
    asked = prompts or (
        (Message("system", SYSTEM), Message("user", "Hello?")),
        (Message("system", SYSTEM), Message("user", "What?")),
    )
    held_out = [
        Conversation((*prompt, Message("assistant", "Hi.")), Source("x.jsonl", line)) for line, prompt in enumerate(asked, 1)
    ]
    return choose_questions(held_out, renderer, 256)


def expected(gguf: Path) -> Expected:
    """What llama.cpp says with the file, read once for all questions."""

    def first(question: Question) -> dict[bytes, float]:
        with LlamaServer(gguf, context=512) as server:
            return server.first_words(question.ids, 20)

    return Expected("f32", first)


def deploy(ollama: Ollama, gguf: Path, *, name: str = "shop", system: str | None = SYSTEM, limit: int = 64) -> OllamaModel:
    return deploy_to_ollama(
        ollama,
        gguf,
        name=name,
        context=512,
        system=system,
        licence=None,
        questions=questions_for(gguf),
        hard=(),
        expected=expected(gguf),
        bos=None,
        max_new_tokens=limit,
    )


def test_a_first_version_becomes_the_model_that_the_name_means(fake: FakeOllama, gguf: Path) -> None:
    model = deploy(Ollama(fake.address), gguf)
    assert (model.latest, model.version, model.previous, model.text_compared) == ("shop:latest", "shop:v1", None, True)
    assert (model.proof.question, model.proof.answer) == ("Hello?", SENTENCE)
    assert set(fake.made) == {"shop:v1", "shop:latest"}
    assert fake.made["shop:latest"].parameters == {"num_ctx": 512, "temperature": 0.0, "repeat_penalty": 1.0}
    assert fake.made["shop:latest"].system == SYSTEM


def test_a_second_version_keeps_the_first_as_the_way_back(fake: FakeOllama, gguf: Path, tmp_path: Path) -> None:
    deploy(Ollama(fake.address), gguf)
    first = fake.made["shop:latest"]
    other = write_chain_gguf(tmp_path / "other.gguf", sentence="The hammer")
    model = deploy(Ollama(fake.address), other)
    assert (model.version, model.previous) == ("shop:v2", "shop:previous")
    assert fake.made["shop:previous"] == first
    assert fake.made["shop:latest"] == fake.made["shop:v2"] != first
    assert model.proof.answer == "The hammer"


def test_the_model_s_own_system_message_is_what_is_tried(fake: FakeOllama, gguf: Path) -> None:
    """A question that was trained with the recipe's system message is asked without it, as a user of Ollama does."""
    deploy(Ollama(fake.address), gguf)
    asked = [body["messages"] for _method, path, body in fake.requests if path == "/api/chat"]
    assert {row["role"] for messages in asked for row in messages} == {"user"}


def test_another_system_message_of_a_row_is_sent_with_it(fake: FakeOllama, gguf: Path) -> None:
    own = (Message("system", "You sell paint."), Message("user", "Hello?"))
    deploy_to_ollama(
        Ollama(fake.address),
        gguf,
        name="shop",
        context=512,
        system=SYSTEM,
        licence=None,
        questions=questions_for(gguf, own),
        hard=(),
        expected=expected(gguf),
        bos=None,
        max_new_tokens=64,
    )
    (asked, _again) = [body["messages"] for _method, path, body in fake.requests if path == "/api/chat"]
    assert asked[0] == {"role": "system", "content": "You sell paint."}


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (Fault.OLD, ServiceError, "0.30 or newer"),
        (Fault.DIGEST, ServiceError, "digest mismatch"),
        (Fault.CREATE_IN_STREAM, ServiceError, "llama-quantize failed"),
        (Fault.CREATE_500, ServiceError, "no space left"),
        (Fault.CREATE_BREAKS_OFF, ServiceError, "did not finish"),
        (Fault.FORGETS_CONTEXT, QualityError, "another context"),
        (Fault.NOT_DONE, ServiceError, "breaks off its answer"),
        (Fault.OTHER_TEXT, QualityError, "another text than in training; they part at character"),
        (Fault.OTHER_COUNT, QualityError, r"reads \d+ tokens where training had \d+"),
    ],
)
def test_whatever_goes_wrong_the_old_model_stays(
    fake: FakeOllama,
    gguf: Path,
    tmp_path: Path,
    fault: Fault,
    kind: type[AfinaError],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("afina.infer.patience.time", Clock())
    deploy(Ollama(fake.address), gguf)
    before = dict(fake.made)
    fake.faults.add(fault)
    other = write_chain_gguf(tmp_path / "other.gguf", sentence="The hammer")
    with pytest.raises(kind, match=words):
        deploy(Ollama(fake.address), other)
    assert fake.made == before


def test_an_ollama_that_does_not_tell_its_text_is_checked_by_count(fake: FakeOllama, gguf: Path) -> None:
    fake.faults.add(Fault.NO_DEBUG)
    assert not deploy(Ollama(fake.address), gguf).text_compared
    fake.faults.add(Fault.OTHER_COUNT)
    with pytest.raises(QualityError, match="tokens where training had"):
        deploy(Ollama(fake.address), gguf)


def test_a_model_that_never_stops_is_not_deployed(fake: FakeOllama, tmp_path: Path) -> None:
    endless = write_chain_gguf(tmp_path / "endless.gguf", ends=False)
    with pytest.raises(QualityError, match="none of 2 answers ended by itself within 64 tokens"):
        deploy(Ollama(fake.address), endless)
    assert fake.made == {}


def test_versions_count_on_and_names_that_only_look_alike_do_not_count() -> None:
    assert next_version("shop", []) == "shop:v1"
    assert next_version("shop", ["shop:v2", "shop:v10", "shop:latest", "workshop:v99", "shop:v7b", "sh.p:v50"]) == "shop:v11"
    assert next_version("sh.p", ["shop:v3"]) == "sh.p:v1"


def test_a_beginning_token_that_the_tokenizer_adds_is_no_difference() -> None:
    question = Question((Message("user", "x"),), "<s>[INST] x [/INST]", (1, 2))
    require_same_text(question, "[INST] x [/INST]", "<s>")
    require_same_text(question, "<s>[INST] x [/INST]", "<s>")
    with pytest.raises(QualityError, match="character 11"):
        require_same_text(question, "<s>[INST] x[/INST]", "<s>")
    with pytest.raises(QualityError, match="character 18"):
        require_same_text(question, "<s>[INST] x [/INST", "<s>")


def test_questions_that_do_not_fit_are_passed_over(gguf: Path) -> None:
    long, short = (Message("user", "x y " * 200),), (Message("user", "x"),)
    assert [question.messages for question in questions_for(gguf, long, short)] == [short]
    with pytest.raises(QualityError, match="none of the 1 held-out questions fits"):
        questions_for(gguf, long)


def a_question() -> Question:
    return Question((Message("user", "x"),), "x", (1,))


def test_what_a_sure_model_would_hardly_ever_say_may_be_off_by_more() -> None:
    """As found on a real Ollama: a tuned model is sure of its first word, and rounding moves one in a million by a ninth."""
    here = {b"[": -2e-6, b"a": -11.144, b"b": -12.884, b"c": -13.16, b"d": -13.359}
    there = here | {b"[": -3e-6, b"d": -13.239}
    assert first_difference(here, there, "q4_k_m", a_question()) == pytest.approx(1e-6)
    with pytest.raises(QualityError, match=r"off by 0\.6; at most 0\.5 is rounding"):
        first_difference(here, there | {b"a": -10.544}, "q4_k_m", a_question())
    with pytest.raises(QualityError, match=r"off by 0\.12; at most 0\.05 is rounding"):
        first_difference(here, there, "f16", a_question())


def test_what_is_likely_must_be_as_likely() -> None:
    here = {b"a": -0.1, b"b": -3.0, b"c": -4.0}
    assert first_difference(here, {b"a": -0.13, b"b": -2.95, b"c": -4.0}, "q4_k_m", a_question()) == pytest.approx(0.05)
    with pytest.raises(QualityError, match=r"off by 0\.2; at most 0\.1 is rounding"):
        first_difference(here, {b"a": -0.1, b"b": -2.8, b"c": -4.0}, "q4_k_m", a_question())
    with pytest.raises(QualityError, match="off by inf"):
        first_difference(here, {b"x": -0.1}, "q4_k_m", a_question())


def test_another_sure_word_is_found_out() -> None:
    here = {b"[": -2e-6, b"a": -13.5, b"b": -13.6}
    with pytest.raises(QualityError, match="other first words likely"):
        first_difference(here, {b"a": -2e-6, b"b": -13.6, b"c": -14.0}, "q4_k_m", a_question())


def test_of_many_words_that_are_all_unlikely_the_likeliest_is_compared() -> None:
    here = {bytes([number]): -11.0 - 0.001 * number for number in range(5)}
    assert first_difference(here, {key: value + 0.004 for key, value in here.items()}, "f16", a_question()) == pytest.approx(
        0.004
    )
    with pytest.raises(QualityError, match=r"at most 0\.01 is rounding"):
        first_difference(here, {key: value + 0.02 for key, value in here.items()}, "f16", a_question())


@pytest.mark.ollama
def test_a_real_ollama_takes_the_model_proves_it_and_keeps_the_old_one(real_ollama: Ollama, gguf: Path, tmp_path: Path) -> None:
    name = f"afina-test-{uuid.uuid4().hex[:8]}"
    try:
        first = deploy(real_ollama, gguf, name=name)
        assert first.proof.answer == SENTENCE
        other = write_chain_gguf(tmp_path / "other.gguf", sentence="The hammer")
        second = deploy(real_ollama, other, name=name)
        assert (second.version, second.previous) == (f"{name}:v2", f"{name}:previous")
        assert real_ollama.chat(name, [Message("user", "Hello?")], 32).text == "The hammer"
        assert real_ollama.chat(f"{name}:previous", [Message("user", "Hello?")], 32).text == SENTENCE
        endless = write_chain_gguf(tmp_path / "endless.gguf", ends=False)
        with pytest.raises(QualityError, match="ended by itself"):
            deploy(real_ollama, endless, name=name)
        assert real_ollama.chat(name, [Message("user", "Hello?")], 32).text == "The hammer"
        broken = write_chain_gguf(tmp_path / "broken.gguf", sentence="Other words")
        broken.write_bytes(broken.read_bytes()[:-100])
        with pytest.raises(ServiceError, match="refuses"):
            deploy(real_ollama, broken, name=name)
    finally:
        for model in real_ollama.models():
            if model.startswith(f"{name}:"):
                real_ollama.delete(model)
