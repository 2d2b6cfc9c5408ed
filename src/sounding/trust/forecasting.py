"""Simple forecasts: the last value, the last season, and exponential smoothing.

Sources: Hyndman and Athanasopoulos 2021, "Forecasting: Principles and Practice", third edition, sections 5.2 and 8.3
(additive seasons, damped trend); Holt 1957; Winters 1960.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import cast

import numpy as np

from sounding.tasks import Forecasting
from sounding.tasks.drawing import evenly
from sounding.tasks.forecast_windows import Windows
from sounding.trust.problem import Model, Problem

MOST_RESIDUALS = 500
"""Training rows whose errors say how wide intervals are, evenly over all of them."""
MOST_SMOOTHED = 60_000
"""Exponential smoothing passes over points one by one, and is left out where there are more."""
LEVELS, TRENDS, SEASONS, DAMPING = (
    (0.05, 0.1, 0.2, 0.4, 0.6, 0.8),
    (0.0, 0.01, 0.05, 0.1),
    (0.01, 0.05, 0.1, 0.3),
    (0.9, 1.0),
)
"""Smoothing parameters that are tried; the squared errors one step ahead on the training rows choose."""

SEASONS_BACK = 4
"""Seasons that are looked back for one without a gap."""

Says = Callable[[np.ndarray], np.ndarray]
"""Forecasts (n, targets, horizon) for n rows."""


class WhenAsked:
    """Forecasts of all rows, of which only those that are asked for are computed."""

    def __init__(self, says: Says) -> None:
        self.says = says

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """(n, targets, horizon, 1 + quantiles)."""
        return self.says(rows)


def with_intervals(problem: Problem, says: Says) -> np.ndarray:
    """Forecasts with the quantiles of their errors on training rows, by target and step, in units of each series."""
    task = cast("Forecasting", problem.task)
    rows = problem.split.train[evenly(len(problem.split.train), MOST_RESIDUALS)]
    unit = np.nan_to_num(task.scale(rows), nan=1.0)[..., None]
    errors = (task.windows.future(rows) - says(rows)) / unit
    levels = np.array(task.rules.quantiles)
    quantiles = np.nanquantile(errors, levels, axis=0) if len(levels) else np.zeros((0, *errors.shape[1:]))

    def complete(rows: np.ndarray) -> np.ndarray:
        means = says(rows)
        scale = np.nan_to_num(task.scale(rows), nan=1.0)[..., None]
        parts = [means, *(means + scale * quantile for quantile in quantiles)]
        return np.stack(parts, -1)

    return cast("np.ndarray", WhenAsked(complete))


def naive(problem: Problem) -> tuple[np.ndarray, str]:
    """The last value, again and again."""
    windows = cast("Forecasting", problem.task).windows
    return with_intervals(problem, lambda rows: np.repeat(_last(windows, rows), windows.horizon, axis=2)), ""


def _last(windows: Windows, rows: np.ndarray) -> np.ndarray:
    """(n, targets, 1): the last known values."""
    return np.asarray(windows.carried[windows.ordered.places[rows]][..., None])


def seasonal_naive(problem: Problem) -> tuple[np.ndarray, str] | None:
    """What was a season before; where that is missing, one more season before, and in the end the last value."""
    task = cast("Forecasting", problem.task)
    season, windows = task.rules.season, task.windows
    if season < 2:
        return None
    steps = np.arange(windows.horizon) % season

    def says(rows: np.ndarray) -> np.ndarray:
        found = windows.past(rows, season)
        for back in range(2, SEASONS_BACK + 1):
            if not np.isnan(found).any():
                break
            found = np.where(np.isnan(found), windows.past(rows, back * season)[..., :season], found)
        return np.where(np.isnan(found), _last(windows, rows), found)[..., steps]

    return with_intervals(problem, says), f"a season of {season}"


def exponential_smoothing(problem: Problem) -> tuple[np.ndarray, str] | None:
    """Level, trend and season of each series (Holt-Winters), carried along to the row in question."""
    task = cast("Forecasting", problem.task)
    windows, season = task.windows, task.rules.season
    if len(windows.values) > MOST_SMOOTHED:
        return None
    ordered, values = windows.ordered, windows.values
    last = np.zeros(len(ordered.names), dtype=np.int64)
    places = ordered.places[problem.split.train]
    np.maximum.at(last, ordered.series[places], places + windows.horizon + 1)
    states, logarithmic = [], np.zeros((len(ordered.names), values.shape[1]), dtype=bool)
    for at, (begin, end) in enumerate(zip(ordered.starts[:-1], windows.ends, strict=True)):
        state, logarithmic[at] = smoothed(values[begin:end], max(int(last[at] - begin), 0), season)
        states.append(state)

    def says(rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), values.shape[1], windows.horizon))
        series, places = ordered.series[ordered.places[rows]], ordered.places[rows]
        for at in np.unique(series):
            mine = series == at
            ahead = states[at].ahead(places[mine] - ordered.starts[at], windows.horizon)
            found[mine] = np.where(logarithmic[at][:, None], np.exp(np.minimum(ahead, 700.0)), ahead)
        return found

    return with_intervals(problem, says), ""


@dataclass(frozen=True)
class States:
    """Level, trend and season after each point of a series, for each target."""

    level: np.ndarray
    """(n, K)."""
    trend: np.ndarray
    """(n, K)."""
    season: np.ndarray
    """(m + n, K): those of the beginning, then what each point made of its own."""
    damping: np.ndarray
    """(K,)."""

    def ahead(self, points: np.ndarray, horizon: int) -> np.ndarray:
        """(len(points), K, horizon): what each of these points says of the steps after it."""
        steps = np.arange(1, horizon + 1)
        length = len(self.season) - len(self.level)
        sums = np.cumsum(self.damping[:, None] ** steps, axis=1)  # (K, horizon)
        found = self.level[points][..., None] + self.trend[points][..., None] * sums
        if length:
            before = points[:, None] + (steps - 1) % length + 1  # the same point of the season, last seen
            found = found + self.season[before].transpose(0, 2, 1)
        return np.asarray(found)


def smoothed(values: np.ndarray, trained: int, season: int) -> tuple[States, np.ndarray]:
    """Holt-Winters with additive seasons and a damped trend, of the values or of their logarithms.

    values:  (n, K).
    trained: the first so many points choose the parameters.
    season:  points; 1 for none.
    Returns: the states, and (K,) whether they are of logarithms.
    """
    targets = values.shape[1]
    season = season if season > 1 and trained >= 2 * season else 1
    positive = ((values > 0) | np.isnan(values)).all(0)
    grid = np.array(list(product(LEVELS, TRENDS, SEASONS if season > 1 else (0.0,), DAMPING))).T  # (4, G)
    best = np.full(targets, np.inf)
    chosen, logarithmic = np.repeat(grid[:, :1], targets, 1), np.zeros(targets, dtype=bool)
    for tried in (False, True):
        which = positive if tried else np.ones(targets, dtype=bool)
        if trained < 3 or not which.any():
            continue
        seen = np.log(values[:trained, which]) if tried else values[:trained, which]
        said = run(seen, season, grid[:, :, None])  # (n, G, K)
        errors = values[:trained, which][:, None] - (np.exp(np.minimum(said, 700.0)) if tried else said)
        squares = _mean(np.square(errors[season if season > 1 else 2 :]))
        least = squares.argmin(0)
        better = squares[least, np.arange(len(least))] < best[which]
        at = np.flatnonzero(which)[better]
        best[at] = squares[least, np.arange(len(least))][better]
        chosen[:, at], logarithmic[at] = grid[:, least[better]], tried
    return states_of(
        np.where(logarithmic, np.log(np.where(positive, values, 1.0)), values), season, chosen
    ), logarithmic


def run(values: np.ndarray, season: int, parameters: np.ndarray) -> np.ndarray:
    """(n, ..., K) what was said of each point from those before it, for parameters (4, ..., 1 or K)."""
    return _pass(values, season, parameters)[0]


def _mean(values: np.ndarray, without: np.ndarray | float = np.inf) -> np.ndarray:
    """The mean of the first axis over what is there; and where nothing is, something else."""
    there = np.isfinite(values)
    if there.all() and len(values):
        return np.asarray(values.mean(0))
    count = there.sum(0)
    return np.where(count > 0, np.where(there, values, 0.0).sum(0) / np.maximum(count, 1), without)


def states_of(values: np.ndarray, season: int, parameters: np.ndarray) -> States:
    """The states after each point; parameters: (4, K)."""
    _, level, trend, seasons = _pass(values, season, parameters)
    return States(level, trend, seasons, parameters[3])


def _pass(
    values: np.ndarray, season: int, parameters: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Forecasts one step ahead, and the states: from the first season and what changed to the second."""
    alpha, beta, gamma, phi = parameters
    shape = np.broadcast_shapes(alpha.shape, values[:1].shape[1:])
    count, seasonal = len(values), season > 1
    first = _mean(values[: season if seasonal else 1], _mean(values))
    second = values[season : 2 * season] if seasonal else values[1:2]
    level = np.broadcast_to(first, shape)
    trend = np.broadcast_to((_mean(second, first) - first) / season if len(second) else 0.0 * first, shape)
    said, levels, trends = np.empty((count, *shape)), np.empty((count, *shape)), np.empty((count, *shape))
    seasons = np.zeros((season + count if seasonal else count, *shape))
    if seasonal:
        seasons[:season] = np.nan_to_num(values[:season] - first).reshape(
            season, *(1,) * (len(shape) - 1), values.shape[1]
        )
    gaps = np.isnan(values).any(1)
    for at, value in enumerate(values):
        swing = seasons[at] if seasonal else 0.0
        before = level + phi * trend
        said[at] = before + swing
        if gaps[at]:  # what is missing teaches nothing: as if it had been as it was said
            value = np.where(np.isnan(value), said[at], value)
        after = alpha * (value - swing) + (1 - alpha) * before
        trend = beta * (after - level) + (1 - beta) * phi * trend
        level = after
        if seasonal:
            seasons[at + season] = gamma * (value - after) + (1 - gamma) * swing
        levels[at], trends[at] = level, trend
    return said, levels, trends, seasons


FORECASTS: Mapping[str, Model] = {
    "the last value": naive,
    "the last season": seasonal_naive,
    "exponential smoothing": exponential_smoothing,
}
"""By name, the guess first."""
