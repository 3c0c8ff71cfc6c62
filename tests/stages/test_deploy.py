"""The deploy stage: where the model goes, what is proved there, and when it is done again."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from afina.core.errors import DataError, QualityError, RecipeError, ServiceError
from afina.core.events import Event, Events, Notice, Progress, StageSkipped, StageStarted
from afina.core.run import RunFolder
from afina.data.store import load_rows
from afina.export.ladder import choose_passages
from afina.infer.ollama import Ollama
from afina.stages.deploy import (
    choose_context,
    choose_gguf,
    deploy,
    go_back,
    list_versions,
    remove_version,
    require_destination,
)
from tests.fakes.chain import SENTENCE, write_chain_gguf
from tests.fakes.ollama import EVAL_NS, FakeOllama, Fault
from tests.fakes.runs import finish_export, write_exported_run
from tests.report.reading import read


@pytest.fixture(autouse=True)
def no_ollama(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs on this machine, these tests find an Ollama only where they started one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{probe.getsockname()[1]}")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOllama]:
    (tmp_path / "ollama").mkdir()
    with FakeOllama(tmp_path / "ollama") as running:
        monkeypatch.setenv("OLLAMA_HOST", running.address)
        yield running


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def events(heard: list[Event]) -> Events:
    return Events(listeners=(heard.append,))


def test_without_ollama_the_embedded_server_is_proved(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    result = deploy(recipe, run, events)
    assert (result.destination, result.model, result.answer) == ("embedded", "shop-f32.gguf", SENTENCE)
    assert result.gguf == run.stage("export") / "shop-f32.gguf"
    assert (result.chat, result.serve) == ("afina chat shop", "afina serve shop")
    assert result.tokens_per_second is not None
    assert result.tokens_per_second > 0
    manifest = run.manifest("deploy")
    assert manifest is not None
    assert manifest.outputs.keys() == {"llama.log", "proof.json", "proof.html", "Modelfile"}
    proof = json.loads((run.stage("deploy") / "proof.json").read_text())
    assert proof["sha256"] == hashlib.sha256(result.gguf.read_bytes()).hexdigest()
    assert {check["case"] for check in proof["checked"]} > {"held-out", "system", "several turns", "outer blanks"}
    assert all(check["same_text"] and check["same_tokens"] for check in proof["checked"])
    shown = read((run.stage("deploy") / "proof.html").read_text(encoding="utf-8")).text
    assert proof["sha256"] in shown
    assert "What is served is what was trained, and it stops by itself." in shown
    assert "several turns" in shown
    assert (run.stage("deploy") / "Modelfile").read_text().startswith("FROM ../export/shop-f32.gguf\nPARAMETER num_ctx 2048\n")


def test_inside_ollama_the_model_is_asked_along_its_held_out_answers(
    tmp_path: Path, fake: FakeOllama, events: Events, heard: list[Event]
) -> None:
    recipe, run = write_exported_run(tmp_path, system="You sell tools.")
    deployed = deploy(recipe, run, events)
    inside = deployed.inside
    assert deployed.tokens_per_second == 1e9 / EVAL_NS, "the time of loading is no part of it"
    assert inside is not None
    places = sum(len(passage.places) - 2 for passage in choose_passages(load_rows(run.stage("prepare"), "test")))
    assert (inside["near"]["places"], inside["near"]["agreement"]) == (places, 1.0), "all but an end and half a € each"
    assert inside["near"]["divergence"] < 1e-6
    assert (inside["metric"], inside["questions"]) == ("number", 2)
    asked = {body["prompt"] for _method, path, body in fake.requests if path == "/api/generate"}
    assert len(asked) == places
    assert any("<|im_start|>assistant\nHola" in text for text in asked)
    assert any(isinstance(event, Notice) and "inside Ollama: the same first choice" in event.text for event in heard)
    page = (run.stage("deploy") / "proof.html").read_text(encoding="utf-8")
    assert f"at 100 % of {places} places" in read(page).text
    answers = (run.stage("deploy") / "answers.jsonl").read_text(encoding="utf-8")
    assert SENTENCE in answers


def test_where_no_answers_are_measured_inside_ollama_that_is_told(
    tmp_path: Path, fake: FakeOllama, events: Events, heard: list[Event]
) -> None:
    recipe, run = write_exported_run(tmp_path, compare={"metrics": ["loss"]})
    inside = deploy(recipe, run, events).inside
    assert inside is not None
    assert (inside["mark"], inside["questions"]) == (None, 0)
    assert inside["near"]["agreement"] == 1.0
    assert any(isinstance(event, Notice) and event.text.startswith("Answers are not measured") for event in heard)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault.OTHER_NUMBERS, "other first words likely"),
        (Fault.OTHER_INSIDE, "inside Ollama the model says other things"),
    ],
)
def test_another_model_behind_the_name_is_found_out_by_its_words_and_withdrawn(
    fault: Fault, words: str, tmp_path: Path, fake: FakeOllama, events: Events
) -> None:
    recipe, run = write_exported_run(tmp_path)
    fake.faults.add(fault)
    with pytest.raises(QualityError, match=words):
        deploy(recipe, run, events)
    assert fake.made == {}
    assert run.manifest("deploy") is None


@pytest.mark.ollama
def test_inside_a_real_ollama_the_model_says_what_its_file_says_here(
    tmp_path: Path, real_ollama: Ollama, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"afina-test-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("OLLAMA_HOST", real_ollama.address)
    recipe, run = write_exported_run(tmp_path, system="You sell tools.", deploy={"name": name})
    try:
        inside = deploy(recipe, run, events).inside
    finally:
        for model in real_ollama.models():
            if model.startswith(f"{name}:"):
                real_ollama.delete(model)
    assert inside is not None
    assert inside["near"]["places"] >= 4
    assert inside["near"]["agreement"] == 1.0
    assert inside["near"]["divergence"] < 1e-4
    assert inside["questions"] == 2


def test_where_ollama_answers_the_model_goes_there(tmp_path: Path, fake: FakeOllama, events: Events, heard: list[Event]) -> None:
    recipe, run = write_exported_run(tmp_path, system="You sell tools.")
    result = deploy(recipe, run, events)
    assert (result.destination, result.model, result.version, result.answer) == ("ollama", "shop:latest", "shop:v1", SENTENCE)
    assert result.chat == "ollama run shop"
    assert fake.made["shop:latest"].system == "You sell tools."
    assert any(isinstance(event, Notice) and "success" in event.text for event in heard)
    sent = [(event.done, event.total) for event in heard if isinstance(event, Progress) and event.task == "upload"]
    assert sent == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_embedded_server_can_be_chosen_although_ollama_answers(tmp_path: Path, fake: FakeOllama, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path, deploy={"to": "embedded"})
    assert deploy(recipe, run, events).destination == "embedded"
    assert fake.requests == []


def test_ollama_where_it_is_asked_for_and_not_there_is_an_error_before_any_work(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path, deploy={"to": "ollama"})
    with pytest.raises(ServiceError, match="Ollama does not answer at http://127") as caught:
        require_destination(recipe)
    assert caught.value.exit_code == 5
    assert "ollama serve" in caught.value.fix
    with pytest.raises(ServiceError, match="does not answer"):
        deploy(recipe, run, events)
    assert run.manifest("deploy") is None


def test_an_ollama_that_is_named_and_does_not_answer_is_passed_over_with_a_warning(
    tmp_path: Path, events: Events, heard: list[Event]
) -> None:
    recipe, run = write_exported_run(tmp_path)
    assert deploy(recipe, run, events).destination == "embedded"
    (warning,) = [event for event in heard if isinstance(event, Notice) and event.level == "warning"]
    assert "no Ollama answers at OLLAMA_HOST (127.0.0.1:" in warning.text


def test_an_old_ollama_is_passed_over_with_a_warning_or_is_an_error(
    tmp_path: Path, fake: FakeOllama, events: Events, heard: list[Event]
) -> None:
    fake.faults.add(Fault.OLD)
    recipe, run = write_exported_run(tmp_path)
    assert deploy(recipe, run, events).destination == "embedded"
    assert any(isinstance(event, Notice) and event.level == "warning" and "0.12.6" in event.text for event in heard)
    wanted = recipe.model_copy(update={"deploy": recipe.deploy.model_copy(update={"to": "ollama"})})
    with pytest.raises(ServiceError, match=r"0\.12\.6"):
        deploy(wanted, run, events)


def test_ollama_refusing_the_model_is_an_error_and_the_stage_is_not_done(
    tmp_path: Path, fake: FakeOllama, events: Events
) -> None:
    fake.faults.add(Fault.CREATE_IN_STREAM)
    recipe, run = write_exported_run(tmp_path)
    with pytest.raises(ServiceError, match="refuses: failed to validate GGUF"):
        deploy(recipe, run, events)
    assert run.manifest("deploy") is None
    fake.faults.clear()
    assert deploy(recipe, run, events).version == "shop:v1"


def test_what_was_deployed_is_not_deployed_again(tmp_path: Path, events: Events, heard: list[Event]) -> None:
    recipe, run = write_exported_run(tmp_path)
    first = deploy(recipe, run, events)
    assert deploy(recipe, run, events) == first
    assert isinstance(heard[-1], StageSkipped)


def test_another_destination_is_another_deployment(tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, run = write_exported_run(tmp_path)
    assert deploy(recipe, run, events).destination == "embedded"
    (tmp_path / "ollama").mkdir()
    with FakeOllama(tmp_path / "ollama") as running:
        monkeypatch.setenv("OLLAMA_HOST", running.address)
        assert deploy(recipe, run, events).destination == "ollama"


def test_a_model_that_was_deleted_from_ollama_is_made_again(tmp_path: Path, fake: FakeOllama, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    deploy(recipe, run, events)
    fake.made.clear()
    assert deploy(recipe, run, events).version == "shop:v1"
    assert "shop:latest" in fake.made


def test_a_model_that_never_stops_is_not_deployed(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path, ends=False)
    with pytest.raises(QualityError, match="none of 2 answers ended by itself") as caught:
        deploy(recipe, run, events)
    assert caught.value.exit_code == 6
    assert run.manifest("deploy") is None


def test_a_file_with_another_template_than_training_is_not_deployed(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    template = tmp_path / "other.jinja"
    template.write_text(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}: {{ m['content'] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
    )
    with pytest.raises(QualityError, match="another text than in training"):
        deploy(recipe.model_copy(update={"chat_template": str(template)}), run, events)


def test_the_file_that_export_chose_is_deployed_unless_a_type_is_named(tmp_path: Path) -> None:
    recipe, run = write_exported_run(tmp_path, export={"types": ["f32", "f16"]})
    large, small = run.stage("export") / "shop-f32.gguf", run.stage("export") / "shop-f16.gguf"
    small.write_bytes(b"x")
    run.finish("export", inputs={"train": "1"}, result={"chosen": "f16"}, seconds=0.1, outputs=[large, small])
    assert choose_gguf(recipe, run) == small
    named = recipe.model_copy(update={"deploy": recipe.deploy.model_copy(update={"type": "f32"})})
    assert choose_gguf(named, run) == large
    run.finish("export", inputs={"train": "1"}, result={"chosen": None}, seconds=0.1, outputs=[large, small])
    assert choose_gguf(named, run) == large
    with pytest.raises(QualityError, match="no exported file keeps 95 % of what training gained"):
        choose_gguf(recipe, run)


def test_a_type_that_is_not_exported_is_an_error_before_any_work(tmp_path: Path) -> None:
    recipe, _run = write_exported_run(tmp_path, deploy={"type": "q8_0"})
    with pytest.raises(RecipeError, match=r"deploy\.type is q8_0; export\.types makes f32"):
        require_destination(recipe)


def test_a_file_that_changed_since_is_an_error(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    (run.stage("export") / "shop-f32.gguf").write_bytes(b"x")
    with pytest.raises(DataError, match="gone or has changed"):
        deploy(recipe, run, events)


def test_a_file_of_the_same_size_with_other_numbers_is_an_error(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    file = run.stage("export") / "shop-f32.gguf"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="has changed since it was exported"):
        deploy(recipe, run, events)
    assert run.manifest("deploy") is None


def test_a_broken_file_is_an_error_with_llama_cpp_s_words(tmp_path: Path, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    broken = run.stage("export") / "shop-f32.gguf"
    broken.write_bytes(write_chain_gguf(tmp_path / "x.gguf").read_bytes()[:-5000])
    finish_export(run, broken)
    with pytest.raises(DataError, match="failed to load model"):
        deploy(recipe, run, events)


def test_a_run_that_was_not_exported_says_what_to_type(tmp_path: Path, events: Events) -> None:
    recipe, _run = write_exported_run(tmp_path)
    with pytest.raises(RecipeError, match="no finished stage 'export'") as caught:
        deploy(recipe, RunFolder(tmp_path / "runs" / "other"), events)
    assert caught.value.fix == "afina export other"


@pytest.mark.parametrize(("wanted", "context"), [("auto", 2048), (512, 512)])
def test_the_context_is_at_most_what_the_base_holds(tmp_path: Path, wanted: str | int, context: int) -> None:
    recipe, _run = write_exported_run(tmp_path, deploy={"context": wanted})
    assert choose_context(recipe) == context


def test_a_context_beyond_the_base_is_an_error_before_any_work(tmp_path: Path) -> None:
    recipe, _run = write_exported_run(tmp_path, deploy={"context": 100_000})
    with pytest.raises(RecipeError, match="holds 2048 tokens"):
        require_destination(recipe)


def test_the_plan_says_file_size_and_place(tmp_path: Path, events: Events, heard: list[Event]) -> None:
    recipe, run = write_exported_run(tmp_path)
    deploy(recipe, run, events)
    (plan,) = [event.plan for event in heard if isinstance(event, StageStarted)]
    assert plan == "shop-f32.gguf (3.2 MiB) to the embedded llama.cpp, 2048 tokens of context"


def test_a_model_that_export_found_endless_is_served_with_a_warning(tmp_path: Path, events: Events, heard: list[Event]) -> None:
    recipe, run = write_exported_run(tmp_path, ends=False, deploy={"to": "embedded"}, compare={"max_new_tokens": 24})
    finish_export(run, run.stage("export") / "shop-f32.gguf", ends=False)
    assert deploy(recipe, run, events).answer
    (warning,) = [event for event in heard if isinstance(event, Notice) and event.level == "warning"]
    assert "no answer ended by itself within 24 tokens" in warning.text


def test_versions_are_listed_rolled_back_and_removed(tmp_path: Path, fake: FakeOllama, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    deploy(recipe, run, events)
    first = fake.made["shop:latest"]
    finish_export(run, write_chain_gguf(run.stage("export") / "shop-f32.gguf", sentence="The hammer"), inputs="2")
    deploy(recipe, run, events)
    second = fake.made["shop:latest"]
    assert [(one.name, one.names) for one in list_versions(recipe)] == [
        ("shop:v2", ("shop:latest",)),
        ("shop:v1", ("shop:previous",)),
    ]
    assert go_back(recipe, run) == "shop:v1"
    assert (fake.made["shop:latest"], fake.made["shop:previous"]) == (first, second)
    assert run.manifest("deploy") is None
    with pytest.raises(ServiceError, match="shop:v1 is what shop means now"):
        remove_version(recipe, "v1")
    remove_version(recipe, "v2")
    assert set(fake.made) == {"shop:v1", "shop:latest"}
    with pytest.raises(ServiceError, match="has no shop:previous"):
        go_back(recipe, run)
    with pytest.raises(ServiceError, match="has no shop:v7"):
        remove_version(recipe, "shop:v7")


def test_an_ollama_elsewhere_is_named_by_its_address(tmp_path: Path, events: Events) -> None:
    (tmp_path / "ollama").mkdir()
    with FakeOllama(tmp_path / "ollama") as running:
        recipe, run = write_exported_run(tmp_path, deploy={"to": running.address})
        assert deploy(recipe, run, events).destination == "ollama"
    with pytest.raises(ServiceError, match="does not answer at"):
        require_destination(recipe)


def test_plain_http_beyond_this_machine_is_told() -> None:
    assert Ollama("http://192.168.1.7:11434").is_open_to_others
    assert not Ollama("https://example.org:443").is_open_to_others
    assert not Ollama("http://127.0.0.1:11434").is_open_to_others


def test_the_base_s_licence_goes_with_the_model(tmp_path: Path, fake: FakeOllama, events: Events) -> None:
    recipe, run = write_exported_run(tmp_path)
    (tmp_path / "base" / "LICENSE").write_text("Apache-2.0")
    deploy(recipe, run, events)
    assert [body["license"] for _method, path, body in fake.requests if path == "/api/create"] == ["Apache-2.0"]
    assert 'LICENSE """Apache-2.0"""' in (run.stage("deploy") / "Modelfile").read_text()
