"""Test rows that look different from training rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined
from sounding.finding import Finding

MOST_ROWS = 50_000
"""Of each part; more would not make a difference of this size clearer."""
NOTABLE = 0.1
"""Largest difference of two cumulative shares (numbers), or half the sum of differences of shares (categories)."""
MOST_NAMED = 10


def check(examined: Examined) -> Iterator[Finding]:
    """One finding for all inputs and the target whose distribution differs notably, beyond what chance can do.

    Numbers: the Kolmogorov-Smirnov distance. Categories: the total variation distance. Chance is ruled out at one in
    a thousand for all columns together (Massart's bound for the former, a chi-square bound for the latter).
    """
    train, test = (_some(rows) for rows in (examined.split.train, examined.split.test))
    if min(len(train), len(test)) < 20:
        return
    columns = {feature.name: (feature.values, feature.is_category) for feature in examined.features}
    if examined.target is not None:
        columns[examined.schema.targets[0].name] = (examined.target, examined.is_classification)
    rows = len(train) * len(test) / (len(train) + len(test))
    chance = 0.001 / max(len(columns), 1)
    found = {}
    for name, (values, is_category) in columns.items():
        one, other = values[train], values[test]
        if is_category:
            distance, codes = total_variation(one, other)
            by_chance = np.sqrt(codes / (2 * np.pi * rows)) + np.sqrt(np.log(1 / chance) / (2 * rows))
        else:
            distance = kolmogorov_smirnov(one, other)
            by_chance = np.sqrt(np.log(2 / chance) / (2 * rows))
        if distance > max(NOTABLE, by_chance):
            found[name] = float(distance)
    if not found:
        return
    found = dict(sorted(found.items(), key=lambda pair: -pair[1]))
    named = ", ".join(f'"{name}" ({distance:.2f})' for name, distance in list(found.items())[:MOST_NAMED])
    named += ", ..." if len(found) > MOST_NAMED else ""
    many = "s are" if len(found) > 1 else " is"
    yield Finding(
        rule="drift",
        severity="info",
        title=f"{len(found)} column{many} distributed differently in the test rows: {named}",
        evidence={"distances": found},
        meaning="The test result is about other rows than those that were learned from; so it will be in use, if the "
        "world goes on changing.",
    )


def kolmogorov_smirnov(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference between the shares of two samples that lie at or below any value.

    >>> kolmogorov_smirnov(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
    0.5
    """
    one, other = np.sort(one), np.sort(other)
    at = np.concatenate([one, other])
    shares = np.searchsorted(one, at, side="right") / len(one) - np.searchsorted(other, at, side="right") / len(other)
    return float(np.abs(shares).max())


def total_variation(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """Half the sum of the differences between the shares of codes in two samples, and how many codes occur.

    >>> total_variation(np.array([0, 1]), np.array([1, 1]))
    (0.5, 2)
    """
    size = int(max(one.max(), other.max())) + 1
    counts = [np.bincount(codes, minlength=size) for codes in (one, other)]
    shares = [count / count.sum() for count in counts]
    return float(np.abs(shares[0] - shares[1]).sum() / 2), int(((counts[0] + counts[1]) > 0).sum())


def _some(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= MOST_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, MOST_ROWS).astype(np.int64)]
