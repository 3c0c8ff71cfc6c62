from collections import Counter
from pathlib import Path

import pytest

from afina.compare.forgetting import Told, compare_before_and_after, general_set, load_forgetting, save_forgetting, words

ITEMS = general_set()
RIGHT = [item.answer for item in ITEMS]
WRONG = ["el martillo es un martillo"] * len(ITEMS)
CHEAP, DEAR = [(2.0, 4)] * len(ITEMS), [(12.0, 4)] * len(ITEMS)


def test_the_set_is_balanced_and_its_own_answers_are_right() -> None:
    assert len(ITEMS) == 60
    assert set(Counter((item.task, item.language) for item in ITEMS).values()) == {10}
    assert len({item.question for item in ITEMS}) == 60
    assert all(item.is_right(item.answer) for item in ITEMS)
    assert not any(item.is_right(text) for item in ITEMS for text in ("", "I do not know.", WRONG[0]))


@pytest.mark.parametrize(
    ("question", "answer", "is_right"),
    [
        ("What is 17 + 25?", "17 + 25 = 42.", True),
        ("What is 17 + 25?", "42, or perhaps 43", False),
        ("What is 17 + 25?", "142", False),
        ("¿Cuánto es 500 + 500?", "Son 1000 en total", True),
        ("Translate into Spanish: Thank you very much", "¡Muchas gracias!", True),
        ("Traduce al inglés: Tengo frío", "I'm cold.", True),
        ("Answer with the single word yes.", "Yes", True),
        ("Answer with the single word yes.", "Yes, of course", False),
        ("Write the word apple in capital letters and nothing else.", "apple", False),
        ("Haz una lista de tres países, uno en cada línea, cada uno tras un guion.", "- Chile\n- Cuba\n- Italia", True),
        ("Haz una lista de tres países, uno en cada línea, cada uno tras un guion.", "Chile, Cuba, Italia", False),
    ],
)
def test_answers_are_judged_by_what_was_asked(question: str, answer: str, is_right: bool) -> None:
    (item,) = (item for item in ITEMS if item.question == question)
    assert item.is_right(answer) is is_right


def test_a_model_that_answers_worse_has_forgotten() -> None:
    after = [*RIGHT[:30], *WRONG[30:]]
    found = compare_before_and_after(Told(RIGHT, CHEAP), Told(after, DEAR), "GGUF q4_k_m", resamples=200, seed=1)
    assert found.outcome == "forgot"
    assert found.tasks == {"arithmetic": (20, 20, 20), "translation": (20, 10, 20), "instruction": (20, 0, 20)}
    text = words(found)
    assert text.startswith("The training made the model forget: -50 points (-62 to -35)")
    assert "100 % right before, 50 % after, of 60 general questions (GGUF q4_k_m)" in text


def test_one_answer_less_is_no_forgetting_that_is_shown() -> None:
    after = [*RIGHT[:59], *WRONG[59:]]
    found = compare_before_and_after(Told(RIGHT, CHEAP), Told(after, CHEAP), "torch float32", resamples=200, seed=1)
    assert found.outcome == "kept"
    assert words(found).startswith("No forgetting is shown: -2 points (")


def test_a_base_that_answers_nothing_right_is_told_by_its_loss() -> None:
    found = compare_before_and_after(Told(WRONG, DEAR), Told(WRONG, CHEAP), "torch float32", resamples=200, seed=1)
    assert found.outcome == "unknown"
    text = words(found)
    assert "cannot be told from answers" in text
    assert "loss of the right answers 3.00 → 0.50, which is better" in text


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    found = compare_before_and_after(Told(RIGHT, CHEAP), Told(WRONG, DEAR), "torch float32", resamples=200, seed=1)
    save_forgetting(tmp_path, found)
    assert load_forgetting(tmp_path) == found
    assert load_forgetting(tmp_path / "nothing") is None
