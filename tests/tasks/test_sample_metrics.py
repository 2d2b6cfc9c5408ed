"""Measures of samples against slow, obvious versions, closed forms, SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm
from sklearn.neighbors import NearestNeighbors

from sounding.tasks import sample_metrics as module
from sounding.tasks.sample_metrics import frechet_distance, modes, precision_and_recall, within_reach


def points(count: int, dimensions: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dimensions))


def test_modes_of_a_mixture() -> None:
    angles = np.arange(8) * np.pi / 4
    centres = np.stack([np.cos(angles), np.sin(angles)], 1)
    draw = np.random.default_rng(0)
    samples = centres[np.arange(4000) % 6] + 0.01 * draw.normal(size=(4000, 2))
    found = modes(samples, centres, 0.01)
    assert found.covered == 6
    assert found.high_quality == pytest.approx(1 - np.exp(-4.5), abs=0.01)  # of a normal point in the plane, within 3
    assert modes(samples + 5, centres, 0.01) == (0, 0.0)


@pytest.mark.parametrize("dimensions", [2, 20])
@pytest.mark.parametrize("chunk", [module.CHUNK, 100])
def test_reach_is_that_of_the_nearest_neighbours(dimensions: int, chunk: int, monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    ours, others = points(60, dimensions, 0), 1.3 * points(50, dimensions, 1)
    radii = NearestNeighbors(n_neighbors=4).fit(others).kneighbors(others)[0][:, 3]  # itself among them
    slow = [any(np.linalg.norm(o - p) <= r for p, r in zip(others, radii, strict=True)) for o in ours]
    assert within_reach(ours, others).tolist() == slow
    assert 0 < np.mean(slow) < 1
    assert precision_and_recall(others, ours) == (np.mean(slow), within_reach(others, ours).mean())


def test_precision_falls_with_strange_samples_and_recall_with_missing_modes() -> None:
    real = points(400, 3, 0) + np.repeat([[0.0, 0, 0], [9, 9, 9]], 200, axis=0)
    half = points(200, 3, 1)
    assert precision_and_recall(real, half)[0] > 0.85
    assert precision_and_recall(real, half)[1] == pytest.approx(0.48, abs=0.06)
    strange = np.concatenate([half, half + 50])
    assert precision_and_recall(real, strange)[0] == pytest.approx(precision_and_recall(real, half)[0] / 2)


def test_copies_have_precision_and_recall_of_one() -> None:
    real = points(30, 4, 0)
    assert precision_and_recall(real, real) == (1.0, 1.0)
    assert not within_reach(real, real[:3]).any()  # with fewer than k neighbours there is no reach


@pytest.mark.parametrize("dimensions", [1, 2, 12])
def test_frechet_distance_is_the_formula(dimensions: int) -> None:
    one = points(300, dimensions, 0)
    other = points(200, dimensions, 1) @ points(dimensions, dimensions, 2) + 1
    a, b = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (one, other))
    expected = np.square(one.mean(0) - other.mean(0)).sum() + np.trace(a + b - 2 * np.real(sqrtm(a @ b)))
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-8)
    assert frechet_distance(one, one) == pytest.approx(0.0, abs=1e-10)


def test_frechet_distance_of_flat_features() -> None:
    one = np.repeat(points(100, 1, 0), 3, axis=1)  # a covariance of rank one
    assert frechet_distance(one, one + np.array([1.0, 0, 0])) == pytest.approx(1.0, abs=1e-6)
