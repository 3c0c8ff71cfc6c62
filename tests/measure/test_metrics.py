from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics.chrf import CHRF

from afina.measure.metrics import chrf, every_metric, exact_match, metric_of, token_f1, words
from afina.recipe.recipe import MetricName

text = st.text(max_size=60)
near = st.text(alphabet="abcáñ 한字.\n", max_size=40)  # a small alphabet, so that pieces are shared


@given(st.one_of(text, near), st.one_of(text, near))
def test_chrf_is_sacrebleus(answer: str, reference: str) -> None:
    assert chrf(answer, reference) == pytest.approx(CHRF().sentence_score(answer, [reference]).score / 100, abs=1e-12)


@given(near, near)
def test_every_metric_stays_between_0_and_1(answer: str, reference: str) -> None:
    for metric in (exact_match, token_f1, chrf):
        assert 0 <= metric(answer, reference) <= 1 + 1e-12


@given(text)
def test_the_same_text_is_a_full_match(same: str) -> None:
    assert exact_match(same, same) == token_f1(same, same) == 1
    if "".join(same.split()):
        assert chrf(same, same) == pytest.approx(1)


@given(near, near)
def test_f1_does_not_depend_on_which_text_is_the_reference(one: str, other: str) -> None:
    assert token_f1(one, other) == pytest.approx(token_f1(other, one))


def test_exact_match_forgives_only_outer_white_space() -> None:
    assert exact_match("  yes\n", "yes") == 1
    assert exact_match("Yes", "yes") == 0
    assert exact_match("a  b", "a b") == 0


def test_f1_counts_a_repeated_word_as_often_as_both_have_it() -> None:
    assert token_f1("la la la", "la la") == pytest.approx(2 * 2 / 5)
    assert token_f1("el gato negro", "el perro negro") == pytest.approx(2 / 3)


def test_f1_keeps_articles_and_forgives_case_and_punctuation() -> None:
    assert token_f1("the cat", "cat") == pytest.approx(2 / 3)
    assert token_f1("¿Qué TAL?", "qué tal") == 1


def test_texts_without_words_match_only_when_equal() -> None:
    assert token_f1("👍", "👍") == 1
    assert token_f1("👍", "👎") == 0
    assert token_f1("", "word") == 0


def test_words_of_composed_and_decomposed_letters_are_the_same() -> None:
    assert words("cafe\u0301") == words("café") == ["café"]


def test_a_script_without_spaces_has_a_word_a_character() -> None:
    assert words("東京 tower 2") == ["東", "京", "tower", "2"]


def test_every_metric_of_the_recipe_has_words_and_the_least_is_better_for_the_loss_alone() -> None:
    names = [metric.name for metric in every_metric()]
    assert set(get_args(MetricName)) <= set(names)
    assert len(set(names)) == len(names)
    assert [metric_of(name).name for name in names] == names
    assert [metric.name for metric in every_metric() if metric.direction == "lower"] == ["loss"]
