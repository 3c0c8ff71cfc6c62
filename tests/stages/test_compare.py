import json
from pathlib import Path

import pytest
import yaml

from afina.compare.comparison import Comparison, load_comparison
from afina.core.errors import DataError, RecipeError, ServiceError
from afina.core.events import Event, Events, Notice, Progress, StageFinished, StageSkipped
from afina.core.files import sha256_of
from afina.core.run import RunFolder
from afina.data.store import SIDES, SIDES_FILE, load_conversations, load_side, save_sides
from afina.recipe.load import validate
from afina.recipe.recipe import Recipe
from afina.stages.compare import compare, summary
from afina.stages.prepare import prepare
from afina.stages.report import report
from afina.stages.train import train
from tests.fakes.clock import Clock
from tests.fakes.embedder import embedding
from tests.fakes.endpoint import serving
from tests.fakes.models import write_model

ANSWER = "the answer is today in the red house of the hammer"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("base"))


def write_examples(folder: Path, count: int = 60) -> None:
    """Every question has the same answer, so that a random model learns it in a few steps."""
    rows = [
        {"messages": [{"role": "user", "content": f"hammer {number}"}, {"role": "assistant", "content": ANSWER}]}
        for number in range(count)
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "houses.md").write_text("# Houses\n\nThe hammer is in the red house.\n", encoding="utf-8")


