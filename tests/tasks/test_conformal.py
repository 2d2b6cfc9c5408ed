"""Conformal p-values: against their definition row by row, and their guarantee by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sounding.tasks.conformal import fewest, p_values, realised_rates, threshold


def by_hand(score: float, calibration: list[float]) -> float:
    return (1 + sum(other >= score for other in calibration)) / (len(calibration) + 1)


def test_they_are_what_the_definition_says() -> None:
    draw = np.random.default_rng(0)
    scores, calibration = draw.integers(0, 30, 200) / 2.0, draw.integers(0, 30, 57) / 2.0  # with ties
    assert p_values(scores, calibration) == pytest.approx([by_hand(s, calibration.tolist()) for s in scores])


@pytest.mark.parametrize("rows", [5, 18, 19, 20, 99, 250])
@pytest.mark.parametrize("false_alarms", [0.01, 0.05, 0.1, 0.3])
def test_above_the_threshold_are_the_rows_with_small_p_values(rows: int, false_alarms: float) -> None:
    calibration = np.random.default_rng(rows).integers(0, 40, rows).astype(float)
    scores = np.linspace(-1, 41, 500)
    above = scores > threshold(calibration, false_alarms)
    assert np.array_equal(above, p_values(scores, calibration) <= false_alarms + 1e-12)
    assert above.any() == (rows >= fewest(false_alarms))


def test_a_small_calibration_calls_nothing_strange() -> None:
    assert threshold(np.zeros(18), 0.05) == math.inf
    assert threshold(np.zeros(0), 0.05) == math.inf
    assert p_values(np.array([1.0]), np.zeros(0)) == pytest.approx([1.0])
    assert realised_rates(18, 0.05) == (0.0, 0.0)


@pytest.mark.parametrize("false_alarms", [0.05, 0.2])
def test_the_rate_of_false_alarms_is_kept(false_alarms: float) -> None:
    """Over 4,000 calibrations of 39 heavy-tailed scores, with a fresh normal row each."""
    draw = np.random.default_rng(1)
    calibrations, fresh = draw.standard_t(2, (4000, 39)), draw.standard_t(2, 4000)
    alarms = [score > threshold(one, false_alarms) for one, score in zip(calibrations, fresh, strict=True)]
    error = 3 * math.sqrt(false_alarms * (1 - false_alarms) / 4000)
    assert abs(np.mean(alarms) - false_alarms) < error  # exact, for (39 + 1) * false_alarms is whole


def test_without_the_correction_it_would_not_be_kept() -> None:
    """The plain quantile of few scores gives too many alarms: what the correction is for."""
    draw = np.random.default_rng(2)
    calibrations, fresh = draw.normal(size=(4000, 19)), draw.normal(size=4000)
    assert np.mean(fresh > np.quantile(calibrations, 0.95, axis=1)) > 0.07
    assert np.mean([score > threshold(one, 0.05) for one, score in zip(calibrations, fresh, strict=True)]) < 0.06


def test_strange_rows_in_the_calibration_make_alarms_rarer() -> None:
    draw = np.random.default_rng(3)
    normal = draw.normal(size=200)
    mixed = np.concatenate([normal[:190], draw.normal(8, 1, 10)])
    fresh = draw.normal(size=5000)
    assert np.mean(fresh > threshold(mixed, 0.05)) < np.mean(fresh > threshold(normal, 0.05))


def test_one_calibration_is_off_by_as_much_as_is_said() -> None:
    draw = np.random.default_rng(4)
    low, high = realised_rates(99, 0.1)
    rates = [np.mean(draw.random(4000) > threshold(draw.random(99), 0.1)) for _ in range(400)]
    assert np.mean([low <= rate <= high for rate in rates]) == pytest.approx(0.95, abs=0.035)
