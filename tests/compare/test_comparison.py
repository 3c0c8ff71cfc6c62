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
    choose_questions,
    compare_performances,
    load_comparison,
    save_comparison,
    score_answers,
)
from afina.compare.contenders import choose_contenders
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
    return Performance(name, answers, list(losses))


def shop(count: int = 30) -> tuple[list[Conversation], list[Row], list[Performance]]:
    """A base that knows nothing of the style, and a tuned model that obeys it but for the last answer."""
    questions = [conversation(number) for number in range(count)]
    rows = [row(number, 5 + number % 3) for number in range(count)]
    chance = random.Random(0)
    tokens = [row.trained_tokens for row in rows]
    base = performance("prompt", ["no sé"] * count, [(3 * n + chance.random(), n) for n in tokens], finish="length")
    obeying = [question.answer for question in questions[:-1]]
    tuned = performance("tuned", [*obeying, "no sé"], [(0.5 * n + chance.random(), n) for n in tokens])
    return questions, rows, [base, tuned]


def compared(pattern: str | None = PATTERN, count: int = 30) -> tuple[Comparison, list[Conversation], list[list[Scored]]]:
    questions, rows, performances = shop(count)
    scored = score_answers(performances, questions, pattern)
    comparison = compare_performances(performances, scored, rows, questions, pattern=pattern, resamples=500, seed=7)
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
    rows = [row(0, 1), row(1, 9)]
    performances = [performance("prompt", ["a", "b"], [(10.0, 1), (9.0, 9)])]
    scored = score_answers(performances, questions, None)
    comparison = compare_performances(performances, scored, rows, questions, pattern=None, resamples=200, seed=1)
    assert comparison.interval("loss", "prompt").value == pytest.approx(1.9)
    assert comparison.trained_tokens == 10


def test_the_rows_of_one_conversation_are_one_example() -> None:
    questions = [conversation(0), conversation(1)]
    rows = [row(0, 2), row(0, 3), row(1, 4)]
    performances = [performance("prompt", ["a", "b"], [(2.0, 2), (3.0, 3), (4.0, 4)])]
    scored = score_answers(performances, questions, None)
    comparison = compare_performances(performances, scored, rows, questions, pattern=None, resamples=200, seed=1)
    assert (comparison.held_out, comparison.trained_tokens) == (2, 9)


def test_two_equal_contenders_are_too_close_to_tell() -> None:
    questions, rows, (base, _tuned) = shop()
    performances = [base, Performance("tuned", base.answers, base.losses)]
    scored = score_answers(performances, questions, PATTERN)
    comparison = compare_performances(performances, scored, rows, questions, pattern=PATTERN, resamples=200, seed=7)
    assert {cell.verdict for cell in comparison.differences} == {"too close to tell"}


def test_without_a_pattern_there_is_no_style_metric() -> None:
    comparison, _questions, _scored = compared(pattern=None)
    assert "pattern" not in {cell.metric for cell in comparison.measured}


def test_an_answer_on_which_the_pattern_never_ends_counts_as_not_obeying(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [conversation(0), conversation(1)]
    performances = [performance("prompt", ["a" * 60, "aab"], [(1.0, 1), (1.0, 1)])]
    scored = score_answers(performances, questions, "(a+)+b")
    comparison = compare_performances(
        performances, scored, [row(0, 1), row(1, 1)], questions, pattern="(a+)+b", resamples=100, seed=1
    )
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
