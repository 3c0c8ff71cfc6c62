import time

from afina.measure.pattern import obeys


def test_a_pattern_matches_the_whole_trimmed_answer() -> None:
    assert obeys("Hola.*Gracias", [" Hola\nadiós\nGracias\n", "Hola", "x Hola Gracias"]) == [True, False, False]


def test_texts_of_any_kind_reach_the_pattern_unharmed() -> None:
    texts = ["", "\x00", "línea 1\u2028línea 2", "👍", "\ud800", '"},]']
    assert obeys("(?s).*", texts) == [True] * len(texts)
    assert obeys("👍", texts) == [False, False, False, True, False, False]


def test_no_texts_need_no_verdict() -> None:
    assert obeys(".*", []) == []


def test_a_pattern_that_backtracks_for_ever_is_given_up_and_the_others_are_still_judged() -> None:
    start = time.monotonic()
    assert obeys("(a+)+b", ["aab", "a" * 60, "ab", "c"], limit_s=0.8) == [True, None, True, False]
    assert time.monotonic() - start < 10


def test_after_some_texts_that_take_too_long_the_others_are_not_tried() -> None:
    start = time.monotonic()
    texts = ["ab", *["a" * 60] * 20, "ab"]
    assert obeys("(a+)+b", texts, limit_s=0.8, patience=2) == [True, *[None] * 21]
    assert time.monotonic() - start < 10
