"""How well maps of classes agree: counts for each picture, so that a resample of pictures is a sum.

Sources: intersection over union and its mean: Everingham et al. 2010, doi:10.1007/s11263-009-0275-4, section 4.1.2;
boundary F1: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?", section 2.3.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt

from sounding.kinds.mask import UNLABELLED

TOLERANCE = 0.0075
"""Of the diagonal of a picture: a boundary that is no farther away is found (Csurka et al. 2013)."""
MOST_NAMED = 40
"""With more classes their own values are not given."""
BOUNDARY = "boundary_f1"
OVERLAPS = ("iou", "dice", "pixel_accuracy", "mean_accuracy")


class Agreement(NamedTuple):
    """Of each picture what metrics are made of."""

    confusion: np.ndarray
    """(N, classes, classes) int64: pixels by true and by predicted class."""
    boundary: np.ndarray
    """(N, classes) F1 of boundaries; NaN where neither holds the class, or nothing was measured."""


def agreement(values: np.ndarray, truth: np.ndarray, classes: int, *, boundaries: bool = True) -> Agreement:
    """Counts of each of N pictures.

    values, truth:  (N, H, W) uint8 codes; pixels whose truth is 255 do not count.
    """
    confusion = np.zeros((len(truth), classes, classes), dtype=np.int64)
    boundary = np.full((len(truth), classes), np.nan)
    for row, (said, true) in enumerate(zip(values, truth, strict=True)):
        known = true != UNLABELLED
        cell = true[known].astype(np.int64) * classes + said[known]
        confusion[row] = np.bincount(cell, minlength=classes**2).reshape(classes, classes)
        if boundaries:
            boundary[row] = boundary_f1(np.where(known, said, UNLABELLED), true, classes)
    return Agreement(confusion, boundary)


def boundary_f1(said: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) how well the boundaries of each class were found in one picture; NaN where neither map holds it.

    The F1 of precision (boundary pixels that are said to be some, and lie near a true one) and recall (true ones that
    lie near one that is said). Near is `TOLERANCE` of the diagonal, rounded up. The border of a picture is no boundary.

    said, true:  (H, W) uint8 codes.
    """
    near = np.ceil(TOLERANCE * np.hypot(*true.shape))
    scores = np.full(classes, np.nan)
    for code in np.union1d(said, true):
        if code == UNLABELLED:
            continue
        ours, theirs = (_boundary(one == code) for one in (said, true))
        found, wanted = int(ours.sum()), int(theirs.sum())
        if not found or not wanted:
            scores[code] = 1.0 if found == wanted and np.array_equal(said == code, true == code) else 0.0
            continue
        precision = (distance_transform_edt(~theirs)[ours] <= near).mean()
        recall = (distance_transform_edt(~ours)[theirs] <= near).mean()
        scores[code] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return scores


def _boundary(inside: np.ndarray) -> np.ndarray:
    """The pixels of a region that touch what is outside it, by a side."""
    return np.asarray(inside & ~binary_erosion(inside, border_value=1))


def map_metrics(
    found: Agreement,
    classes: Sequence[str],
    weight: np.ndarray | None = None,
    names: Collection[str] = (),
) -> dict[str, Any]:
    """The named metrics, or all: numbers for no or one (N,) weighting of pictures, (S,) for (S, N) of them.

    iou, dice:       the mean over classes, of all pixels together; a class that neither map holds does not count.
    pixel_accuracy:  the share of pixels that are right; mean_accuracy: the mean of that share over true classes.
    boundary_f1:     the mean over classes of the mean over pictures.
    iou_CLASS:       of each class.
    """
    weights = np.ones((1, len(found.confusion))) if weight is None else np.atleast_2d(np.asarray(weight, float))
    count = len(classes)
    total = (weights @ found.confusion.reshape(len(found.confusion), -1)).reshape(-1, count, count)
    right, true, said = total.diagonal(axis1=1, axis2=2), total.sum(2), total.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        overlap = right / (true + said - right)
        values = {
            "iou": mean_where_defined(overlap),
            "dice": mean_where_defined(2 * right / (true + said)),
            "pixel_accuracy": right.sum(1) / total.sum((1, 2)),
            "mean_accuracy": mean_where_defined(right / true),
        }
        if BOUNDARY in names or not names:
            there = np.isfinite(found.boundary)
            of_class = (weights @ np.where(there, found.boundary, 0.0)) / (weights @ there)
            values[BOUNDARY] = mean_where_defined(of_class)
    if count <= MOST_NAMED:
        values |= {f"iou_{name}": overlap[:, at] for at, name in enumerate(classes)}
    wanted = {name: value for name, value in values.items() if name in names or not names}
    many = weight is not None and np.ndim(weight) == 2
    return {name: value if many else float(value[0]) for name, value in wanted.items()}


def mean_where_defined(values: np.ndarray) -> np.ndarray:
    """(S,) the mean over the second axis of what is defined there; NaN where nothing is."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(1) / there.sum(1))
