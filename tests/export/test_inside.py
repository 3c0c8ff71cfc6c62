"""How near a served model is to its file here, at places within answers: against sums made by hand."""

from __future__ import annotations

import math

import pytest

from afina.core.errors import QualityError
from afina.export.inside import Place, compare_inside
from afina.infer.ollama import NextWords


def place(text: str, here: dict[bytes, float], token: bytes | None) -> Place:
    return Place(text, len(text), {word: math.log(share) for word, share in here.items()}, token)


def served(shares: dict[str, dict[bytes, float]], *, longer: str = "") -> dict[str, NextWords]:
    return {
        text: NextWords(len(text) + (text == longer), {word: math.log(share) for word, share in told.items()})
        for text, told in shares.items()
    }


def test_divergence_loss_and_agreement_are_what_they_are_by_hand() -> None:
    places = [place("a", {b"x": 0.6, b"y": 0.3}, b"x"), place("ab", {b"x": 0.5, b"z": 0.4}, None)]
    there = served({"a": {b"x": 0.58, b"y": 0.32}, "ab": {b"z": 0.45, b"x": 0.44}})
    found = compare_inside(there.__getitem__, places)
    assert found is not None
    first = 0.6 * math.log(0.6 / 0.58) + 0.3 * math.log(0.3 / 0.32) + 0.1 * math.log(0.1 / 0.1)
    second = 0.5 * math.log(0.5 / 0.44) + 0.4 * math.log(0.4 / 0.45) + 0.1 * math.log(0.1 / 0.11)
    assert found.divergence == pytest.approx((first + second) / 2, abs=1e-9)
    assert (found.places, found.agreement, found.told) == (2, 0.5, 1)
    assert found.loss == pytest.approx(-math.log(0.58))
    assert found.loss_here == pytest.approx(-math.log(0.6))


def test_a_place_that_is_read_as_other_tokens_or_has_no_likelihoods_is_left_out() -> None:
    places = [place("a", {b"x": 0.9}, b"x"), place("ab", {b"x": 0.9}, b"x"), place("abc", {b"x": 0.9}, b"x")]
    there = served({"a": {b"x": 0.9}, "ab": {b"x": 0.9}, "abc": {}}, longer="ab")
    found = compare_inside(there.__getitem__, places)
    assert found is not None
    assert (found.places, found.told) == (1, 1)
    assert compare_inside(there.__getitem__, places[1:]) is None


def test_other_likelihoods_than_rounding_explains_are_an_error() -> None:
    with pytest.raises(QualityError, match=r"divergence 0\.\d+ at 1 places; at most 0\.02"):
        compare_inside(served({"a": {b"x": 0.4}}).__getitem__, [place("a", {b"x": 0.9}, b"x")])
