import json
from pathlib import Path

import pytest

from afina.cli import main as cli
from afina.compare.curve import SHARES
from afina.core.errors import DataError
from afina.core.events import Event, Events, Notice, Progress
from afina.core.run import RunFolder
from afina.recipe.load import to_yaml, validate
from afina.recipe.recipe import Recipe
from afina.stages.curve import _short_of_steps, curve
from afina.stages.small import Pace
from afina.stages.stage import STARTED
from afina.stages.train import train
from tests.fakes.models import write_model

ANSWER = "the answer is today in the red house of the hammer"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def recipe(folder: Path, base: Path, count: int = 60, **pilot: object) -> Recipe:
    rows = [
        {"messages": [{"role": "user", "content": f"hammer {number}"}, {"role": "assistant", "content": ANSWER}]}
        for number in range(count)
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    tree = {
        "name": "probe",
        "base": str(base),
        "data": {
            "examples": [str(folder / "examples.jsonl")],
            "checks": {"few-examples": "warn"},
            "split": {"val": 0.1, "test": 0.3},
        },
        "adapter": {"rank": 4, "alpha": 8},
        "train": {"epochs": 5, "learning_rate": 0.02, "batch_tokens": 256, "micro_tokens": 256},
        "compare": {"contenders": ["prompt", "tuned"], "examples": 3, "max_new_tokens": 4, "resamples": 100},
        "pilot": {"steps": 3, "seeds": 2, **pilot},
    }
    return validate(tree, "recipe.yaml")


def test_the_command_prints_tables_and_as_data_the_same_and_trains_once(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe(tmp_path, base, seeds=1)), encoding="utf-8")
    assert cli.main(["curve", "recipe.yaml"]) == 0
    told = capsys.readouterr()
    assert "none (the base)" in told.out
    assert "held-out loss" in told.out
    assert told.err.rstrip().endswith("next: afina run recipe.yaml")
    page = tmp_path / "runs" / "probe" / "curve" / "report.html"
    assert page.read_text(encoding="utf-8").count("<svg") == 2

    trained: list[str] = []
    monkeypatch.setattr("afina.stages.curve.train", lambda *_args: trained.append("again"))
    assert cli.main(["curve", "recipe.yaml", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [size["examples"] for size in record["sizes"]] == [4, 9, 18, 36]
    assert record["sizes"][-1]["loss"]["value"] < record["base_loss"]
    assert record["text"]
    assert cli.main(["curve", "recipe.yaml", "--set", "compare.resamples=200"]) == 0
    assert trained == [], "what was measured does not depend on the bootstrap samples"


def test_trainings_that_end_before_all_examples_are_read_are_told(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pins a curve of two steps a training, which said that more examples bring next to nothing."""
    monkeypatch.setattr("afina.stages.curve.load_rows", lambda *_: [])
    monkeypatch.setattr("afina.stages.curve.planned_steps", lambda *_: [()] * 8)
    text = _short_of_steps(recipe(tmp_path, base), RunFolder(tmp_path), Pace(2, 1.0, 0, "auto", "auto"))
    assert "2 steps read only 25 % of the examples once" in text
    assert "with pilot.steps=8" in text
    assert not _short_of_steps(recipe(tmp_path, base), RunFolder(tmp_path), Pace(8, 1.0, 0, "auto", "auto"))


@pytest.mark.slow
def test_killed_in_the_middle_it_goes_on_with_what_was_trained(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "probe")
    count = 0

    def killed(*args: object) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return train(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("afina.stages.curve.train", killed)
    heard: list[Event] = []
    with Events(run.events_path, (heard.append,)) as events:
        with pytest.raises(KeyboardInterrupt):
            curve(recipe(tmp_path, base), run, events)
        assert (run.stage("curve") / STARTED).is_file()
        heard.clear()
        result = curve(recipe(tmp_path, base), run, events)
    assert count == 2 * len(SHARES) + 1, "the two that were done are not done again"
    assert [event.done for event in heard if isinstance(event, Progress) and event.unit == "trainings"] == list(range(1, 9))
    found = result.curve
    assert (found.steps, found.seeds, found.held_out, found.questions, found.metric) == (3, 2, 18, 3, "f1")
    assert all(len(size.losses) == 2 for size in found.sizes)
    assert len([path for path in (run.root / "small").iterdir() if path.is_dir()]) == 9, "eight trainings and the base"
    assert not list((run.root / "small").glob("*/train")), "only what was measured is kept"


def test_too_few_examples_are_an_error_before_anything_is_trained(tmp_path: Path, base: Path) -> None:
    heard: list[Event] = []
    with pytest.raises(DataError, match="cannot be parted"):
        curve(recipe(tmp_path, base, count=10), RunFolder(tmp_path / "probe"), Events(listeners=(heard.append,)))
    assert not any(isinstance(event, Notice) and "held-out loss" in event.text for event in heard)
