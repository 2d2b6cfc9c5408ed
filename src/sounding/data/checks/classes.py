"""Classes with nearly all of the rows, and classes with nearly none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined
from sounding.finding import Finding, Remedy

DOMINANT = 0.95
"""With a larger share, who always says that class looks good."""
FEW = 10
"""Training rows from which a class can hardly be learned."""
MOST_NAMED = 10


def check(examined: Examined) -> Iterator[Finding]:
    """One class that dominates; classes of few training rows; classes that no test row measures."""
    if not examined.is_classification or examined.target is None:
        return
    names = examined.class_names
    parts = {
        part: np.bincount(examined.target[rows], minlength=len(names)) for part, rows in examined.split.parts.items()
    }
    train = parts["train"]
    share = float(train.max() / train.sum())
    if share > DOMINANT:
        yield Finding(
            rule="class-imbalance",
            severity="warning",
            title=f'{share:.2%} of the training rows are "{names[train.argmax()]}": accuracy is no measure here',
            evidence={"class": names[train.argmax()], "share": share, "rarest": int(train.min())},
            meaning="Always saying this class is right that often, and useless.",
            remedy=Remedy("weight the classes", {"training.class_weights": True}),
        )
    rare = np.flatnonzero(train < FEW)
    if len(rare):
        listed = ", ".join(f'"{names[one]}" ({train[one]})' for one in rare[np.argsort(train[rare])][:MOST_NAMED])
        yield Finding(
            rule="near-empty-classes",
            severity="warning",
            title=f"{len(rare)} of {len(names)} classes have fewer than {FEW} training rows: {listed}"
            + (", ..." if len(rare) > MOST_NAMED else ""),
            evidence={"classes": {names[one]: int(train[one]) for one in rare[:200]}, "few": FEW},
            meaning="What is said about them rests on very few rows.",
            remedy=Remedy("collect more rows of them, or read them as one class with data.labels"),
        )
    unmeasured = np.flatnonzero((parts["test"] == 0) & (train > 0))
    if len(unmeasured) and len(examined.split.test):
        listed = ", ".join(f'"{names[one]}"' for one in unmeasured[:MOST_NAMED])
        yield Finding(
            rule="unmeasured-classes",
            severity="info",
            title=f"{len(unmeasured)} of {len(names)} classes have no test row: {listed}"
            + (", ..." if len(unmeasured) > MOST_NAMED else ""),
            evidence={"classes": [names[one] for one in unmeasured[:200]]},
            meaning="The test metrics say nothing about them.",
        )
