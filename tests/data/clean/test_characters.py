"""Repairing letters and taking out hidden characters, on real material and on anything (hypothesis)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ftfy.badness import is_bad
from hypothesis import given
from hypothesis import strategies as st

from afina.data.clean.characters import controls, may_be_garbled, may_hold_controls, repaired, utf8, without

# Characters that stand in garbled text, so that hypothesis meets it often.
GARBLED = st.text(alphabet="aé ñÃÂâ€™œŸ©°º¿«»–Ð\x80\x9dµ\u00a0ßĂŻż√ÿ'", max_size=12)


@pytest.mark.parametrize("name", ["in-the-wild", "language-names", "synthetic", "negative"])
def test_real_garbled_text_is_repaired_and_good_text_stays(shared_data: Path, name: str) -> None:
    cases = json.loads((shared_data / "dirty-mojibake" / "tests" / "test-cases" / f"{name}.json").read_text(encoding="utf-8"))
    assert len(cases) >= 20
    for case in cases:
        assert repaired(case["original"]) == case.get("fixed-encoding", case["fixed"]), case["label"]


@given(GARBLED)
def test_the_quick_look_misses_nothing_that_ftfy_calls_garbled(text: str) -> None:
    if is_bad(text):
        assert may_be_garbled(utf8(text))


def test_quotes_entities_and_composed_letters_stay_as_written() -> None:
    text = "“Hola” &amp; ﬁn, e\u0301, ＡＢＣ, it’s"
    assert repaired(text) == text


def test_a_repair_keeps_the_lines() -> None:
    assert repaired("cafÃ©\r\nplain\rcafé\n\nÃ©") == "café\r\nplain\rcafé\n\né"


@given(st.text())
def test_the_quick_look_for_controls_misses_none_and_taking_out_leaves_none(text: str) -> None:
    positions = controls(text)
    if positions:
        assert may_hold_controls(utf8(text))
    assert without(text, []) == text
    assert len(without(text, positions)) == len(text) - len(positions)
