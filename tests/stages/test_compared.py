"""The comparison's own page, from the files that the stage leaves."""

import re
from pathlib import Path

import pytest

from afina.compare.comparison import load_comparison
from afina.compare.standing import save_standing, stand
from afina.core.run import RunFolder
from afina.measure.metrics import metric_of
from afina.report.compare_page import draw
from afina.stages.compared import Verdict, costs_of, gather_comparison, measures_of, verdict_of
from tests.fakes.finished_run import write_run
from tests.report.reading import read


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return write_run(tmp_path / "soporte", through="compare", contenders=("prompt+", "few_shot", "big"))


def page_of(run: RunFolder) -> str:
    folder = run.stage("compare")
    return draw(gather_comparison(load_comparison(folder), "soporte", folder / "answers.jsonl", {"big": (1.0, 4.0)}, Verdict("")))


def test_the_page_runs_nothing_and_has_every_question_with_all_answers(run: RunFolder) -> None:
    page = read(page_of(run))
    assert not page.all("script") + page.all("link") + page.all("img")
    assert not [name for _tag, attributes in page.tags for name in attributes if name.startswith("on") or name == "src"]
    assert len(page.all("article")) == 30
    assert len(page.all("div", "answer")) == 30 * (1 + 5)
    assert "base + instruction" in page.text
    assert "How each number was obtained" in page.text


def test_rows_are_sorted_by_the_style_sheet_by_each_contender_the_worst_first(run: RunFolder) -> None:
    text = page_of(run)
    page = read(text)
    radios = page.all("input")
    assert [radio["type"] for radio in radios] == ["radio"] * 7, "five contenders, the last behind the first, the file"
    assert sum("checked" in radio for radio in radios) == 1
    places = [dict(re.findall(r"--o(\d+):(\d+)", card["style"] or "")) for card in page.all("article")]
    for number in range(7):
        assert sorted(int(place[str(number)]) for place in places) == list(range(30))
        assert f"#order-{number}:checked ~ .cards > .card {{ order: var(--o{number}); }}" in text
    comparison = load_comparison(run.stage("compare"))
    answers = gather_comparison(comparison, "x", run.stage("compare") / "answers.jsonl", {}, Verdict("")).rows
    of_tuned = sorted(range(30), key=lambda row: int(places[row]["4"]))
    scores = [answers[row].answers[4].score for row in of_tuned]
    assert scores == sorted(scores)


def test_words_that_are_not_expected_are_marked(run: RunFolder) -> None:
    marked = re.findall(r"<mark>([^<]*)</mark>", page_of(run))
    assert "90" in marked or "11,90" in "".join(marked) or "month" in marked


def test_prices_and_times_are_told_for_a_thousand_answers(run: RunFolder) -> None:
    comparison = load_comparison(run.stage("compare"))
    *_others, seconds, money = costs_of(comparison, {"big": (1.0, 4.0)})
    assert (seconds.title, money.title) == ("time of 1,000 answers", "price of 1,000 answers")
    assert money.values[0] == "–"
    typical = comparison.typical[3]
    assert money.values[3] == f"{1000 * (typical.prompt_tokens * 1 + typical.tokens * 4) / 1e6:,.2f}"
    assert len(costs_of(comparison, {})) == 3
    assert all(len(measure.values) == 5 for measure in measures_of(comparison))


def test_of_several_contenders_the_verdict_is_who_is_shown_to_be_ahead(run: RunFolder) -> None:
    comparison = load_comparison(run.stage("compare"))
    counted = verdict_of(comparison, run).headline
    assert "better in" in counted
    scores = {"prompt": [0.0] * 30, "few_shot": [0.0] * 28 + [1.0, 1.0], "tuned": [1.0] * 30}
    save_standing(run.stage("compare"), stand(scores, metric_of("pattern"), resamples=200, seed=1))
    verdict = verdict_of(comparison, run)
    assert verdict.headline == "On 30 held-out examples, style obeyed: tuned is ahead of base, few-shot."
    assert verdict.notes[0] == counted