def recipe(folder: Path, base: Path, **compare: object) -> Recipe:
    settings = {"contenders": ["prompt", "tuned"], "max_new_tokens": 40, "resamples": 200, "pattern": "the .*", **compare}
    return validate(
        {
            "name": "probe",
            "base": str(base),
            "data": {
                "examples": [str(folder / "examples.jsonl")],
                "documents": [str(folder / "houses.md")],
                "split": {"val": 0.1, "test": 0.4},
            },
            "adapter": {"rank": 8, "alpha": 16},
            "train": {"max_steps": 30, "epochs": 30, "learning_rate": 0.02, "batch_tokens": 512, "micro_tokens": 512},
            "compare": settings,
        },
        "recipe.yaml",
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> tuple[Path, Path, RunFolder]:
    folder = tmp_path_factory.mktemp("run")
    write_examples(folder)
    run = RunFolder(folder / "probe")
    with Events(run.events_path) as events:
        prepare(recipe(folder, base), run, events)
        train(recipe(folder, base), run, events)
    return folder, base, run


def test_a_tuned_model_is_better_than_its_base_and_the_same_work_is_not_done_twice(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    heard: list[Event] = []
    result = compare(recipe(folder, base, examples=15), run, Events(listeners=(heard.append,)))
    comparison: Comparison = result.comparison
    assert (comparison.held_out, comparison.examples) == (24, 15)
    verdicts = {cell.metric: cell.verdict for cell in comparison.differences}
    assert verdicts["loss"] == verdicts["pattern"] == verdicts["exact"] == "better"
    assert comparison.interval("exact", "tuned").value > 0.9
    tasks = {event.task for event in heard if isinstance(event, Progress)}
    assert len(tasks) == 4, "loss and answers of two contenders"
    (finished,) = (event for event in heard if isinstance(event, StageFinished))
    assert finished.summary == summary(comparison)
    assert any(isinstance(event, Notice) and "only 15 of 24 held-out examples" in event.text for event in heard)

    before = sha256_of(result.folder / "answers.jsonl")
    again: list[Event] = []
    assert compare(recipe(folder, base, examples=15), run, Events(listeners=(again.append,))).comparison == comparison
    assert [type(event) for event in again] == [StageSkipped]
    assert sha256_of(result.folder / "answers.jsonl") == before

    page = report(recipe(folder, base), run, Events()).path.read_text(encoding="utf-8")
    assert "hammer" in page


def test_the_summary_names_loss_and_style_of_both(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    comparison = compare(recipe(folder, base, examples=15), run, Events()).comparison
    text = summary(comparison)
    assert text.startswith("held-out loss ")
    assert "style obeyed 0 % → 100 % (80–100 %)" in text


def test_all_six_contenders_answer_the_same_questions_with_prompts_of_their_own(
    trained: tuple[Path, Path, RunFolder],
) -> None:
    folder, base, run = trained
    heard: list[Event] = []
    every = recipe(folder, base, contenders="auto", examples=3, max_new_tokens=3)
    comparison = compare(every, run, Events(listeners=(heard.append,))).comparison
    assert comparison.contenders == ("prompt", "prompt+", "few_shot", "rag", "tuned", "tuned+rag")
    assert {cell.against for cell in comparison.differences} == {"prompt"}
    plain, plus, few, rag, tuned, tuned_rag = (medians.prompt_tokens for medians in comparison.typical)
    assert plain == tuned < plus < few
    assert plain < rag == tuned_rag
    told = [event.text for event in heard if isinstance(event, Notice)]
    assert f"few-shot: 5 examples before a question, {few:g} tokens a prompt (medians)" in told
    assert summary(comparison).startswith("held-out loss base ")

    test_side = {str(talk.source) for talk in load_conversations(run.stage("prepare"), "test")}
    lines = [json.loads(line) for line in (run.stage("compare") / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["source"] for line in lines} < test_side
    for line in lines:
        examples = line["answers"]["few_shot"]["shown"]
        assert len(examples) == 5
        assert not test_side.intersection(examples), "held-out rows are never shown"
        assert line["answers"]["rag"]["shown"] == ["houses.md, § Houses"]
        assert "> The hammer is in the red house." in line["answers"]["tuned+rag"]["prompt"][-1]["content"]

    page = report(every, run, Events()).path.read_text(encoding="utf-8")
    assert "tuned + RAG" in page
    assert "what was asked" in page


def test_without_documents_passages_are_training_answers(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    rag = recipe(folder, base, contenders=["rag"], examples=3, max_new_tokens=3)
    alone = rag.model_copy(update={"data": rag.data.model_copy(update={"documents": ()})})
    compare(alone, run, Events())
    lines = [json.loads(line) for line in (run.stage("compare") / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    training = {str(talk.source) for talk in load_conversations(run.stage("prepare"), "train")}
    assert all(line["answers"]["rag"]["shown"] for line in lines)
    assert training.issuperset(source for line in lines for source in line["answers"]["rag"]["shown"])
    assert all(f"> {ANSWER}" in line["answers"]["rag"]["prompt"][-1]["content"] for line in lines)


def test_documents_without_a_passage_are_an_error_before_any_model_is_loaded(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    chunks = run.stage("prepare") / "chunks.jsonl"
    kept = chunks.read_bytes()
    chunks.write_bytes(b"")
    heard: list[Event] = []
    try:
        with pytest.raises(DataError, match=r"chunks\.jsonl: there is no word to be found among 0 texts"):
            compare(recipe(folder, base, contenders=["prompt", "rag"]), run, Events(listeners=(heard.append,)))
        chunks.unlink()
        with pytest.raises(DataError, match=r"data\.documents were not read when") as caught:
            compare(recipe(folder, base, contenders=["prompt", "rag"]), run, Events(listeners=(heard.append,)))
        assert caught.value.fix == "afina run probe"
    finally:
        chunks.write_bytes(kept)
    assert not any(isinstance(event, Progress) for event in heard)


def test_questions_without_room_for_what_was_found_are_told(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    heard: list[Event] = []
    compare(recipe(folder, base, contenders=["rag"], examples=2, max_new_tokens=400), run, Events(listeners=(heard.append,)))
    assert any(isinstance(event, Notice) and "before 2 of 2 questions there is no room" in event.text for event in heard)


def test_one_contender_alone_has_numbers_and_no_differences(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    comparison = compare(recipe(folder, base, contenders=["prompt"], pattern=None), run, Events()).comparison
    assert comparison.contenders == ("prompt",)
    assert comparison.differences == ()
    assert "→" not in summary(comparison)
    assert load_comparison(run.stage("compare")) == comparison


def test_a_pattern_that_never_ends_is_an_error_before_any_model_is_loaded(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    heard: list[Event] = []
    with pytest.raises(RecipeError, match=r"takes too long on the expected answer of .*examples\.jsonl:"):
        compare(recipe(folder, base, pattern=r"(([a-z]+) ?)+!"), run, Events(listeners=(heard.append,)))
    assert not any(isinstance(event, Progress) for event in heard)


def test_expected_answers_that_break_the_pattern_are_told(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    heard: list[Event] = []
    compare(recipe(folder, base, pattern="never", examples=3, max_new_tokens=3), run, Events(listeners=(heard.append,)))
    assert any(isinstance(event, Notice) and event.text.startswith("3 of 3 expected answers") for event in heard)
    (few,) = [event.text for event in heard if isinstance(event, Notice) and "wide intervals" in event.text]
    assert few.endswith("held-out examples are asked: wide intervals; a larger compare.examples narrows them")


def test_no_held_out_example_is_an_error(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    held_out = run.stage("prepare") / SIDES_FILE
    kept = held_out.read_bytes()
    sides = {side: load_side(run.stage("prepare"), side) for side in SIDES}
    save_sides(run.stage("prepare"), {**sides, "test": sides["test"][:0]})
    try:
        with pytest.raises(DataError, match="no held-out example"):
            compare(recipe(folder, base), run, Events())
    finally:
        held_out.write_bytes(kept)


def test_a_run_that_is_not_trained_is_told_what_to_type(tmp_path: Path, base: Path) -> None:
    with pytest.raises(RecipeError, match="no finished stage 'prepare'"):
        compare(recipe(tmp_path, base), RunFolder(tmp_path / "probe"), Events())


def test_a_model_elsewhere_that_fails_is_told_keeps_its_answers_and_goes_on(
    trained: tuple[Path, Path, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After 8 of 10 answers it breaks off; the same command asks for two more and no more, and for nothing of the others."""
    monkeypatch.setattr("afina.infer.patience.time", Clock())
    folder, base, run = trained
    heard: list[Event] = []
    with serving(lambda _messages: ANSWER, *["well"] * 8, "half") as server:
        settings = {"contenders": ["prompt"], "examples": 10, "max_new_tokens": 5}
        chosen = recipe(folder, base, **settings, models=[{"name": "big", "at": server.address, "prices": [1, 4]}])
        first = compare(chosen, run, Events(listeners=(heard.append,))).comparison
        assert first.contenders == ("prompt",)
        assert "breaks off its answer, 4 times (after 8 of 10 answers)" in first.left_out["big"]
        told = [event.text for event in heard if isinstance(event, Notice)]
        assert any(text.startswith("big is left out: ") and "goes on from there" in text for text in told)

        server.ways, before = ["well"], len(server.requests)
        again: list[Event] = []
        second = compare(chosen, run, Events(listeners=(again.append,))).comparison
        assert len(server.requests) == before + 2
        assert second.contenders == ("prompt", "big")
        assert second.left_out == {}
        assert second.interval("exact", "big").value == 1
        assert set(second.intervals("loss")) == {"prompt"}
        assert {medians.contender: medians.tokens for medians in second.typical}["big"] == 7
        assert not [event for event in again if isinstance(event, Progress) and "base" in event.task], "kept by content"
        assert first.interval("loss", "prompt") == second.interval("loss", "prompt")
        page = (run.stage("compare") / "report.html").read_text(encoding="utf-8")
        assert "price of 1,000 answers" in page
        assert f"{1000 * (50 * 1 + 7 * 4) / 1e6:.2f}" in page

        skipped: list[Event] = []
        compare(chosen, run, Events(listeners=(skipped.append,)))
        assert [type(event) for event in skipped] == [StageSkipped]


def test_a_judge_takes_part_and_a_silly_one_is_left_out(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained

    def judges(messages: list[dict[str, str]]) -> str:
        one, other = messages[-1]["content"].split("First answer")[-1].split("Second answer")
        return "1" if "red house" in one else "2" if "red house" in other else "0"

    with serving(judges) as server:
        judge = {"name": "wise", "at": server.address}
        comparison = compare(recipe(folder, base, examples=10, judge=judge), run, Events()).comparison
        assert comparison.judgement is not None
        tally = comparison.judgement.tallies["tuned"]
        assert (tally.wins, tally.losses) == (10, 0)
        assert comparison.judgement.first_shown == 0.5
        assert comparison.interval("judge", "tuned").value == 1
        assert "Judge wise against base" in (run.stage("compare") / "report.html").read_text(encoding="utf-8")
    heard: list[Event] = []
    with serving(lambda _messages: "ha ha") as server:
        judge = {"name": "silly", "at": server.address}
        comparison = compare(recipe(folder, base, examples=10, judge=judge), run, Events(listeners=(heard.append,))).comparison
        assert comparison.judgement is not None
        assert "silly said 'ha ha'" in comparison.judgement.left_out
        assert "judge" not in {cell.metric for cell in comparison.measured}
        assert any(isinstance(event, Notice) and event.text.startswith("the judge silly is left out") for event in heard)


def test_rules_are_learned_kept_for_the_recipe_and_can_be_named_or_switched_off(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    settings = {"examples": 4, "max_new_tokens": 20, "pattern": None}
    comparison = compare(recipe(folder, base, **settings), run, Events()).comparison
    written = yaml.safe_load((run.stage("compare") / "checks.yaml").read_text(encoding="utf-8"))["compare"]["checks"]
    assert [rule.rule for rule in comparison.rules] == written
    assert {"most_words": 15} in written
    named = compare(recipe(folder, base, **settings, checks=[{"without": "house"}], metrics=["f1"]), run, Events()).comparison
    assert [reason.metric for reason in named.reasons] == ["checks", "f1"]
    assert named.rules[0].shares["tuned"] == 0
    off = compare(recipe(folder, base, **settings, checks=[]), run, Events()).comparison
    assert off.rules == ()
    assert not (run.stage("compare") / "checks.yaml").exists()


def test_an_embedding_model_tells_how_near_answers_are_in_meaning(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    with embedding() as server:
        near = recipe(folder, base, examples=15, pattern=None, checks=[], embeddings=f"letters@{server.address}")
        heard: list[Event] = []
        comparison = compare(near, run, Events(listeners=(heard.append,))).comparison
    assert [reason.metric for reason in comparison.reasons] == ["loss", "exact", "f1", "chrf", "similarity", "ended"]
    (reason,) = (one for one in comparison.reasons if one.metric == "similarity")
    assert reason.text.endswith("expected answers to different questions come to 100 %: read it from there")
    (cell,) = (cell for cell in comparison.differences if cell.metric == "similarity")
    assert cell.verdict == "better"
    assert comparison.interval("similarity", "tuned").value > 0.9
    assert any(isinstance(event, Notice) and "texts embedded in" in event.text for event in heard)
    lines = [json.loads(line) for line in (run.stage("compare") / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = [line["answers"]["prompt"]["scores"]["similarity"] for line in lines]
    assert sum(kept) / len(kept) == pytest.approx(comparison.interval("similarity", "prompt").value, abs=1e-6)
    page = report(near, run, Events()).path.read_text(encoding="utf-8")
    assert "similarity" in page


def test_an_embedding_model_that_does_not_answer_is_known_before_any_model_works(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, run = trained
    near = recipe(folder, base, examples=14, metrics=["similarity"], embeddings="letters@http://127.0.0.1:9/v1")
    heard: list[Event] = []
    with pytest.raises(ServiceError, match="no server answers at http://127.0.0.1:9/v1"):
        compare(near, run, Events(listeners=(heard.append,)))
    assert not [event for event in heard if isinstance(event, Progress)]


def test_similarity_without_an_embedding_model_is_an_error_of_the_recipe(trained: tuple[Path, Path, RunFolder]) -> None:
    folder, base, _run = trained
    with pytest.raises(RecipeError, match="similarity is told by an embedding model.*compare.embeddings"):
        recipe(folder, base, metrics=["similarity"])


def test_kinds_come_by_rule_and_by_hand(tmp_path: Path, base: Path) -> None:
    def row(number: int) -> dict[str, str]:
        if number % 3 == 0:
            return {"question": f"hammer {number}", "answer": f"It costs {number} euros."}
        return {"question": f"house {number}", "answer": "Good day, and thank you.", "kind": "manners" if number % 3 == 1 else ""}

    text = "".join(json.dumps(row(number)) + "\n" for number in range(60))
    (tmp_path / "examples.jsonl").write_text(text, encoding="utf-8")
    (tmp_path / "houses.md").write_text("# Houses\n\nNothing of it.\n", encoding="utf-8")
    run = RunFolder(tmp_path / "probe")
    chosen = recipe(tmp_path, base, contenders=["prompt"], examples=20, max_new_tokens=3, pattern=None)
    chosen = chosen.model_copy(update={"train": chosen.train.model_copy(update={"max_steps": 1})})
    heard: list[Event] = []
    prepare(chosen, run, Events(listeners=(heard.append,)))
    assert not any("not used: 'kind'" in event.text for event in heard if isinstance(event, Notice))
    train(chosen, run, Events())
    comparison = compare(chosen, run, Events()).comparison
    asked = {talk.source: talk for talk in load_conversations(run.stage("prepare"), "test")}
    assert set(comparison.kinds) <= {"knowledge", "style", "manners"}
    assert len(comparison.kinds) > 1
    assert sum(comparison.kinds.values()) == comparison.examples
    for line in (run.stage("compare") / "answers.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        number = int(
            next(talk for source, talk in asked.items() if str(source) == record["source"]).messages[0].content.split()[1]
        )
        assert record["kind"] == ("knowledge", "manners", "style")[number % 3]
    assert "knowledge questions" in (run.stage("compare") / "report.html").read_text(encoding="utf-8")
