"""Simple models for series: nearest neighbours and random convolutions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sounding.tasks import Predictions
from sounding.trust.problem import Problem
from sounding.trust.series import SERIES, minirocket, warped


def by_definition(a: np.ndarray, b: np.ndarray, window: int) -> float:
    """Sakoe and Chiba 1978, one cell at a time."""
    n, m = a.shape[1], b.shape[1]
    band = max(window, abs(n - m))
    cost = np.full((n + 1, m + 1), np.inf)
    cost[0, 0] = 0
    for i in range(n):
        for j in range(m):
            if abs(i - j) <= band:
                step = min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
                cost[i + 1, j + 1] = np.square(a[:, i] - b[:, j]).sum() + step
    return float(cost[n, m])


@pytest.mark.parametrize("window", [0, 1, 4])
def test_warping_is_what_the_definition_says(window: int) -> None:
    draw, longest = np.random.default_rng(0), 8
    lengths = np.array([8, 5, 8, 3])
    values = draw.normal(size=(4, 2, longest)) * (np.arange(longest) < lengths[:, None])[:, None]
    found = warped(values, lengths, values[1:], lengths[1:], window)
    for row in range(4):
        for other in range(3):
            one, another = values[row, :, : lengths[row]], values[other + 1, :, : lengths[other + 1]]
            assert found[row, other] == pytest.approx(by_definition(one, another, window))


def test_random_convolutions_are_what_the_definition_says() -> None:
    """Every feature is the share of points above a threshold: the first kernel, one point at a time."""
    draw = np.random.default_rng(1)
    values, lengths = draw.normal(size=(6, 1, 20)), np.array([20, 20, 9, 14, 20, 20])
    values *= (np.arange(20) < lengths[:, None])[:, None]
    features = minirocket(values, lengths, np.arange(6), 0, 84)
    assert features.shape == (6, 84)
    kernel = np.array([2, 2, 2, -1, -1, -1, -1, -1, -1])
    shares = []
    for row, length in zip(values[:, 0], lengths, strict=True):
        padded = np.pad(row[:length], 4)
        shares.append([float(padded[at : at + 9] @ kernel) for at in range(length)])
    thresholds = np.unique(np.concatenate(shares))
    possible = {tuple(np.round([np.mean(np.array(one) > t) for one in shares], 5)) for t in [-99, *thresholds]}
    assert tuple(np.round(features[:, 0].astype(float), 5)) in possible


@pytest.fixture
def bumps(make_case: Any) -> Problem:
    """Two classes: a bump that is round or square, anywhere in a series of 20 to 30 points."""
    draw, cells, labels = np.random.default_rng(2), [], []
    for row in range(90):
        series = draw.normal(size=draw.integers(20, 31)) * 0.1
        at = draw.integers(0, 10)
        series[at : at + 9] += np.sin(np.linspace(0, np.pi, 9)) if row % 2 else 0.64
        cells.append(series.tolist())
        labels.append("round" if row % 2 else "square")
    case = make_case({"series": pa.array(cells), "y": labels})
    return Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0)


@pytest.mark.parametrize("name", SERIES)
def test_they_tell_shapes_apart_wherever_they_are(bumps: Problem, name: str) -> None:
    answer = SERIES[name](bumps)
    assert answer is not None
    values, _ = answer
    np.testing.assert_allclose(values.sum(1), 1.0)
    rows = np.concatenate([bumps.split.validation, bumps.split.test])
    metrics = bumps.task.metrics(Predictions(values[rows]), bumps.target[rows])
    assert metrics["accuracy"] > 0.8
    assert metrics["log_loss"] < 0.7


@pytest.mark.parametrize("name", SERIES)
def test_they_predict_numbers_too(make_case: Any, name: str) -> None:
    draw = np.random.default_rng(3)
    slopes = draw.normal(size=80)
    cells = [(slope * np.arange(16) + draw.normal(size=16) * 0.1).tolist() for slope in slopes]
    case = make_case({"series": pa.array(cells), "y": slopes})
    answer = SERIES[name](Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0))
    assert answer is not None
    rows = case.split.test
    assert case.task.metrics(Predictions(answer[0][rows]), case.truth[rows])["r2"] > 0.6


@pytest.mark.parametrize("name", SERIES)
def test_tables_are_not_for_them(make_case: Any, columns: Any, name: str) -> None:
    case = make_case(columns("two"))
    assert SERIES[name](Problem(case.task, case.table, case.schema, case.split, case.encoded, case.truth, 0)) is None
