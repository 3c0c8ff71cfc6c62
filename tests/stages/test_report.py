import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import afina
from afina.core.errors import RecipeError
from afina.core.events import Events, Metric, StageStarted
from afina.core.run import RunFolder
from afina.stages.report import gather, report
from tests.fakes.finished_run import recipe, write_run
from tests.report.reading import read


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "soporte")


def test_the_page_tells_the_whole_run(run: RunFolder) -> None:
    path = report(recipe(), run, Events()).path
    page = read(path.read_text(encoding="utf-8"))
    assert path == run.root / "report.html"
    assert "better than the base in 6 of 6 measures" in page.text
    assert "data/viejo.jsonl:1002" in page.text
    assert "the last message is the user's <script>alert(1)</script>" in page.text
    assert "export/soporte-q8_0.gguf" in page.text
    assert "afina chat soporte" in page.text
    assert "1 min 32 s" in page.text
    assert len(page.all("article")) == 30
    assert len(page.all("svg", "estimates")) == 6 + 2  # measures, and files
    assert page.all("html") == [{"lang": "en"}]


@pytest.mark.parametrize("through", ["prepare", "train", "compare", "export"])
def test_a_run_on_its_way_has_a_page_too(tmp_path: Path, through: str) -> None:
    run = write_run(tmp_path / "soporte", through=through)
    page = read(report(recipe(), run, Events()).path.read_text(encoding="utf-8"))
    assert ("afina train soporte" in page.text) == (through == "prepare")
    assert ("afina chat soporte" in page.text) == (through == "export")


def test_nothing_prepared_is_an_error_that_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no finished stage 'prepare'") as caught:
        report(recipe(), RunFolder(tmp_path / "soporte"), Events())
    assert caught.value.fix == "afina prepare soporte"


def test_one_held_out_example_has_values_and_no_intervals(tmp_path: Path) -> None:
    run = write_run(tmp_path / "soporte", through="compare", examples=1)
    page = gather(recipe(), run)
    assert page.measures[0].values[0][1] == "one example"
    assert page.measures[0].against[0] is not None
    assert page.measures[0].against[0].verdict == "too close to tell"
    assert read(report(recipe(), run, Events()).path.read_text(encoding="utf-8")).text.count("one example") >= 6


def test_the_same_run_gives_the_same_page(run: RunFolder) -> None:
    first = report(recipe(), run, Events()).path.read_bytes()
    assert report(recipe(), run, Events()).path.read_bytes() == first


def curve_of(
    run: RunFolder, *events: StageStarted | Metric
) -> tuple[tuple[tuple[int, float], ...], tuple[tuple[int, float], ...]]:
    with Events(run.events_path) as log:
        for event in events:
            log.emit(event)
    curve = gather(recipe(), run).curve
    assert curve is not None
    return curve.training, curve.validation


def loss(step: int, value: float) -> Metric:
    return Metric("train", step, {"loss": value})


def validation(step: int, value: float) -> Metric:
    return Metric("train", step, {"val_loss": value})


def test_steps_that_a_resumed_training_did_again_count_once(run: RunFolder) -> None:
    start = StageStarted("train", "")
    training, val = curve_of(
        run,
        start,
        validation(0, 4),
        loss(1, 3),
        loss(2, 2.5),
        validation(2, 2.4),
        loss(3, 2.2),
        loss(4, 2.1),
        start,
        loss(3, 2.0),
        loss(4, 1.9),
    )
    assert list(training) == [(1, 3), (2, 2.5), (3, 2.0), (4, 1.9)]
    assert list(val) == [(0, 4), (2, 2.4)]


def test_an_earlier_training_is_not_on_the_curve(run: RunFolder) -> None:
    training, val = curve_of(run, StageStarted("train", ""), loss(1, 9), loss(2, 8))
    assert list(training) == [(1, 9), (2, 8)]
    assert list(val) == [], "the earlier training's validation is gone, too"


