"""The same inputs with different labels: some of them must be wrong, or something that matters is not in the data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined
from sounding.finding import Finding, Remedy

NOTABLE = 0.01
EXAMPLES = 5


def check(examined: Examined) -> Iterator[Finding]:
    """Groups of rows with equal inputs and unequal classes, and the best accuracy that they leave possible."""
    if not examined.is_classification or examined.target is None:
        return
    groups, truth = examined.groups, examined.target
    pairs, counts = np.unique(np.stack([groups, truth], axis=1), axis=0, return_counts=True)
    starts = np.flatnonzero(np.diff(pairs[:, 0], prepend=-1))
    classes = np.diff(np.append(starts, len(pairs)))  # how many classes each group has
    most = np.maximum.reduceat(counts, starts)
    ceiling = float(most.sum() / len(truth))
    torn = pairs[starts[classes > 1], 0]
    if not len(torn):
        return
    rows = np.flatnonzero(np.isin(groups, torn))
    first = rows[np.argsort(groups[rows], kind="stable")][: EXAMPLES * 2]
    alarming = len(rows) >= NOTABLE * len(truth) and examined.is_mostly_distinct and len(torn) > 1
    yield Finding(
        rule="conflicting-labels",
        severity="warning" if alarming else "info",
        title=f"{len(rows)} rows share their inputs with a row of another class: "
        f"nobody can be right on more than {ceiling:.2%} of all rows",
        evidence={
            "rows": len(rows),
            "groups": len(torn),
            "best_possible_accuracy": ceiling,
            "examples": [{**examined.place(row), "label": examined.class_names[truth[row]]} for row in first],
        },
        meaning="Either labels are wrong, or what tells the classes apart is not in the data.",
        remedy=Remedy("look at the examples, and correct labels or add the column that tells them apart")
        if alarming
        else None,
    )
