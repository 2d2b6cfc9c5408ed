"""Rows with the same inputs: within the training rows, and in two parts of the split."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined
from sounding.finding import Finding, Remedy

NOTABLE = 0.01
"""A smaller share of rows in two parts changes no metric that anyone would act on."""
EXAMPLES = 5


def check(examined: Examined) -> Iterator[Finding]:
    """Copies within the training rows; rows of validation and test that training has seen."""
    groups, parts = examined.groups, examined.split.parts
    train = parts["train"]
    copies = len(train) - len(np.unique(groups[train]))
    if copies:
        yield Finding(
            rule="duplicate-rows",
            severity="info",
            title=f"{copies} of {len(train)} training rows repeat the inputs of another one",
            evidence={"rows": copies, "of": len(train)},
            meaning="They count more than once in training.",
        )
    trained = np.zeros(groups.max() + 1 if len(groups) else 0, dtype=np.int64)
    trained[groups[train][::-1]] = train[::-1] + 1  # one more than the first training row of each group
    for name in ("validation", "test"):
        rows = parts[name]
        seen = rows[trained[groups[rows]] > 0]
        if not len(seen):
            continue
        share = len(seen) / len(rows)
        pairs = [
            {name: examined.place(row), "train": examined.place(trained[groups[row]] - 1)} for row in seen[:EXAMPLES]
        ]
        alarming = share >= NOTABLE and examined.is_mostly_distinct and len(seen) > 1
        yield Finding(
            rule="rows-in-two-parts",
            severity="warning" if alarming else "info",
            title=f"{len(seen)} of {len(rows)} {name} rows with the same inputs as a training row ({share:.1%})",
            evidence={"part": name, "rows": len(seen), "of": len(rows), "share": share, "examples": pairs},
            meaning="What is measured on rows that were learned by heart says nothing about new rows."
            if alarming
            else "Few columns with few values agree by chance; so few rows hardly change what is measured.",
            remedy=Remedy(
                "remove the copies from the source, or name in data.group the column whose equal values belong together"
            )
            if alarming
            else None,
        )
