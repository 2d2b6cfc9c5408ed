"""What the report draws of forecasts: some of them, and how far off each step ahead is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sounding.data.ordered import times_after
from sounding.recipe import ForecastingRecipe
from sounding.tasks.drawing import evenly
from sounding.tasks.forecast_windows import Windows
from sounding.tasks.task import Predictions

SHOWN, SHOWN_OF_EACH, SHOWN_TARGETS = 4, 2, 3
"""Windows that are drawn of a single target, and of each of several; and of how many of these."""
BEFORE = 2
"""Horizons that are shown before a forecast begins."""


def drawn(
    windows: Windows,
    names: Sequence[str],
    deviation: np.ndarray,
    rules: ForecastingRecipe,
    predictions: Predictions,
    truth: np.ndarray,
) -> dict[str, Any]:
    """Plain values for the report.

    shown     a few forecasts, evenly over the test rows: series, target, the times of the first step, past, future,
              mean, low and high
    by_step   for each step ahead the mean absolute error on standardised data, and the coverage of the interval
    """
    if not len(truth):
        return {}
    ordered, several = windows.ordered, len(rules.quantiles) > 1
    chosen = evenly(len(truth), SHOWN if len(names) == 1 else SHOWN_OF_EACH)
    past = windows.past(truth[chosen], max(min(BEFORE * windows.horizon, windows.history), 1))
    times = times_after(ordered, truth[chosen], 1)[:, 0]
    shown = []
    for at, row in enumerate(chosen):
        for target in range(min(len(names), SHOWN_TARGETS)):
            values = predictions.values[row, target]
            shown.append(
                {
                    "series": ordered.names[ordered.series[ordered.places[truth[row]]]],
                    "target": names[target],
                    "from": str(times[at]).replace("T", " ") if ordered.unit else f"{times[at]:g}",
                    "past": _plain(past[at, target]),
                    "future": _plain(windows.future(truth[[row]])[0, target]),
                    "mean": values[:, 0],
                    "low": values[:, 1] if several else [],
                    "high": values[:, -1] if several else [],
                }
            )
    future = windows.future(truth)
    there = np.isfinite(future)
    count = np.maximum(there.sum((0, 1)), 1)
    away = np.where(there, np.abs(predictions.values[..., 0] - future), 0.0) / deviation[:, None]
    steps: dict[str, Any] = {"error": away.sum((0, 1)) / count}
    if several:
        inside = (future >= predictions.values[..., 1]) & (future <= predictions.values[..., -1])
        steps["coverage"] = inside.sum((0, 1)) / count
    return {
        "shown": shown,
        "by_step": steps,
        "nominal": rules.quantiles[-1] - rules.quantiles[0] if several else None,
        "targets": len(names),
        "windows": len(truth),
    }


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(one) else float(one) for one in values]
