"""The exam of an export: whom it asks what, and that its marks are those of the comparison's metric."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from afina.compare.comparison import Comparison
from afina.core.events import Event, Events, Notice
from afina.core.run import RunFolder
from afina.export.rungs import Marks, Rung
from afina.measure.intervals import proportion_interval
from afina.measure.numbers import number_match
from afina.model.base import open_folder, resolve_base
from afina.stages import exam as stage
from afina.stages.compare import compare
from afina.stages.compared import main_of
from afina.stages.exam import Exam, answers_of_merged, mark, set_exam, shortened, sit
from afina.stages.export import ExportResult, export
from afina.stages.ladder import Subject
from afina.stages.renderer import build_renderer
from tests.fakes.chain import SENTENCE, write_chain_gguf, write_chain_model
from tests.fakes.trained_run import make_trained_run

OTHER = "Hola, the €."  # the sentence without its number


@dataclass(frozen=True)
class Exported:
    """A run whose base says another sentence and whose tuned model says the expected one, compared and exported."""

    run: RunFolder
    compared: Comparison
    result: ExportResult
    marks: Marks
    said: list[str]

    @property
    def rungs(self) -> dict[str, Rung]:
        return {record["step"]: Rung.from_record(record) for record in self.result.ladder}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("exam")
    changes = {
        "compare": {"max_new_tokens": 48, "contenders": ["prompt", "tuned"], "resamples": 200},
        "export": {"types": ["f16"], "check_prompts": 2, "check_tokens": 16},
    }
    recipe, run = make_trained_run(folder, write_chain_model(folder / "base", sentence=OTHER), **changes)
    write_chain_model(run.stage("train") / "model")
    heard: list[Event] = []
    with pytest.MonkeyPatch.context() as patch, Events(listeners=(heard.append,)) as events:
        compared = compare(recipe, run, events).comparison
        patch.setattr(stage, "_free_memory", lambda _device: 0.0)  # the merged model's answers are known
        result = export(recipe, run, events)
    assert result.marks is not None
    said = [event.text for event in heard if isinstance(event, Notice)]
    return Exported(run, compared, result, Marks(**result.marks), said)


def test_marks_are_the_comparison_s_metric_of_the_answers_that_are_kept(exported: Exported) -> None:
    lines = (exported.run.stage("export") / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert exported.marks == Marks("number", len(rows))
    assert len(rows) > 2
    assert {row["answers"]["f16"]["text"] for row in rows} == {row["expected"] for row in rows} == {SENTENCE}
    assert {row["answers"]["f16 base"]["text"] for row in rows} == {OTHER}
    ours, base = ([number_match(row["answers"][name]["text"], row["expected"]) for row in rows] for name in ("f16", "f16 base"))
    assert exported.rungs["f16"].mark == proportion_interval(ours)
    assert exported.rungs["f16"].base_mark == proportion_interval(base)
    assert ours != base
    assert exported.rungs["base"].mark is None


def test_the_merged_model_s_mark_is_what_the_comparison_found_and_it_is_not_asked_again(exported: Exported) -> None:
    assert exported.marks.metric == main_of(exported.compared)
    assert exported.marks.merged_needs == 0
    assert exported.rungs["merged"].mark == exported.compared.interval("number", "tuned")
    assert exported.rungs["f16"].base_mark == exported.compared.interval("number", "prompt")


def test_the_terminal_s_table_shows_the_marks_and_says_what_they_are_for(exported: Exported) -> None:
    head = next(text for text in exported.said if "held-out loss" in text and "tokens/s" in text)
    assert "right number" in head
    line = next(text for text in exported.said if text.startswith("f16 "))
    assert "0 % → 100 % (" in line
    assert any("It decides nothing" in text for text in exported.said)


def subject_of(exam: Exam, folder: Path, base: Path) -> Subject:
    opened = open_folder(base, "base")
    return Subject(opened, opened, None, "none", torch.device("cpu"), folder)


def exam_of(folder: Path, **changes: Any) -> Exam:
    folder.mkdir(exist_ok=True)
    recipe, run = make_trained_run(folder, write_chain_model(folder / "base"), **changes)
    base = resolve_base(recipe.base, None)
    return set_exam(recipe, run, build_renderer(recipe, base), base, "export")


@pytest.fixture(scope="module")
def exam(tmp_path_factory: pytest.TempPathFactory) -> Exam:
    return exam_of(tmp_path_factory.mktemp("exam"))


def test_a_slow_model_is_asked_fewer_questions_and_a_very_slow_one_none(exam: Exam, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "FEWEST", 3)
    assert len(exam.asked) == 5
    assert shortened(exam, 1000.0, models=5).asked == exam.asked
    slow = shortened(exam, 30.0, models=5)
    assert 3 <= len(slow.asked) < 5
    assert all(one in exam.asked for one in slow.asked)
    never = shortened(exam, 0.5, models=5)
    assert never.why_not == "time"
    assert never.seconds > 3 * 5 * 48 / 0.5
    began_long_ago = replace(exam, start=exam.start - 4 * never.seconds)
    assert len(shortened(began_long_ago, 0.5, models=5).asked) == 3  # a long export leaves time for more


def test_nobody_is_asked_where_there_is_no_metric_or_one_question_and_that_is_told(tmp_path: Path) -> None:
    without = exam_of(tmp_path / "loss", compare={"max_new_tokens": 48, "metrics": ["loss"]})
    assert without.why_not == "metric"
    rungs = [Rung("q8_0", 1.0)]
    assert sit(shortened(without, 1.0, models=3), "q8_0", tmp_path / "a.gguf", "1", tmp_path / "b.gguf", Events()) == []
    assert mark(without, [], rungs, tmp_path, resamples=200, seed=7) == (rungs, Marks(why_not="metric"))
    few = replace(without, why_not="few")
    assert answers_of_merged(few, subject_of(few, tmp_path, tmp_path / "loss" / "base"), "none", Events()) == ([], 0)


def test_a_file_with_other_answers_has_another_mark_and_a_known_file_is_not_started(
    exam: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = write_chain_gguf(tmp_path / "a.gguf"), write_chain_gguf(tmp_path / "b.gguf", sentence=OTHER)
    answers = sit(exam, "q8_0", right, "hash of a", wrong, Events())
    (rung,), marks = mark(exam, answers, [Rung("q8_0", 1.0)], tmp_path, resamples=200, seed=7)
    assert marks == Marks("number", 5)
    assert (rung.mark, rung.base_mark) == (proportion_interval([1] * 5), proportion_interval([0] * 5))
    monkeypatch.delattr("afina.compare.contenders.LlamaServer")
    again = sit(exam, "q4_k_m", right, "hash of a", wrong, Events())
    assert [one.answers for one in again] == [
        [replace(answer, seconds=round(answer.seconds, 4)) for answer in one.answers] for one in answers
    ]


def test_the_merged_model_answers_in_torch_where_it_fits_into_memory(
    exam: Exam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of(exam, tmp_path, write_chain_model(tmp_path / "base"))
    monkeypatch.setattr(stage, "_free_memory", lambda _device: 1000.0)
    nobody, needed = answers_of_merged(exam, subject, "none", Events())
    assert nobody == []
    assert 2**20 < needed < 2**25
    monkeypatch.undo()
    (merged,), _needed = answers_of_merged(exam, subject, "none", Events())
    assert {answer.text for answer in merged.answers} == {SENTENCE}
