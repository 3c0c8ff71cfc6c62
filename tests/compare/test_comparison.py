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
    Performance,
    Scored,
    by_conversation,
    choose_questions,
    compare_performances,
    load_comparison,
    save_comparison,
    score_answers,
)
from afina.compare.contenders import choose_contenders, names_of
from afina.compare.prompts import Asked
from afina.data.conversation import Conversation, Message, Source
from afina.data.render import Row
from afina.infer.answer import Answer
from afina.model.base import resolve_base
from tests.fakes.rows import row_of

PATTERN = r"Estimado cliente: .*\. Gracias\."


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
    scored = score_answers(performances, questions, pattern)
    comparison = compare_performances(performances, scored, questions, pattern=pattern, resamples=500, seed=7)
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
    scored = score_answers(performances, questions, None)
    comparison = compare_performances(performances, scored, questions, pattern=None, resamples=200, seed=1)
    assert comparison.interval("loss", "prompt").value == pytest.approx(1.9)
    assert comparison.trained_tokens == 10


def test_the_rows_of_one_conversation_are_one_example() -> None:
    rows = [row(0, 2), row(0, 3), row(1, 4)]
    assert by_conversation(rows, [(2.0, 2), (3.5, 3), (4.0, 4)]) == [(5.5, 5), (4.0, 4)]


def test_two_equal_contenders_are_too_close_to_tell() -> None:
    questions, (base, _tuned) = shop()
    performances = [base, replace(base, contender="tuned")]
    scored = score_answers(performances, questions, PATTERN)
    comparison = compare_performances(performances, scored, questions, pattern=PATTERN, resamples=200, seed=7)
    assert {cell.verdict for cell in comparison.differences} == {"too close to tell"}


def test_without_a_pattern_there_is_no_style_metric() -> None:
    comparison, _questions, _scored = compared(pattern=None)
    assert "pattern" not in {cell.metric for cell in comparison.measured}


def test_an_answer_on_which_the_pattern_never_ends_counts_as_not_obeying(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [conversation(0), conversation(1)]
    performances = [performance("prompt", ["a" * 60, "aab"], [(1.0, 1), (1.0, 1)])]
    scored = score_answers(performances, questions, "(a+)+b")
    comparison = compare_performances(performances, scored, questions, pattern="(a+)+b", resamples=100, seed=1)
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
    scored = score_answers(performances, questions, PATTERN)
    comparison = compare_performances(performances, scored, questions, pattern=PATTERN, resamples=200, seed=7)
    verdicts = {(cell.contender, cell.against): cell.verdict for cell in comparison.differences if cell.metric == "loss"}
    assert verdicts == {
        ("few_shot", "prompt"): "too close to tell",
        ("rag", "prompt"): "better",
        ("tuned", "prompt"): "better",
    }
    assert [medians.prompt_tokens for medians in comparison.typical] == [34.5, 34.5, 400, 34.5]
    save_comparison(tmp_path, comparison, questions, scored)
    assert load_comparison(tmp_path) == comparison


def test_an_answer_to_a_longer_prompt_keeps_that_prompt_and_its_sources(tmp_path: Path) -> None:
    questions, (base, tuned) = shop()
    longer = replace(questions[0], messages=(Message("user", "> a passage\n\nQuestion: …"), questions[0].messages[-1]))
    asked = [replace(tuned.asked[0], conversation=longer, shown=("prices.md, line 1",)), *tuned.asked[1:]]
    performances = [base, replace(tuned, contender="rag", asked=asked)]
    scored = score_answers(performances, questions, None)
    comparison = compare_performances(performances, scored, questions, pattern=None, resamples=200, seed=7)
    save_comparison(tmp_path, comparison, questions, scored)
    line = json.loads((tmp_path / "answers.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert line["answers"]["rag"]["shown"] == ["prices.md, line 1"]
    assert line["answers"]["rag"]["prompt"][0]["content"].startswith("> a passage")
    assert "prompt" not in line["answers"]["prompt"], "the plain prompt stands once"


def test_passages_are_for_those_who_have_documents() -> None:
    assert names_of("auto", documents=False) == ("prompt", "few_shot", "tuned")
    assert names_of("auto", documents=True) == ("prompt", "few_shot", "rag", "tuned", "tuned+rag")
    assert names_of(("prompt", "rag"), documents=False) == ("prompt", "rag")
    every = choose_contenders(names_of("auto", documents=True), resolve_base("tiny"), resolve_base("tiny"), Path("adapter"))
    assert [(one.name, one.adapter is not None, one.way) for one in every] == [
        ("prompt", False, "plain"),
        ("few_shot", False, "examples"),
        ("rag", False, "passages"),
        ("tuned", True, "plain"),
        ("tuned+rag", True, "passages"),
    ]
