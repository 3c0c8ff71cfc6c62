import numpy as np
import pytest

from afina.measure.power_law import EXPONENTS, Measurements, fit, gain_of, resampled

SIZES = np.array([36.0, 75.0, 150.0, 300.0])


def measured(
    random: np.random.Generator, losses: np.ndarray, rows: int = 80, seeds: int = 3, noise: float = 0.02
) -> Measurements:
    """Trainings whose mean losses are ``losses``, with scatter of examples and of seeds."""
    hard = np.exp(0.5 * random.normal(size=rows) - 0.125)
    scatter = noise * random.normal(size=(len(losses), seeds, 1)) + 0.1 * random.normal(size=(len(losses), seeds, rows))
    tokens = random.integers(5, 60, rows).astype(float)
    return Measurements(SIZES, tokens * (losses[:, None, None] * hard + scatter), tokens)


@pytest.mark.parametrize("place", [10, 30, 50])
def test_a_law_without_noise_is_found_again(place: int) -> None:
    law = fit(SIZES, 4 * SIZES ** -EXPONENTS[place] + 0.6)
    assert (float(law.a), float(law.b), float(law.c)) == pytest.approx((4, EXPONENTS[place], 0.6))
    assert law.at([75.0, 400.0]) == pytest.approx(4 * np.array([75.0, 400.0]) ** -EXPONENTS[place] + 0.6)


def test_many_laws_are_fitted_as_each_would_be_alone() -> None:
    losses = np.random.default_rng(1).uniform(0.5, 2.0, size=(20, 4))
    together = fit(SIZES, losses)
    alone = [fit(SIZES, one) for one in losses]
    assert together.a == pytest.approx([float(law.a) for law in alone])
    assert together.c == pytest.approx([float(law.c) for law in alone])


def test_what_no_number_of_examples_takes_away_is_never_below_zero() -> None:
    law = fit(SIZES, [1.0, 0.5, 0.2, 0.01])
    assert float(law.c) == 0
    assert float(law.a) > 0


def test_harm_is_a_gain_below_zero() -> None:
    worse = measured(np.random.default_rng(2), np.array([1.0, 1.1, 1.2, 1.3]), noise=0.001)
    assert gain_of(worse, 100, resampled(worse, 300, 1)).high < 0


def test_the_same_seed_gives_the_same_resamples_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    some = measured(np.random.default_rng(3), np.array([1.0, 0.9, 0.8, 0.7]))
    assert (resampled(some, 50, 4) == resampled(some, 50, 4)).all()
    whole = resampled(some, 2000, 4).std(axis=0)
    monkeypatch.setattr("afina.measure.power_law._BLOCK", 1000)
    assert resampled(some, 2000, 4).std(axis=0) == pytest.approx(whole, rel=0.1)


def test_one_seed_scatters_by_its_examples_alone() -> None:
    one = measured(np.random.default_rng(5), np.array([1.0, 0.9, 0.8, 0.7]), seeds=1)
    drawn = resampled(one, 200, 1)
    assert drawn.shape == (200, 4)
    assert drawn.std(axis=0).min() > 0


def test_intervals_of_the_gain_hold_the_truth() -> None:
    random = np.random.default_rng(6)
    true = 4 * SIZES**-0.5 + 0.6
    gain = 4 * 300**-0.5 - 4 * 400**-0.5
    held = []
    for run in range(200):
        one = measured(random, true)
        found = gain_of(one, 100, resampled(one, 200, run))
        held.append(found.low <= gain <= found.high)
    assert np.mean(held) > 0.9
