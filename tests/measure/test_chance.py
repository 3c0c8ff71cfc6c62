from afina.measure.chance import holm


def test_the_likeliest_claims_hold_until_the_first_that_does_not() -> None:
    # Holm's own kind of example: 0.05 / 4, / 3, / 2, / 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.0125, 0.0166, 0.025, 0.05]) == [True, True, True, True]
    assert holm([0.013, 0.001 * 13, 0.013, 0.013]) == [False] * 4
    assert holm([0.049]) == [True]
    assert holm([]) == []
