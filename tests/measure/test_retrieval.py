import pytest

from afina.measure.retrieval import recall_at, reciprocal_rank

FOUND = ["b", "a", "d", "c"]


def test_recall_and_rank_equal_a_hand_calculation() -> None:
    questions = [(FOUND, {"a"}), (FOUND, {"c", "b"}), (FOUND, {"x"}), (["d"], {"d", "a"})]
    assert [recall_at(found, expected, 2) for found, expected in questions] == [1, 1 / 2, 0, 1 / 2]
    assert [recall_at(found, expected, 4) for found, expected in questions] == [1, 1, 0, 1 / 2]
    assert [reciprocal_rank(found, expected) for found, expected in questions] == [1 / 2, 1, 0, 1]
    assert sum(reciprocal_rank(*question) for question in questions) / 4 == pytest.approx(0.625)


def test_a_name_that_is_found_twice_counts_once() -> None:
    assert recall_at(["a", "a", "b"], {"a", "b"}, 2) == 0.5


def test_nothing_found_is_worth_nothing() -> None:
    assert recall_at([], {"a"}, 5) == reciprocal_rank([], {"a"}) == 0


def test_a_question_without_an_expected_passage_is_refused() -> None:
    with pytest.raises(ValueError):
        recall_at(FOUND, set(), 5)
