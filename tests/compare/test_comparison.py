import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from afina.compare.comparison import (
    Comparison,
    Kinds,
    Performance,
    Scored,
    Scoring,
    by_conversation,
    choose_questions,
    compare_performances,
    load_comparison,
    save_comparison,
    score_answers,
)
from afina.compare.contenders import choose_contenders, names_of
from afina.compare.figure import Example
from afina.compare.knowledge import kinds_of
from afina.compare.prompts import Asked
from afina.compare.standing import scores_of, stand
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Row
from afina.infer.answer import Answer
from afina.measure.choice import choose_metrics
from afina.measure.metrics import metric_of
from afina.model.base import resolve_base
from afina.recipe.recipe import Check
from tests.fakes.rows import row_of

PATTERN = r"Estimado cliente: .*\. Gracias\."
NAMED = ("loss", "exact", "f1", "chrf", "ended")


def scoring(pattern: str | None = PATTERN, named: Sequence[str] = NAMED, checks: Sequence[Check] = ()) -> Scoring:
    reasons = choose_metrics([], [], named=named, with_pattern=pattern is not None, checks=len(checks))
    return Scoring(reasons, pattern, tuple(checks))


def conversation(number: int) -> Conversation:
    messages = (Message("user", f"¿Precio {number}?"), Message("assistant", f"Estimado cliente: {number} euros. Gracias."))
    return Conversation(messages, Source("tienda.jsonl", number + 1))


def row(number: int, tokens: int) -> Row:
    return row_of(tuple(range(tokens + 2)), (False, False, *[True] * tokens), Source("tienda.jsonl", number + 1))


def performance(name: str, texts: Sequence[str], losses: Sequence[tuple[float, int]], finish: str = "stop") -> Performance:
    answers = [Answer(text, tuple(range(len(text))), "stop" if finish == "stop" else "length", 0.5) for text in texts]
    asked = [Asked(conversation(number), prompt_tokens=20 + number) for number in range(len(texts))]
    return Performance(name, answers, list(losses), asked)


def shop(count: int = 30) -> tuple[list[Conversation], list[Performance]]:
    """A base that knows nothing of the style, and a tuned model that obeys it but for the last answer."""
    questions = [conversation(number) for number in range(count)]
    chance = random.Random(0)
    tokens = [5 + number % 3 for number in range(count)]
    base = performance("prompt", ["no sé"] * count, [(3 * n + chance.random(), n) for n in tokens], finish="length")
    obeying = [question.answer for question in questions[:-1]]
    tuned = performance("tuned", [*obeying, "no sé"], [(0.5 * n + chance.random(), n) for n in tokens])
    return questions, [base, tuned]


def compared(pattern: str | None = PATTERN, count: int = 30) -> tuple[Comparison, list[Conversation], list[list[Scored]]]:
    questions, performances = shop(count)
    scored = score_answers(performances, questions, scoring(pattern))
    comparison = compare_performances(performances, scored, questions, scoring=scoring(pattern), resamples=500, seed=7)
    return comparison, questions, scored


def test_a_tuned_model_that_learned_the_style_is_better_in_every_metric() -> None:
    comparison, _questions, _scored = compared()
    assert {cell.metric: cell.verdict for cell in comparison.differences} == dict.fromkeys(
        ("loss", "pattern", "exact", "f1", "chrf", "ended"), "better"
    )
    assert comparison.interval("pattern", "prompt").value == 0
    assert comparison.interval("pattern", "tuned").value == pytest.approx(29 / 30)
    assert comparison.interval("ended", "prompt").value == 0
    style = comparison.interval("pattern", "prompt")
    assert style.low == 0 < style.high, "a share of 0 has an interval with width"


def test_the_loss_is_a_mean_over_tokens_and_not_over_examples() -> None:
    questions = [conversation(0), conversation(1)]
    performances = [performance("prompt", ["a", "b"], [(10.0, 1), (9.0, 9)])]
    scored = score_answers(performances, questions, scoring(None))
    comparison = compare_performances(performances, scored, questions, scoring=scoring(None), resamples=200, seed=1)
    assert comparison.interval("loss", "prompt").value == pytest.approx(1.9)
    assert comparison.trained_tokens == 10


