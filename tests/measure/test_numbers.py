import json
from decimal import Decimal
from pathlib import Path

import pytest

from afina.measure.numbers import final_number, number_match, readings


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("#### 72", "…\n#### 72", 1),
        ("72 clips\n#### 5,000", "#### 5000", 1),
        ("She has 3 and 4, so 7.", "#### 7", 1),
        ("It is 7.0", "7", 1),
        ("-5", "−5", 1),
        ("pages 10-5", "#### 5", 1),
        ("3,5 euros", "3.5", 1),
        ("1.234,50 €", "1,234.5", 1),
        ("12kg", "12", 1),
        ("none", "#### 7", 0),
        ("none", "none", 0),
        ("v1.2", "2", 0),
        ("8", "7", 0),
    ],
)
def test_a_number_is_the_same_however_it_is_written(answer: str, reference: str, same: float) -> None:
    assert number_match(answer, reference) == same


def test_a_number_with_three_digits_behind_its_only_mark_may_be_either() -> None:
    assert readings("1.234") == {Decimal("1.234"), Decimal(1234)}
    assert readings("0.125") == {Decimal("0.125")}
    assert readings("1.2.3") == frozenset()
    assert readings("1,234,567") == {Decimal(1234567)}


def test_the_number_behind_the_mark_comes_before_the_last_one() -> None:
    assert final_number("#### 18\nThat was in 2024") == "18"
    assert final_number("#### eighteen, 18 in figures") == "18"
    assert final_number("") == ""


def test_it_judges_gsm8k_as_its_own_rule_does(shared_data: Path) -> None:
    """GSM8K's rule: what stands behind ``####``, without its commas, is the same text."""
    lines = (shared_data / "ds-gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:400]
    answers = [json.loads(line)["answer"] for line in lines]
    official = [answer.rpartition("#### ")[2].replace(",", "") for answer in answers]
    for one, own in zip(answers, official, strict=True):
        for other, wanted in zip(answers[:40], official[:40], strict=True):
            assert number_match(one, other) == float(own == wanted), (own, wanted)
