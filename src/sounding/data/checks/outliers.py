"""Numbers to predict that are far from all others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined
from sounding.finding import Finding, Remedy
from sounding.kinds import Number

FAR = 20
"""Interquartile ranges from the median; a normal distribution has 1 value in 10^160 beyond."""
EXAMPLES = 5


def check(examined: Examined) -> Iterator[Finding]:
    """Training rows whose target lies more than 20 interquartile ranges from the median."""
    target = examined.schema.targets[0].fitted if examined.is_regression else None
    if not isinstance(target, Number) or examined.target is None:
        return
    rows = examined.split.train
    values = target.decode_target(examined.target)[rows]
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = high - low
    if not spread > 0:
        return
    distance = np.abs(values - median) / spread
    far = np.flatnonzero(distance > FAR)
    if not len(far):
        return
    worst = far[np.argsort(-distance[far], kind="stable")][:EXAMPLES]
    all_positive = bool(values.min() > 0)
    yield Finding(
        rule="target-outliers",
        severity="info",
        title=f"{len(far)} of {len(rows)} training rows have a target far from all others: from {values.min():.4g} to "
        f"{values.max():.4g}, half of them between {low:.4g} and {high:.4g}",
        evidence={
            "rows": len(far),
            "of": len(rows),
            "quartiles": [float(low), float(median), float(high)],
            "examples": [{**examined.place(rows[one]), "value": float(values[one])} for one in worst],
        },
        meaning="Squared errors are ruled by these rows: the network serves them at the cost of all others.",
        remedy=Remedy(
            "check these rows" + ("; the logarithm of the target may be the better question" if all_positive else "")
        ),
    )
