"""The train stage on a prepared run: what is told, what changes are seen, all weights through the whole chain."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from afina.compare.comparison import load_comparison
from afina.core.errors import ResourceError
from afina.core.events import Event, Events, Metric, Notice, Sample, StageSkipped, read_events
from afina.core.run import RunFolder
from afina.data.store import load_conversations
from afina.recipe.load import validate
from afina.recipe.recipe import Recipe
from afina.stages.compare import compare
from afina.stages.export import export
from afina.stages.prepare import prepare
from afina.stages.train import train
from afina.train import track
from tests.fakes.models import write_model
from tests.fakes.training import Killed, kill_after, steps_in, warnings_in

TREE: dict[str, Any] = {
    "name": "shop",
    "data": {"split": {"val": 0.2, "test": 0.2}},
    "adapter": {"rank": 4},
    "train": {"epochs": 2, "batch_tokens": 128, "learning_rate": 1e-2, "save_every": 1},
    "compare": {"examples": 3, "max_new_tokens": 8},
    "export": {"types": ["f32"], "check_prompts": 2, "check_tokens": 8},
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, examples, and a run whose prepare stage is done."""
    folder = tmp_path_factory.mktemp("prepared")
    write_model(folder / "base")
    words = ["hammer", "martillo", "red", "rojo", "today", "hoy"]
    rows = [
        {"prompt": f"Hello, what does the {word} cost? ({n})", "completion": f"{word} {n}"} for n in range(9) for word in words
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with Events() as events:
        prepare(recipe_of(folder), RunFolder(folder / "run"), events)
    return folder


@pytest.fixture
def run(prepared: Path, tmp_path: Path) -> RunFolder:
    shutil.copytree(prepared / "run", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def recipe_of(folder: Path, *, adapter: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    tree = {
        **TREE,
        "base": str(folder / "base"),
        "data": {**TREE["data"], "examples": [str(folder / "examples.jsonl")]},
        "adapter": {**TREE["adapter"], **(adapter or {})},
        "train": {**TREE["train"], **changes},
    }
    return validate(tree, "recipe.yaml")


def trained(recipe: Recipe, run: RunFolder) -> list[Event]:
    seen: list[Event] = []
    with Events(run.events_path, (seen.append,)) as events:
        train(recipe, run, events)
    return seen


def kill(recipe: Recipe, run: RunFolder, step: int) -> None:
    with Events(run.events_path, (kill_after(step),)) as events, pytest.raises(Killed):
        train(recipe, run, events)


def texts(seen: list[Event]) -> list[str]:
    return [event.text for event in seen if isinstance(event, Notice)]


def test_the_live_numbers_are_told_at_each_step_and_kept(prepared: Path, run: RunFolder) -> None:
    seen = trained(recipe_of(prepared), run)
    steps = steps_in(seen)
    kept = [event for _time, event in read_events(run.events_path) if isinstance(event, Metric) and "loss" in event.values]
    assert kept == steps
    for step in steps:
        values = step.values
        assert 0 < values["trained_tokens"] < values["tokens"]
        assert values["trained_tokens_per_second"] / values["tokens_per_second"] == pytest.approx(
            values["trained_tokens"] / values["tokens"]
        )
        assert values["peak_memory_bytes"] > 10**8
    assert steps[0].values["smoothed_loss"] == pytest.approx(steps[0].values["loss"])
    assert steps[0].values["seconds_left"] > 0
    assert steps[-1].values["seconds_left"] == 0
    assert not (run.stage("train") / "checkpoints").exists()


def test_a_changed_setting_is_told_with_both_values_and_the_half_done_training_is_kept(prepared: Path, run: RunFolder) -> None:
    kill(recipe_of(prepared), run, 3)
    seen = trained(recipe_of(prepared, learning_rate=0.02), run)
    (told,) = [text for text in texts(seen) if "not gone on with" in text]
    assert "train.learning_rate 0.01 → 0.02" in told
    (aside,) = (run.root / "history").iterdir()
    assert list(aside.glob("checkpoints/step-*.safetensors"))
    assert steps_in(seen)[0].step == 1
    again = trained(recipe_of(prepared, learning_rate=0.02, epochs=1), run)
    assert any("changed: train.epochs 2.0 → 1.0" in text for text in texts(again))


def test_what_does_not_change_what_is_learned_may_change_on_the_way(prepared: Path, run: RunFolder) -> None:
    kill(recipe_of(prepared), run, 3)
    seen = trained(recipe_of(prepared, keep=5, save_every=3, micro_tokens=64, checkpointing="full"), run)
    assert any("going on after step" in text for text in texts(seen))
    assert any(isinstance(event, StageSkipped) for event in trained(recipe_of(prepared, samples=2), run))


def test_samples_are_answers_to_held_out_questions_at_each_look(prepared: Path, run: RunFolder) -> None:
    seen = trained(recipe_of(prepared, samples=2, evaluate_every=3), run)
    samples = [event for event in seen if isinstance(event, Sample)]
    looks = [event.step for event in seen if isinstance(event, Metric) and "val_loss" in event.values]
    assert [sample.step for sample in samples] == [step for step in looks for _sample in range(2)]
    talks = {talk.prompt[-1].content: talk.answer for talk in load_conversations(run.stage("prepare"), "val")}
    assert all(talks[sample.prompt] == sample.expected for sample in samples)
    assert samples[0].answer != samples[-1].answer
    plain = RunFolder(run.root.parent / "plain")
    shutil.copytree(prepared / "run", plain.root)
    trained(recipe_of(prepared, evaluate_every=3), plain)
    one, other = (load_file(place.stage("train") / "adapter" / "adapter_model.safetensors") for place in (run, plain))
    assert all(one[name].equal(other[name]) for name in one)  # watching changes nothing


def test_all_weights_go_through_the_whole_chain(prepared: Path, run: RunFolder) -> None:
    recipe = recipe_of(prepared, adapter={"method": "full"}, learning_rate=2e-3)
    with Events(run.events_path) as events:
        result = train(recipe, run, events)
        compared = compare(recipe, run, events).comparison
        exported = export(recipe, run, events)
    assert result.weights == run.stage("train") / "model"
    assert result.trained_parameters > 50_000
    base, tuned = (compared.interval("loss", name).value for name in ("prompt", "tuned"))
    assert tuned < base - 0.1
    assert exported.compared == ["f32"]
    assert exported.tokens > 0
    assert load_comparison(run.stage("compare")).held_out == compared.held_out


def test_a_learning_rate_out_of_the_usual_range_is_told_first(prepared: Path, run: RunFolder) -> None:
    assert warnings_in(trained(recipe_of(prepared), run)) == []
    seen = trained(recipe_of(prepared, learning_rate=1e-6, max_steps=1), run)
    assert any(text.startswith("train.learning_rate is 1e-06, low for an adapter on") for text in warnings_in(seen))


def test_a_learning_rate_of_10_is_refused_in_the_recipe(prepared: Path) -> None:
    with pytest.raises(Exception, match=r"train\.learning_rate"):
        recipe_of(prepared, learning_rate=10)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_a_tracker_that_is_not_installed_is_told_before_the_start(
    name: str, prepared: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "find_spec", lambda _library: None)
    with pytest.raises(ResourceError, match=f"train.track names {name}, which are not installed") as caught:
        trained(recipe_of(prepared, track=[name]), run)
    assert f"afina[{name}]" in caught.value.fix
    assert not run.stage("train").exists()


def test_an_8_bit_optimizer_on_a_cpu_is_told_before_the_start(prepared: Path, run: RunFolder) -> None:
    with pytest.raises(ResourceError, match="needs an NVIDIA GPU"):
        trained(recipe_of(prepared, optimizer="adamw_8bit", device="cpu"), run)
    assert not run.stage("train").exists()


def test_tensorboard_has_the_numbers_of_the_events(prepared: Path, run: RunFolder) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seen = trained(recipe_of(prepared, track=["tensorboard"]), run)
    found = accumulator.EventAccumulator(str(run.stage("train") / "tensorboard"))
    found.Reload()
    scalars = found.Scalars("train/loss")
    assert [scalar.step for scalar in scalars] == [step.step for step in steps_in(seen)]
    assert [scalar.value for scalar in scalars] == pytest.approx([step.values["loss"] for step in steps_in(seen)])


def test_one_example_with_one_trained_token_is_a_training(prepared: Path, tmp_path: Path) -> None:
    from afina.data.conversation import Source
    from tests.fakes.rows import row_of
    from tests.fakes.training import run_training

    row = row_of((5, 6, 7), (False, False, True), Source("one.jsonl", 1))
    result = run_training(prepared / "base", tmp_path, rows=[row], val_rows=[], epochs=3)
    assert (result.steps, result.first_loss, result.best_step) == (3, None, 3)


def test_a_training_killed_before_its_manifest_is_written_is_not_done_again(
    prepared: Path, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoints used to be deleted a moment too early: all steps were then made a second time."""

    def killed(*_stage: object, **_facts: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", killed)
        with pytest.raises(Killed):
            trained(recipe_of(prepared), run)
    seen = trained(recipe_of(prepared), run)
    assert steps_in(seen) == []
    assert not (run.stage("train") / "checkpoints").exists()
