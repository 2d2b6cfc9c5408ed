"""A column that gives the target away: perfect here, and most likely unknown when it matters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sounding.data.checks.examined import Examined, Feature
from sounding.finding import Finding, Remedy

ALARMING = 0.99
"""Balanced accuracy, or share of the variance of ranks, that a single column reaches."""
MOST_ROWS = 100_000
MOST_BINS = 256
ROWS_PER_BIN = 4
FEWEST = 20
"""With fewer rows to measure on, perfection proves nothing."""
DECIDED, EXCEPTIONS = 0.9, 0.01
"""Share of a class that has values which no other class has; and how many rows of others may have them all the same, as
a share of those that would by chance."""
MANY = 100
"""Rows with such values, half of them to measure on: strange for a quantity that the world only correlates with."""


def check(examined: Examined) -> Iterator[Finding]:
    """Every number and category alone against the target: learned on one half of the rows, measured on the other.

    The model of one column is the most frequent class, or the mean rank of the target, in each category or bin. A
    category, or a flag, that gives one class away and says little of the others is told as well: "was arrested again"
    says nothing of when, and all of those who were not.
    """
    truth = examined.target
    if truth is None or len(truth) < 2 * FEWEST:
        return
    rows = np.arange(len(truth)) if len(truth) <= MOST_ROWS else np.linspace(0, len(truth) - 1, MOST_ROWS).astype(int)
    # Rows may be sorted, so halves are taken by a hash of their place.
    half = (np.arange(len(rows)) * 2654435761 % 2**32) < 2**31
    truth = truth[rows]
    if examined.is_regression:
        truth = _ranks(truth)
    for feature in examined.features:
        values = feature.values[rows]
        codes = _codes(feature, values, half)
        score = _score(codes, truth, half, numeric=examined.is_regression)
        if score >= ALARMING:
            yield _finding(examined, feature.name, score)
        elif examined.is_classification and (feature.is_category or len(np.unique(values)) == 2):
            answer, share, count = _decided(codes, truth, half)
            if share >= DECIDED and count >= MANY:
                yield _one_sided(examined, feature.name, answer, share, count)


def _one_sided(examined: Examined, name: str, answer: int, share: float, count: int) -> Finding:
    target, label = examined.schema.targets[0].name, examined.class_names[answer]
    return Finding(
        rule="target-leak",
        severity="warning",
        title=f'"{name}" gives "{target}" away where it is "{label}": {share:.1%} of these rows have values that '
        "rows of other classes do not",
        evidence={"column": name, "score": share, "metric": "share of a class", "class": label, "rows": count},
        meaning=_MEANING,
        remedy=_remedy(name),
    )


def _finding(examined: Examined, name: str, score: float) -> Finding:
    target = examined.schema.targets[0].name
    what = "of the order of the target" if examined.is_regression else "balanced accuracy"
    return Finding(
        rule="target-leak",
        severity="warning",
        title=f'"{name}" alone gives "{target}" away: {score:.1%} {what}',
        evidence={
            "column": name,
            "score": score,
            "metric": "share of the variance of ranks" if examined.is_regression else "balanced_accuracy",
        },
        meaning=_MEANING,
        remedy=_remedy(name),
    )


_MEANING = (
    "Is it known at the time of the prediction, or was it written down afterwards? If afterwards, every result here is "
    "too good to be true."
)


def _remedy(name: str) -> Remedy:
    return Remedy(f'leave "{name}" out and compare', {"data.ignore": [name]})


def _codes(feature: Feature, values: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Categories as they are, numbers in bins with as many rows each."""
    if feature.is_category:
        return values.astype(np.int64)
    distinct = np.unique(values)
    if len(distinct) <= MOST_BINS:
        return np.searchsorted(distinct, values)
    bins = int(np.clip(half.sum() // ROWS_PER_BIN, 2, MOST_BINS))
    edges = np.unique(np.quantile(values[half], np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, values, side="right")


def _score(codes: np.ndarray, truth: np.ndarray, half: np.ndarray, *, numeric: bool) -> float:
    """How much of the other half a table from codes to answers gets right."""
    size = int(codes.max()) + 1
    if numeric:
        counts = np.bincount(codes[half], minlength=size)
        sums = np.bincount(codes[half], truth[half], minlength=size)
        answers = np.where(counts > 0, sums / np.maximum(counts, 1), truth[half].mean())
        rest = truth[~half]
        variance = np.square(rest - rest.mean()).sum()
        return float(1 - np.square(rest - answers[codes[~half]]).sum() / variance) if variance > 0 else 0.0
    classes = int(truth.max()) + 1
    pairs, counts = np.unique(codes[half] * classes + truth[half], return_counts=True)
    answers = np.full(size, -1)
    order = np.argsort(counts, kind="stable")  # the most frequent class of a code is written last
    answers[pairs[order] // classes] = pairs[order] % classes
    right = answers[codes[~half]] == truth[~half]
    actual = np.bincount(truth[~half], minlength=classes)
    found = np.bincount(truth[~half], right, minlength=classes)
    there = actual > 0
    return float((found[there] / actual[there]).mean()) if there.sum() > 1 else 0.0


def _decided(codes: np.ndarray, truth: np.ndarray, half: np.ndarray) -> tuple[int, float, int]:
    """The class of which most rows have codes that no other class has; its share of them, and how many they are.

    Which codes these are is learned on one half of the rows, and both figures are of the other.
    """
    size, classes = int(codes.max()) + 1, int(truth.max()) + 1
    counts = np.bincount(codes[half] * classes + truth[half], minlength=size * classes).reshape(size, classes)
    total, answers = counts.sum(1), counts.argmax(1)
    others = 1 - counts.sum(0) / max(half.sum(), 1)  # of each class, the share of rows that are of another
    by_chance = total * others[answers]
    pure = (by_chance >= FEWEST) & (total - counts.max(1) <= EXCEPTIONS * by_chance)
    decides, given, rest = pure[codes[~half]], answers[codes[~half]], truth[~half]
    best = (0, 0.0, 0)
    for answer in np.unique(answers[pure]).tolist():
        chosen = decides & (given == answer)
        right = int((chosen & (rest == answer)).sum())
        if chosen.sum() - right <= EXCEPTIONS * chosen.sum() * others[answer]:
            best = max(best, (answer, right / max(int((rest == answer).sum()), 1), right), key=lambda found: found[1])
    return best


def _ranks(values: np.ndarray) -> np.ndarray:
    """Mean ranks, as a share of all."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray(((ends - (counts - 1) / 2) / len(values))[place])