def test_the_rows_of_one_conversation_are_one_example() -> None:
    rows = [row(0, 2), row(0, 3), row(1, 4)]
    assert by_conversation(rows, [(2.0, 2), (3.5, 3), (4.0, 4)]) == [(5.5, 5), (4.0, 4)]


def test_two_equal_contenders_are_too_close_to_tell() -> None:
    questions, (base, _tuned) = shop()
    performances = [base, replace(base, contender="tuned")]
    scored = score_answers(performances, questions, scoring())
    comparison = compare_performances(performances, scored, questions, scoring=scoring(), resamples=200, seed=7)
    assert {cell.verdict for cell in comparison.differences} == {"too close to tell"}


def test_without_a_pattern_there_is_no_style_metric() -> None:
    comparison, _questions, _scored = compared(pattern=None)
    assert "pattern" not in {cell.metric for cell in comparison.measured}


def test_an_answer_on_which_the_pattern_never_ends_counts_as_not_obeying(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [conversation(0), conversation(1)]
    performances = [performance("prompt", ["a" * 60, "aab"], [(1.0, 1), (1.0, 1)])]
    scored = score_answers(performances, questions, scoring("(a+)+b"))
    comparison = compare_performances(performances, scored, questions, scoring=scoring("(a+)+b"), resamples=100, seed=1)
    assert comparison.undecided == 1
    assert comparison.interval("pattern", "prompt").value == 0.5


def test_a_saved_comparison_is_read_again_as_it_was(tmp_path: Path) -> None:
    comparison, questions, scored = compared()
    paths = save_comparison(tmp_path, comparison, questions, scored)
    assert load_comparison(tmp_path) == comparison
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 30
    assert lines[0]["source"] == "tienda.jsonl:1"
    assert lines[0]["answers"]["tuned"]["text"] == lines[0]["expected"]
    assert lines[0]["answers"]["tuned"]["scores"]["pattern"] == 1


def test_one_example_gives_values_without_intervals_and_strict_json(tmp_path: Path) -> None:
    comparison, questions, scored = compared(count=1)
    save_comparison(tmp_path, comparison, questions, scored)
    again = load_comparison(tmp_path)
    assert again == comparison
    assert again.interval("loss", "tuned").high == math.inf
    assert "Infinity" not in (tmp_path / "result.json").read_text(encoding="utf-8")


@given(count=st.integers(1, 60), most=st.integers(1, 60), seed=st.integers(0, 9))
@settings(max_examples=30)
def test_questions_are_drawn_without_repeats_and_always_the_same(count: int, most: int, seed: int) -> None:
    conversations = [conversation(number) for number in range(count)]
    chosen = choose_questions(conversations, most, seed)
    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert [c.source.line for c in chosen] == sorted(c.source.line for c in chosen)
    assert chosen == choose_questions(conversations, most, seed)


def test_the_base_comes_first_whatever_the_recipe_says() -> None:
    adapter = Path("runs/x/train/adapter")
    base, other = resolve_base("tiny"), replace(resolve_base("tiny"), name="other")
    both = choose_contenders(("tuned", "prompt"), base, other, adapter)
    assert [(c.name, c.base, c.adapter) for c in both] == [("prompt", base, None), ("tuned", other, adapter)]
    assert choose_contenders(("tuned",), base, other, adapter) == both[1:]


def test_several_contenders_are_each_measured_against_the_first(tmp_path: Path) -> None:
    questions, (base, tuned) = shop()
    knowing = replace(tuned, contender="rag", asked=[replace(asked, prompt_tokens=400) for asked in tuned.asked])
    performances = [base, replace(base, contender="few_shot"), knowing, tuned]
    scored = score_answers(performances, questions, scoring())
    comparison = compare_performances(performances, scored, questions, scoring=scoring(), resamples=200, seed=7)
    verdicts = {(cell.contender, cell.against): cell.verdict for cell in comparison.differences if cell.metric == "loss"}
    assert verdicts == {
        ("few_shot", "prompt"): "too close to tell",
        ("rag", "prompt"): "better",
        ("tuned", "prompt"): "better",
    }
    assert [medians.prompt_tokens for medians in comparison.typical] == [34.5, 34.5, 400, 34.5]
    save_comparison(tmp_path, comparison, questions, scored)
    assert load_comparison(tmp_path) == comparison


def test_the_verdicts_and_the_standing_follow_one_rule() -> None:
    """In a comparison of six, few-shot was marked as better than the base, and the headline said that no difference was shown."""
    questions, (base, _tuned) = shop(24)
    right = [question.answer for question in questions]
    some = replace(base, contender="few_shot", answers=performance("few_shot", [*right[:5], *["no sé"] * 19], []).answers)
    others = [replace(base, contender=name) for name in ("prompt+", "rag", "tuned", "tuned+rag")]
    for performances, told in (([base, some], "better"), ([base, some, *others], "too close to tell")):
        scored = score_answers(performances, questions, scoring(None))
        comparison = compare_performances(performances, scored, questions, scoring=scoring(None), resamples=200, seed=7)
        (found,) = [one for one in comparison.differences if (one.metric, one.contender) == ("exact", "few_shot")]
        standing = stand(scores_of(scored, "exact"), metric_of("exact"), resamples=200, seed=7)
        assert found.verdict == told
        assert (standing.best, "prompt" in standing.behind) == ("few_shot", told == "better")


def test_an_answer_to_a_longer_prompt_keeps_that_prompt_and_its_sources(tmp_path: Path) -> None:
    questions, (base, tuned) = shop()
    longer = replace(questions[0], messages=(Message("user", "> a passage\n\nQuestion: …"), questions[0].messages[-1]))
    asked = [replace(tuned.asked[0], conversation=longer, shown=("prices.md, line 1",)), *tuned.asked[1:]]
    performances = [base, replace(tuned, contender="rag", asked=asked)]
    scored = score_answers(performances, questions, scoring(None))
    comparison = compare_performances(performances, scored, questions, scoring=scoring(None), resamples=200, seed=7)
    save_comparison(tmp_path, comparison, questions, scored)
    line = json.loads((tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["answers"]["rag"]["shown"] == ["prices.md, line 1"]
    assert line["answers"]["rag"]["prompt"][0]["content"].startswith("> a passage")
    assert "prompt" not in line["answers"]["prompt"], "the plain prompt stands once"


def test_passages_are_for_those_who_have_documents() -> None:
    assert names_of("auto", documents=False) == ("prompt", "prompt+", "few_shot", "tuned")
    assert names_of("auto", documents=True) == ("prompt", "prompt+", "few_shot", "rag", "tuned", "tuned+rag")
    assert names_of(("prompt", "rag"), documents=False) == ("prompt", "rag")
    every = choose_contenders(names_of("auto", documents=True), resolve_base("tiny"), resolve_base("tiny"), Path("adapter"))
    assert [(one.name, one.adapter is not None, one.way) for one in every] == [
        ("prompt", False, "plain"),
        ("prompt+", False, "instruction"),
        ("few_shot", False, "examples"),
        ("rag", False, "passages"),
        ("tuned", True, "plain"),
        ("tuned+rag", True, "passages"),
    ]


def test_each_kind_of_question_is_measured_by_itself(tmp_path: Path) -> None:
    questions, performances = shop()
    kinds = ["knowledge" if number % 3 == 0 else "style" for number in range(30)]
    knowing = [question.answer if kind == "knowledge" else "no sé" for question, kind in zip(questions, kinds, strict=True)]
    losses = [
        ((0.5 if kind == "knowledge" else 3) * n, n) for kind, (_loss, n) in zip(kinds, performances[0].losses or (), strict=True)
    ]
    performances = [performances[0], performance("rag", knowing, losses)]
    scored = score_answers(performances, questions, scoring())
    comparison = compare_performances(
        performances, scored, questions, scoring=scoring(), resamples=200, seed=7, kinds=Kinds(kinds, kinds)
    )
    assert comparison.kinds == {"knowledge": 10, "style": 20}
    assert comparison.interval("exact", "rag", "knowledge").value == 1
    assert comparison.interval("exact", "rag", "style").value == 0
    assert comparison.interval("exact", "rag").value == pytest.approx(1 / 3)
    assert comparison.interval("loss", "rag", "knowledge").value == pytest.approx(0.5)
    assert comparison.interval("loss", "rag", "style").value == pytest.approx(3)
    told = {cell.kind: cell.verdict for cell in comparison.differences if cell.metric == "exact"}
    assert told == {"": "better", "knowledge": "better", "style": "too close to tell"}
    save_comparison(tmp_path, comparison, questions, scored, kinds)
    assert load_comparison(tmp_path) == comparison
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["kind"] for line in lines] == kinds


def test_labels_have_a_macro_f1_over_all_of_them() -> None:
    names = ["refund", "invoice", "cancel"] * 10
    questions = [
        replace(conversation(n), messages=(Message("user", "?"), Message("assistant", name))) for n, name in enumerate(names)
    ]
    losses = [(1.0, 1)] * 30
    performances = [performance("prompt", ["Refund."] * 30, losses), performance("tuned", names, losses)]
    labels = scoring(None, ("label", "macro_f1"))
    scored = score_answers(performances, questions, labels)
    comparison = compare_performances(performances, scored, questions, scoring=labels, resamples=200, seed=7)
    assert comparison.interval("label", "prompt").value == pytest.approx(1 / 3)
    assert comparison.interval("macro_f1", "prompt").value == pytest.approx((2 * 10 / 40) / 3)
    assert comparison.interval("macro_f1", "tuned").value == 1
    assert {cell.verdict for cell in comparison.differences} == {"better"}


def test_rules_of_form_are_counted_one_by_one_and_together(tmp_path: Path) -> None:
    questions, performances = shop()
    checks = (Check(contains="Gracias"), Check(most_words=3), Check(one_of=("no sé",)))
    chosen = scoring(None, ("exact",), checks)
    scored = score_answers(performances, questions, chosen)
    comparison = compare_performances(performances, scored, questions, scoring=chosen, resamples=200, seed=7)
    assert [rule.rule for rule in comparison.rules] == [{"contains": "Gracias"}, {"most_words": 3}, {"one_of": ["no sé"]}]
    assert [rule.shares["prompt"] for rule in comparison.rules] == [0, 1, 1]
    assert comparison.rules[0].shares["tuned"] == pytest.approx(29 / 30)
    assert comparison.interval("checks", "tuned").value == 0
    assert scored[0][0].broken == (0,)
    save_comparison(tmp_path, comparison, questions, scored)
    assert load_comparison(tmp_path) == comparison


def test_a_contender_without_losses_is_measured_in_all_else(tmp_path: Path) -> None:
    questions, (base, tuned) = shop()
    performances = [base, replace(tuned, contender="qwen", losses=None)]
    scored = score_answers(performances, questions, scoring())
    comparison = compare_performances(
        performances, scored, questions, scoring=scoring(), resamples=200, seed=7, left_out={"other": "no server answers"}
    )
    assert set(comparison.intervals("loss")) == {"prompt"}
    assert {cell.metric for cell in comparison.differences} == {"pattern", "exact", "f1", "chrf", "ended"}
    save_comparison(tmp_path, comparison, questions, scored)
    assert load_comparison(tmp_path) == comparison


def test_who_says_that_it_is_not_there_is_counted_where_it_is_so_and_where_it_is_not() -> None:
    """20 questions with an answer, 10 without one. One contender says so everywhere, one never, one where it is so."""
    answered = [conversation(number) for number in range(20)]
    nowhere = [
        replace(
            conversation(number), messages=(Message("user", "¿?"), Message("assistant", "No lo encuentro en los documentos."))
        )
        for number in range(20, 30)
    ]
    questions, losses = [*answered, *nowhere], [(1.0, 1)] * 30
    kinds = kinds_of([Example.of(question) for question in questions], ())
    assert kinds == ["knowledge"] * 20 + ["unanswerable"] * 10
    said = "No se menciona en los pasajes."
    performances = [
        performance("prompt", ["Doce euros."] * 30, losses),
        performance("rag", [said] * 30, losses),
        performance("tuned+rag", [*["Doce euros."] * 19, said, *[said] * 9, "Doce."], losses),
    ]
    reasons = choose_metrics([], [question.answer for question in questions], named=("abstention",))
    scored = score_answers(performances, questions, Scoring(reasons))
    comparison = compare_performances(
        performances, scored, questions, scoring=Scoring(reasons), resamples=200, seed=7, kinds=Kinds(kinds, kinds)
    )
    shares = {
        kind: [round(comparison.interval("abstention", one.contender, kind).value, 2) for one in performances]
        for kind in ("unanswerable", "knowledge", "")
    }
    assert shares == {"unanswerable": [0, 1, 0.9], "knowledge": [1, 0, 0.95], "": [0.67, 0.33, 0.93]}