def test_a_page_in_spanish_says_so(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("afina.stages.report.language", lambda: "es")
    monkeypatch.setattr("afina.stages.report.catalogue", lambda code: {"better": "mejor"})
    assert gather(recipe(), run).language == "es"


def test_a_language_without_catalogue_is_written_and_called_english(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_LANG", "qq")
    assert gather(recipe(), run).language == "en"


def test_the_report_needs_no_torch(run: RunFolder) -> None:
    code = "import sys, afina.stages.report; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(afina.__file__).parent.parent)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0


def test_refused_rows_are_grouped_by_the_check_that_refused_most(run: RunFolder) -> None:
    assert {check: len(rows) for check, rows in gather(recipe(), run).refused.items()} == {
        "too-long": 17,
        "no-answer": 1,
        "not-json": 1,
    }


def test_answers_come_from_the_file_line_by_line(run: RunFolder) -> None:
    path = run.stage("compare") / "answers.jsonl"
    record = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    record["answers"]["tuned"]["text"] = "línea 1\u2028línea 2\x00"
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    page = read(report(recipe(), run, Events()).path.read_text(encoding="utf-8"))
    assert "línea 1\u2028línea 2␀" in page.text


def test_five_contenders_have_a_shape_a_column_and_a_verdict_each(tmp_path: Path) -> None:
    run = write_run(tmp_path / "soporte", through="compare", contenders=("few_shot", "rag", "tuned+rag"))
    page = gather(recipe(), run)
    assert [mark for mark, _title in page.contenders] == ["base", "few", "rag", "tuned-rag", "tuned"]
    assert page.headline.startswith("On 30 held-out examples, against base: few-shot better in 0 of 6 measures, too close")
    assert page.headline.endswith("; tuned better in 6 of 6 measures.")
    assert [against and against.verdict for against in page.measures[0].against] == ["too close to tell"] * 3 + ["better"]
    assert page.costs[0].values == ("31", "420", "420", "420", "31")
    text = report(recipe(), run, Events()).path.read_text(encoding="utf-8")
    shown = read(text)
    assert len(shown.all("span", "told")) == 6 * 4, "six measures, four contenders against the base"
    for mark in ("base", "few", "rag", "tuned-rag", "tuned"):
        assert f'class="{mark} dot"' in text
    assert shown.text.count("what was asked") == 3 * 30
    assert "tokens a prompt" in shown.text


def test_two_contenders_keep_their_difference_in_a_column(run: RunFolder) -> None:
    shown = read(report(recipe(), run, Events()).path.read_text(encoding="utf-8"))
    assert shown.all("span", "told") == []
    assert "difference" in shown.text
    assert "what was asked" not in shown.text


def test_two_contenders_of_which_none_is_tuned_have_a_headline_with_their_names(tmp_path: Path) -> None:
    run = write_run(tmp_path / "soporte", through="compare")
    path = run.stage("compare") / "result.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"tuned"', '"rag"'), encoding="utf-8")
    assert gather(recipe(), run).headline == "On 30 held-out examples, against base: RAG better in 6 of 6 measures."


@pytest.mark.parametrize(
    ("language", "column", "note"),
    [
        ("en", "style obeyed", "It decides nothing: which file is deployed follows from the gain kept"),
        ("es", "estilo cumplido", "No decide nada: qué archivo se despliega sale de la ganancia conservada"),
    ],
)
def test_the_ladder_shows_what_the_answers_of_each_file_are_worth_and_what_for(
    run: RunFolder, language: str, column: str, note: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFINA_LANG", language)
    page = read(report(recipe(), run, Events()).path.read_text(encoding="utf-8"))
    assert column in page.text
    assert note in page.text
    wanted = [("", ""), ("97 %", "83–99 %"), ("0 % → 97 %", "83–99 %"), ("0 % → 92 %", "74–98 %")]
    assert [step.cells[6] for step in gather(recipe(), run).ladder] == wanted
    assert all(value in page.text and interval in page.text for value, interval in wanted)


def test_what_ollama_was_asked_is_the_last_rung(run: RunFolder) -> None:
    near = {"places": 112, "agreement": 1.0, "divergence": 2e-6, "told": 104, "loss": 0.3068, "loss_here": 0.3062}
    mark = {"value": 0.875, "low": 0.69, "high": 0.957}
    marks = json.loads((run.stage("export") / "manifest.json").read_text(encoding="utf-8"))["result"]["marks"]
    inside = {"near": near, "metric": marks["metric"], "questions": 24, "mark": mark}
    result = {"version": "shop:v3", "tokens_per_second": 512.0, "inside": inside}
    run.finish("deploy", inputs={}, result=result, seconds=1.0, outputs=[])
    page = gather(recipe(), run)
    rung = page.ladder[-1]
    assert (rung.title, rung.cells[0][0], rung.cells[8][0]) == ("inside Ollama", "", "512")
    assert rung.cells[6] == ("88 %", "69–96 %")
    assert "Inside Ollama (shop:v3): held-out loss 0.307 there and 0.306 here, at the 104 places" in " ".join(page.ladder_notes)
    assert "inside Ollama" in read(report(recipe(), run, Events()).path.read_text(encoding="utf-8")).text


def test_a_run_that_was_exported_before_answers_were_measured_has_a_page(run: RunFolder) -> None:
    manifest = run.stage("export") / "manifest.json"
    tree = json.loads(manifest.read_text(encoding="utf-8"))
    del tree["result"]["marks"]
    for record in tree["result"]["ladder"]:
        del record["mark"], record["base_mark"]
    manifest.write_text(json.dumps(tree), encoding="utf-8")
    page = gather(recipe(), run)
    assert {step.cells[6] for step in page.ladder} == {("", "")}
    assert not any("answers" in note.lower() for note in page.ladder_notes)
