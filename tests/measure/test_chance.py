import pytest
from scipy import stats

from afina.measure.chance import holm, student_tail


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 8, 12, 51])
def test_student_s_tail_is_scipy_s(freedom: int) -> None:
    for t in (-3.2, -0.5, 0.0, 0.1, 1.0, 2.5, 9.0):
        assert student_tail(t, freedom) == pytest.approx(float(stats.t.sf(t, freedom)), abs=1e-12)


def test_the_likeliest_claims_hold_until_the_first_that_does_not() -> None:
    # Holm's own kind of example: 0.05 / 4, / 3, / 2, / 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.0125, 0.0166, 0.025, 0.05]) == [True, True, True, True]
    assert holm([0.013, 0.001 * 13, 0.013, 0.013]) == [False] * 4
    assert holm([0.049]) == [True]
    assert holm([]) == []
