"""Columns that hold the same value in nearly every row (in every row: the schema has left them out)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined
from sounding.finding import Finding

NEARLY_ALL = 0.999
MOST_NAMED = 10


def check(examined: Examined) -> Iterator[Finding]:
    """One finding for all numbers and categories of which one value fills 99.9 % of the training rows."""
    rows = examined.split.train
    found = {}
    for feature in examined.features:
        values = feature.values[rows]
        share = float((values == np.median(values)).mean())  # a value in more than half of the rows is the median
        if share >= NEARLY_ALL and share < 1:
            found[feature.name] = share
    if not found:
        return
    named = ", ".join(f'"{name}"' for name in list(found)[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
    many = "s hold" if len(found) > 1 else " holds"
    yield Finding(
        rule="nearly-constant-columns",
        severity="info",
        title=f"{len(found)} column{many} one value in nearly every training row: {named}",
        evidence={"columns": found},
        meaning="They can matter for few rows only, and what is learned from so few rows is uncertain.",
    )
