import json
from pathlib import Path

import pytest

from afina.cli import main as cli
from afina.core.events import Event, Events, Metric, Notice, read_events
from afina.core.run import RunFolder
from afina.export.gguf import write_gguf
from afina.recipe.load import to_yaml
from afina.stages.export import export
from afina.stages.forget import forget
from afina.stages.pilot import compare_pilot
from afina.stages.prepare import prepare
from afina.stages.train import train
from tests.fakes.models import write_model
from tests.stages.test_curve import recipe


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def test_a_pilot_is_compared_and_called_one_everywhere_and_is_no_training(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe(tmp_path, base)), encoding="utf-8")
    assert cli.main(["compare", "recipe.yaml", "--pilot", "--json"]) == 0
    told = capsys.readouterr()
    record = json.loads(told.out)
    assert record["is_pilot"] is True
    assert record["comparison"]["contenders"] == ["prompt", "pilot"]
    assert "this was a pilot: 3 steps on 36 of 36 examples" in told.err
    assert "next: afina run recipe.yaml" in told.err
    run = RunFolder(tmp_path / "runs" / "probe")
    assert run.manifest("train") is None
    assert run.manifest("compare") is None
    page = Path(record["page"]).read_text(encoding="utf-8")
    assert "pilot (a short training)" in page
    assert "afina export pilot" not in page
    assert not [event for _moment, event in read_events(run.events_path) if isinstance(event, Metric) and event.stage == "train"]


def test_a_run_that_is_trained_needs_no_pilot(tmp_path: Path, base: Path) -> None:
    run = RunFolder(tmp_path / "probe")
    heard: list[Event] = []
    events = Events(listeners=(heard.append,))
    prepare(recipe(tmp_path, base), run, events)
    train(recipe(tmp_path, base), run, events)
    quick = recipe(tmp_path, base)
    result = compare_pilot(quick, run, events)
    assert result.comparison.contenders == ("prompt", "tuned")
    assert result.page is None
    assert any(isinstance(event, Notice) and "no pilot is needed" in event.text for event in heard)
    assert result.forgetting.way == "torch float32"
    assert result.forgetting.outcome == "unknown", "a random model knows nothing that it could forget"
    again = forget(quick, run, events)
    assert again == result.forgetting


@pytest.mark.slow
def test_where_there_are_files_both_are_rounded_alike(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = recipe(tmp_path, base)
    one = one.model_copy(
        update={"export": one.export.model_copy(update={"types": ("q8_0",), "check_prompts": 1, "check_tokens": 4})}
    )
    run = RunFolder(tmp_path / "probe")
    events = Events()
    prepare(one, run, events)
    train(one, run, events)
    in_torch = forget(one, run, events)
    exported = export(one, run, events)
    assert exported.chosen == "q8_0"
    written: list[Path] = []

    def noting(path: Path, **settings: object) -> object:
        written.append(path)
        return write_gguf(path, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr("afina.stages.forget.write_gguf", noting)
    in_files = forget(one, run, events)
    assert in_files.way == "GGUF q8_0"
    assert [path.name for path in written] == ["base-q8_0.gguf"]
    assert not written[0].exists()
    assert in_files.base_loss == pytest.approx(in_torch.base_loss, rel=0.02)
    assert in_files.tuned_loss == pytest.approx(in_torch.tuned_loss, rel=0.02)
