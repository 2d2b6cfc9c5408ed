"""From scored boxes to counts: which score is enough, how many things there are, and how far that may be off.

Source: Vovk et al. 2005 (split conformal prediction): intervals from how far the counts of pictures that played no part
in training were off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from sounding.tasks.detection_metrics import RECALLS, matched, precisions, ranked, shares

UNCALIBRATED = 0.3
"""The score that is enough where no validation picture says better."""
LEAST = 0.5
"""Overlap from which on a box finds another."""


def thresholds(found: np.ndarray, truth: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) for each the score at which precision and recall, as F1, are best; see `detection_metrics`."""
    best = np.full(classes, UNCALIBRATED)
    for code in range(classes):
        of_class = ranked(found, truth, code, (LEAST,))
        total = of_class.there.sum()
        if not total or not of_class.right.any():
            continue
        right = of_class.right[0].cumsum()
        f1 = 2 * right / (np.arange(1, len(right) + 1) + total)
        at = int(f1.argmax())
        after = of_class.score[at + 1] if at + 1 < len(right) else 0.0
        best[code] = (of_class.score[at] + after) / 2
    return best


def margins(found: np.ndarray, there: np.ndarray, coverage: float) -> np.ndarray:
    """(classes,) how far counts may be off, in units of sqrt(count + 1); infinite where there are too few pictures.

    found, there: (N, classes) counts of pictures that played no part in training.
    """
    off = np.sort(np.abs(there - found) / np.sqrt(found + 1.0), axis=0)
    place = math.ceil(coverage * (len(off) + 1) - 1e-9)
    return off[place - 1] if place <= len(off) else np.full(off.shape[1], np.inf)


def interval(found: np.ndarray, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, classes) each: the lowest and the highest count within the margins; NaN where these are not known."""
    reach = np.where(np.isfinite(margin), margin, np.nan) * np.sqrt(found + 1.0)
    return np.ceil(np.maximum(found - reach, 0) - 1e-9), np.floor(found + reach + 1e-9)


def mistakes(found: np.ndarray, truth: np.ndarray, classes: int, limits: np.ndarray) -> np.ndarray:
    """(N,) float: boxes that are missed, and boxes that are wrong, at these thresholds."""
    wrong = np.zeros(len(truth))
    for row, (ours, theirs) in enumerate(zip(found, truth, strict=True)):
        for code in range(classes):
            mine = ours[(ours[:, 0] == code) & (ours[:, 1] >= limits[code])]
            real = theirs[theirs[:, 0] == code, 1:]
            mine = mine[np.argsort(-mine[:, 1], kind="stable")]
            right = (matched(shares(mine[:, 2:], real.astype(np.float64)), LEAST) >= 0).sum()
            wrong[row] += len(mine) + len(real) - 2 * right
    return wrong


def curves(found: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each class the best precision at 101 recalls, for overlaps of 0.5 and 0.75, and average precisions."""
    drawn = []
    for code, label in enumerate(classes):
        points = precisions(ranked(found, truth, code))[0]
        if not np.isfinite(points).all():
            continue
        drawn.append(
            {
                "label": label,
                "recall": RECALLS.round(2),
                "at_50": points[0].round(4),
                "at_75": points[5].round(4),
                "ap50": points[0].mean(),
                "ap75": points[5].mean(),
                "ap": points.mean(),
                "there": int((truth[..., 0] == code).sum()),
            }
        )
    return drawn
