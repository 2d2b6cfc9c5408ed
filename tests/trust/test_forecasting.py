"""Naive forecasts and exponential smoothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sounding.tasks.prepare import prepare
from sounding.trust.forecasting import exponential_smoothing, naive, run, seasonal_naive, smoothed, states_of
from sounding.trust.problem import Problem

SETTINGS = {
    "task": "forecasting",
    "target": ["y"],
    "data.time": "t",
    "data.group": "g",
    "forecasting.horizon": 5,
    "forecasting.history": 8,
    "forecasting.season": 3,
}


@pytest.fixture
def problem() -> Problem:
    """Two series, the second a hundred times as large; rows in disorder."""
    draw = np.random.default_rng(0)
    values = [draw.normal(size=60) + 5, 100 * draw.normal(size=50)]
    table = pa.table(
        {
            "t": np.concatenate([np.arange(60), np.arange(10, 60)]),
            "g": ["a"] * 60 + ["b"] * 50,
            "y": np.concatenate(values),
        }
    )
    case = prepare(table.take(pa.array(draw.permutation(110))), SETTINGS)
    return Problem(case.task, case.table, case.schema, case.split, case.encoded, case.target, 0)


def test_the_last_value_and_the_last_season_by_hand(problem: Problem) -> None:
    data = problem.table.data.to_pydict()
    value = {(g, t): y for g, t, y in zip(data["g"], data["t"], data["y"], strict=True)}
    rows = problem.split.test
    last, (season, note) = naive(problem)[0][rows], seasonal_naive(problem) or (np.empty(0), "")
    assert note == "a season of 3"
    said = season[rows]
    for at, row in enumerate(rows):
        series, now = data["g"][row], data["t"][row]
        assert last[at, 0, :, 0].tolist() == [value[series, now]] * 5
        before = [value[series, now - back] for back in (2, 1, 0)]
        np.testing.assert_allclose(said[at, 0, :, 0], [*before, *before[:2]])


def test_intervals_are_as_wide_as_each_series_needs(problem: Problem) -> None:
    rows = problem.split.test
    names = np.array(problem.table.data["g"].to_pylist())[rows]
    for model in (naive, seasonal_naive, exponential_smoothing):
        answer = model(problem)
        assert answer is not None
        values = answer[0][rows]
        assert values.shape == (len(rows), 1, 5, 4)
        assert (np.diff(values[..., 1:], axis=-1) >= 0).all()
        width = (values[..., -1] - values[..., 1]).mean((1, 2))
        assert width[names == "b"].mean() > 30 * width[names == "a"].mean()


def test_one_step_by_hand() -> None:
    """Holt-Winters with seasons of two points, by the equations of Hyndman and Athanasopoulos 2021, section 8.3."""
    values = np.array([[10.0], [20.0], [14.0], [22.0], [19.0]])
    parameters = np.array([[0.5], [0.2], [0.1], [0.9]])
    # beginning: level (10 + 20) / 2 = 15, trend ((14 + 22) / 2 - 15) / 2 = 1.5, seasons -5 and 5
    states = states_of(values, 2, parameters)
    level = 0.5 * (10 + 5) + 0.5 * (15 + 0.9 * 1.5)
    assert states.level[0, 0] == pytest.approx(level)  # 15.675
    trend = 0.2 * (level - 15) + 0.8 * 0.9 * 1.5
    assert states.trend[0, 0] == pytest.approx(trend)  # 1.215
    assert states.season[2, 0] == pytest.approx(0.1 * (10 - level) + 0.9 * -5)
    assert run(values, 2, parameters)[:2, 0].tolist() == pytest.approx([15 + 1.35 - 5, level + 0.9 * trend + 5])
    ahead = states.ahead(np.array([4]), 3)[0, 0]
    last, slope = states.level[4, 0], states.trend[4, 0]
    sums = [0.9, 0.9 + 0.81, 0.9 + 0.81 + 0.729]
    swings = [states.season[5, 0], states.season[6, 0], states.season[5, 0]]
    assert ahead.tolist() == pytest.approx([last + s * slope + w for s, w in zip(sums, swings, strict=True)])


def test_many_parameters_at_once_are_what_each_is_alone() -> None:
    draw = np.random.default_rng(0)
    values, grid = draw.normal(size=(30, 2)), draw.uniform(0.1, 0.9, size=(4, 5))
    together = run(values, 4, grid[:, :, None])
    for at in range(5):
        np.testing.assert_allclose(together[:, at], run(values, 4, np.repeat(grid[:, at : at + 1], 2, 1)))


def test_a_line_and_a_season_go_on() -> None:
    time = np.arange(60)
    values = (3.0 * time + np.array([0.0, 5.0, -2.0])[time % 3])[:, None]
    states, logarithmic = smoothed(values[:54], 54, 3)
    assert not logarithmic[0]
    np.testing.assert_allclose(states.ahead(np.array([53]), 6)[0, 0], values[54:, 0], atol=2.0)


def test_growth_by_a_factor_is_smoothed_in_logarithms() -> None:
    time = np.arange(72)
    values = np.exp(0.05 * time + 0.3 * np.sin(time * 2 * np.pi / 12))[:, None]
    states, logarithmic = smoothed(values[:60], 60, 12)
    assert logarithmic[0]
    np.testing.assert_allclose(np.exp(states.ahead(np.array([59]), 12)[0, 0]), values[60:, 0], rtol=0.1)


def test_a_short_series_has_no_season() -> None:
    states, _ = smoothed(np.array([[1.0], [2.0], [3.0], [4.0]]), 4, 12)
    assert states.ahead(np.array([3]), 2).shape == (1, 1, 2)
    assert smoothed(np.array([[1.0]]), 1, 12)[0].ahead(np.array([0]), 3)[0, 0].tolist() == [1.0] * 3
