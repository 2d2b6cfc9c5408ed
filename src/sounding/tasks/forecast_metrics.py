"""How far forecasts are off, step by step; each metric is a mean over windows, targets and steps, or the root of one.

Source: Hyndman and Koehler 2006, "Another look at measures of forecast accuracy" (MASE, sMAPE).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

ROOTS = {"squares": "rmse"}
"""Of which means a metric is the root, and its name."""
BLOCKS = 8
"""Blocks that all times of the test rows are cut into at least, to resample them."""

Cells = Mapping[str, np.ndarray]
"""By name (N, horizon): for each window and step the mean over known targets; NaN where it is undefined."""


def seasonal_scale(values: np.ndarray, season: int) -> np.ndarray:
    """The mean absolute difference of points a season apart, by column: the scale of MASE; NaN where it is 0.

    values: (n, K) training rows of a series, in order; NaN is passed over.

    >>> seasonal_scale(np.array([[1.0], [5.0], [2.0], [7.0]]), 2)
    array([1.5])
    """
    if len(values) <= season:
        return np.full(values.shape[1], np.nan)
    away = np.abs(values[season:] - values[:-season])
    there = np.isfinite(away)
    sums, counts = np.where(there, away, 0.0).sum(0), there.sum(0)
    return np.where(sums > 0, sums / np.maximum(counts, 1), np.nan)


def by_cell(
    values: np.ndarray, truth: np.ndarray, scale: np.ndarray, deviation: np.ndarray, quantiles: Collection[float]
) -> dict[str, np.ndarray]:
    """What the metrics are means of; see `Cells`.

    values:    (N, targets, horizon, 1 + quantiles): the mean, then each quantile.
    truth:     (N, targets, horizon); NaN where it is not known.
    scale:     (N, targets) of MASE; targets without one are left out there.
    deviation: (targets,), by which targets are standardised.
    """
    there = np.isfinite(truth)
    truth = np.where(there, truth, values[..., 0])
    away = values[..., 0] - truth
    size, both = np.abs(away), np.abs(values[..., 0]) + np.abs(truth)
    known = np.isfinite(scale)[..., None] & there
    scaled = size / np.where(np.isfinite(scale), scale, 1.0)[..., None]
    relative = np.divide(size, both, out=np.zeros_like(size), where=both > 0)
    found = {
        "mase": _over_targets(scaled, known),
        "mae": _over_targets(size, there),
        "squares": _over_targets(np.square(away), there),
        "smape": 200 * _over_targets(relative, there),
        "standardised_mse": _over_targets(np.square(away / deviation[:, None]), there),
        "standardised_mae": _over_targets(size / deviation[:, None], there),
    }
    if len(quantiles) > 1:
        found["coverage"] = _over_targets((truth >= values[..., 1]) & (truth <= values[..., -1]), there)
    return found


def _over_targets(cells: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(N, horizon): the mean of (N, targets, horizon) over the targets that are there; NaN without one."""
    count = there.sum(1)
    return np.asarray(np.where(count > 0, (cells * there).sum(1) / np.maximum(count, 1), np.nan))


def measured(cells: Cells, weight: np.ndarray | None = None, names: Collection[str] = ()) -> dict[str, Any]:
    """The named metrics, or all, for no, one (N,) or many (S, N) weightings of the windows."""
    weights = np.ones((1, len(next(iter(cells.values()))))) if weight is None else np.atleast_2d(weight)
    found = _means({name: np.nansum(of, 1) for name, of in cells.items()}, _counts(cells, 1), weights, names)
    several = weight is not None and np.ndim(weight) == 2
    return {name: value if several else float(value[0]) for name, value in found.items()}


def resampled(
    cells: Cells, when: np.ndarray, horizon: int, samples: int, draw: np.random.Generator, names: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """The metrics (samples,) on resamples of the times that were forecast, in blocks that follow each other.

    What several windows or series say of one time errs alike, and so do times that follow each other: single windows
    would make intervals too narrow.

    when:   (N, horizon) which time each cell is about; equal times of several series are drawn together.
    Source: the moving block bootstrap, Künsch 1989.
    """
    times, at = np.unique(when, return_inverse=True)
    at, count = at.reshape(-1), len(times)
    sums = {name: np.bincount(at, np.nan_to_num(of).reshape(-1), count) for name, of in cells.items()}
    counts = {name: np.bincount(at, np.isfinite(of).reshape(-1), count) for name, of in cells.items()}
    length = max(min(horizon, count // BLOCKS), 1)
    weights = np.zeros((samples, count))
    for one in weights:
        first = draw.integers(count, size=-(-count // length))
        drawn = (first[:, None] + np.arange(length)) % count  # in a circle, so that all times are as likely
        one[:] = np.bincount(drawn.reshape(-1)[:count], minlength=count)
    return _means(sums, counts, weights, names)


WIDEST = 4.0
"""Intervals become at most so many times wider, or narrower."""


def middle_of(quantiles: np.ndarray) -> np.ndarray:
    """(..., 1) the middle one of (..., Q) rising quantiles, or the mean of the middle two."""
    place = (quantiles.shape[-1] - 1) / 2
    middle: np.ndarray = (quantiles[..., int(np.floor(place))] + quantiles[..., int(np.ceil(place))]) / 2
    return middle[..., None]


def widening(quantiles: np.ndarray, truth: np.ndarray, share: float) -> float:
    """By which factor intervals around their middle have to grow to hold this share of what came.

    quantiles: (..., Q), rising; truth: (...), NaN where it is not known.

    >>> low_and_high = np.tile([-1.0, 1.0], (100, 1))
    >>> round(widening(low_and_high, np.linspace(-3, 3, 100), 0.5), 1)
    1.5
    """
    middle = middle_of(quantiles)[..., 0]
    low, high = middle - quantiles[..., 0], quantiles[..., -1] - middle
    side = np.where(truth < middle, low, high)
    with np.errstate(divide="ignore", invalid="ignore"):
        needed = np.abs(truth - middle) / side
    needed = needed[np.isfinite(needed)]
    if not len(needed):
        return 1.0
    return float(np.clip(np.quantile(needed, share), 1 / WIDEST, WIDEST))


def _counts(cells: Cells, axis: int) -> dict[str, np.ndarray]:
    return {name: np.isfinite(of).sum(axis).astype(np.float64) for name, of in cells.items()}


def _means(
    sums: Mapping[str, np.ndarray], counts: Mapping[str, np.ndarray], weights: np.ndarray, names: Collection[str]
) -> dict[str, np.ndarray]:
    """(S,) each."""
    found = {}
    for name in sums:
        called = ROOTS.get(name, name)
        if names and called not in names:
            continue
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (weights @ sums[name]) / (weights @ counts[name])
        found[called] = np.sqrt(mean) if name in ROOTS else mean
    return found
