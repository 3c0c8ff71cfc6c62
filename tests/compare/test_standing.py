from pathlib import Path

import numpy as np
import pytest

from afina.compare.standing import Open, Standing, load_standing, save_standing, stand, words
from afina.measure.metrics import Metric, metric_of

PATTERN, LOSS = metric_of("pattern"), metric_of("loss")


def outcomes(right: int, of: int = 40) -> list[float]:
    return [1.0] * right + [0.0] * (of - right)


def standing(metric: Metric = PATTERN, **scores: list[float]) -> Standing:
    return stand(scores, metric, resamples=200, seed=1)


def test_who_is_shown_to_be_better_is_ahead() -> None:
    found = standing(prompt=outcomes(2), tuned=outcomes(36))
    assert (found.best, found.behind, found.undecided) == ("tuned", ("prompt",), ())
    assert words(found) == "style obeyed: tuned is ahead of base"


def test_no_order_is_said_where_the_interval_holds_zero() -> None:
    found = standing(prompt=outcomes(2), few_shot=outcomes(33), tuned=outcomes(36))
    assert found.behind == ("prompt",)
    (one,) = found.undecided
    assert one.contender == "few_shot"
    assert one.gap == pytest.approx(0.075)
    assert one.needed is not None
    assert one.needed > 40
    text = words(found)
    assert "between tuned and few-shot no difference is shown by 40 examples" in text
    assert f"about {one.needed} would be needed for one of 7.5 points, to see it 80 times in 100" in text


def test_those_of_whom_the_same_is_to_be_said_are_named_together() -> None:
    text = words(standing(prompt=outcomes(0), rag=outcomes(0), few_shot=outcomes(4), tuned=outcomes(0)))
    assert text.count("no difference is shown") == 1
    assert "between few-shot and base, RAG, tuned no difference is shown by 40 examples" in text


def test_a_lower_loss_is_the_better_one() -> None:
    found = standing(LOSS, prompt=[3.0, 3.1, 2.9, 3.2, 3.0], tuned=[1.0, 1.1, 0.9, 1.0, 1.2])
    assert (found.best, found.behind) == ("tuned", ("prompt",))


def test_equal_contenders_cannot_be_told_apart_by_any_number() -> None:
    found = standing(prompt=outcomes(20), tuned=outcomes(20))
    assert found.undecided == (Open("tuned", 0.0, None),)
    assert "more than 100,000 would be needed if it is as small as it looks" in words(found)


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    found = standing(prompt=outcomes(2), few_shot=outcomes(33), tuned=outcomes(36))
    save_standing(tmp_path, found)
    assert load_standing(tmp_path) == found
    assert load_standing(tmp_path / "nothing") is None


def test_of_equal_contenders_hardly_ever_one_is_said_to_be_ahead() -> None:
    random = np.random.default_rng(3)
    names = ("prompt", "few_shot", "rag", "tuned", "tuned+rag")
    claimed = 0
    for _run in range(200):
        hard = random.normal(size=40)
        scores = {name: [float(one) for one in 0.6 * hard + 0.8 * random.normal(size=40) > 0] for name in names}
        claimed += bool(standing(PATTERN, **scores).behind)
    assert claimed / 200 < 0.1
