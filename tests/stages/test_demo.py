"""What the demo says of its numbers: an answer is right by its kind, and a claim holds only where the numbers show it."""

from __future__ import annotations

import pytest

from afina.measure.intervals import Interval
from afina.stages.demo import ByKind, claims, curve, is_right, table

NAMES = ("prompt", "few_shot", "rag", "tuned", "tuned+rag")


def _answer(text: str, *, in_style: bool = False) -> dict[str, object]:
    return {"text": text, "scores": {"pattern": float(in_style)}}


def test_an_answer_on_form_is_right_in_the_house_style_whatever_it_says() -> None:
    assert is_right({"kind": "form"}, _answer("anything", in_style=True))
    assert not is_right({"kind": "form"}, _answer("anything"))


def test_an_answer_on_facts_is_right_with_the_whole_value() -> None:
    row = {"kind": "facts", "value": "9"}
    assert is_right(row, _answer("The Cloud roller is in aisle 9."))
    for wrong in ("aisle 19", "aisle 9.50", "9,95 €", "at 8:9", "x9"):
        assert not is_right(row, _answer(wrong)), wrong


def test_an_answer_on_simple_things_is_right_in_any_case() -> None:
    assert is_right({"kind": "simple", "value": "Positive"}, _answer("It is positive."))


def _about(value: float) -> Interval:
    return Interval(value, value - 0.05, value + 0.05)


def _found(shares: dict[str, tuple[float, ...]]) -> ByKind:
    return ByKind(
        {kind: {name: _about(value) for name, value in zip(NAMES, values, strict=True)} for kind, values in shares.items()},
        dict.fromkeys(shares, 30),
        {
            kind: {name: _about(both - value) for name, value in zip(NAMES, others, strict=False)}
            for kind, (*others, both) in shares.items()
        },
    )


def test_claims_hold_where_the_numbers_show_them_and_not_else() -> None:
    good = _found({"form": (0, 0.2, 0, 0.95, 0.9), "facts": (0, 0, 0.9, 0.05, 0.85), "simple": (0.95, 0.9, 0.9, 0.9, 0.9)})
    assert [claim.holds for claim in claims(good)] == [True, True, True, True]
    bad = _found({"form": (0, 0.9, 0, 0.95, 0.9), "facts": (0, 0, 0.1, 0.05, 0.1), "simple": (0.5, 0.9, 0.9, 1.0, 0.5)})
    assert [claim.holds for claim in claims(bad)] == [False, False, False, False]


def test_to_be_best_over_all_takes_more_than_chance_could_give() -> None:
    kinds = ("form", "facts", "simple")
    just = _found(dict.fromkeys(kinds, (0.1, 0.2, 0.3, 0.5, 0.52)))
    assert just.lead("tuned").value == pytest.approx(0.02)
    assert just.lead("tuned").low == pytest.approx(0.02 - 0.05 / 3**0.5)
    assert [claim.holds for claim in claims(just)][-1] is False
    assert [claim.holds for claim in claims(_found(dict.fromkeys(kinds, (0.1, 0.2, 0.3, 0.5, 0.54))))][-1] is True


def test_nothing_is_claimed_without_all_contenders() -> None:
    assert not list(claims(ByKind({"form": {"prompt": Interval(0, 0, 1)}}, {"form": 3}, {})))


def test_the_table_has_a_row_for_each_kind_and_one_for_all() -> None:
    found = _found(dict.fromkeys(("form", "facts", "simple"), (0.1, 0.2, 0.3, 0.4, 0.5)))
    rows = table(found)
    assert len(rows) == 5
    assert {len(row) for row in rows} == {6}
    assert rows[-1][-1].startswith("50")


def test_a_falling_curve_falls() -> None:
    assert curve([4, 3, 2, 1]) == "█▆▃▁"
    assert len(curve(list(range(1000)))) == 60
    assert curve([1, 1]) == "▁▁"
    assert curve([]) == ""
