"""Average precision as COCO measures it: how well ranked boxes find what is there.

Sources: Lin et al. 2014, arXiv:1405.0312; the rules are those of `COCOeval` for the whole range of areas, without
crowds: 101 points of recall, overlaps from 0.5 to 0.95, at most 100 boxes of a class in a picture.

truth:   (N, M, 5): code, left, top, right, bottom; a code of -1 is no box.
found:   (N, K, 6): code, score, left, top, right, bottom; a code of -1 is no box.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

OVERLAPS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
"""Boxes of a class in a picture that are looked at, those with the highest scores."""
TOGETHER = 4_000_000
"""Numbers that are held at once while resamples are measured."""


@dataclass(frozen=True)
class Ranked:
    """The boxes of a class in all pictures, the highest score first."""

    score: Array
    """(D,)"""
    picture: Array
    """(D,) in which picture each is."""
    right: Array
    """(T, D) bool: whether it finds a box that no higher one has found, at each overlap."""
    there: Array
    """(N,) how many boxes are to be found in each picture."""


def shares(first: Array, second: Array) -> Array:
    """(n, m): of each pair of boxes (n, 4) and (m, 4) the overlap, as a share of both together."""
    low, high = np.maximum(first[:, None, :2], second[:, :2]), np.minimum(first[:, None, 2:], second[:, 2:])
    both = np.clip(high - low, 0, None).prod(2)
    one, other = (np.clip(some[:, 2:] - some[:, :2], 0, None).prod(1) for some in (first, second))
    either = one[:, None] + other - both
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(either > 0, both / either, 0.0))


def matched(overlap: Array, least: float) -> Array:
    """(n,) int64: which box of the truth each finds, -1 for none; each goes to the best one that is left, in order.

    overlap: (n, m), of boxes in the order of their scores. Of equal overlaps the last counts.
    """
    n, m = overlap.shape
    finds, left = np.full(n, -1), np.ones(m, dtype=bool)
    for at in range(n) if m else ():
        values = np.where(left, overlap[at], -1.0)
        best = m - 1 - int(values[::-1].argmax())
        if values[best] >= min(least, 1 - 1e-10):
            finds[at], left[best] = best, False
    return finds


def ranked(found: Array, truth: Array, code: int, overlaps: Sequence[float] = OVERLAPS) -> Ranked:
    """The boxes of a class, and which of them are right."""
    scores, pictures, rights = list[Array](), list[Array](), list[Array]()
    there = (truth[..., 0] == code).sum(1)
    for row, (ours, theirs) in enumerate(zip(found, truth, strict=True)):
        ours, theirs = ours[ours[:, 0] == code], theirs[theirs[:, 0] == code, 1:]
        ours = ours[np.argsort(-ours[:, 1], kind="stable")[:MOST]]
        overlap = shares(ours[:, 2:].astype(np.float64), theirs.astype(np.float64))
        rights.append(np.stack([matched(overlap, least) >= 0 for least in overlaps]))
        scores.append(ours[:, 1])
        pictures.append(np.full(len(ours), row))
    score = np.concatenate([*scores, np.zeros(0)])
    order = np.argsort(-score, kind="stable")
    picture = np.concatenate([*pictures, np.zeros(0, dtype=np.int64)])[order]
    right = np.concatenate([*rights, np.zeros((len(overlaps), 0), dtype=bool)], 1)[:, order]
    return Ranked(score[order], picture, right, there)


def precisions(of_class: Ranked, weight: Array | None = None) -> Array:
    """(S, T, 101): for each weighting and overlap the best precision at each recall or beyond; NaN without a box.

    weight: (S, N) weights of the pictures; all 1 when left out.
    """
    pictures = len(of_class.there)
    weights = np.ones((1, pictures)) if weight is None else weight
    count = len(of_class.score)
    total = weights @ of_class.there  # (S,)
    points = np.full((len(weights), len(of_class.right), len(RECALLS)), np.nan)
    points[total > 0] = 0.0
    step = max(1, TOGETHER // max(count, 1))
    for at in range(0, len(weights) if count else 0, step):
        some = slice(at, at + step)
        each = weights[some][:, of_class.picture]  # (s, D)
        all_so_far = each.cumsum(1)
        for level, right in enumerate(of_class.right):
            right_so_far = (each * right).cumsum(1)
            precision = right_so_far / (all_so_far + np.spacing(1))
            precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
            for row in np.flatnonzero(total[some] > 0):
                recall = right_so_far[row] / total[at + row]
                place = np.searchsorted(recall, RECALLS, side="left")
                reached = place < count
                points[at + row, level, reached] = precision[row, place[reached]]
    return points


def average_precisions(
    found: Array, truth: Array, classes: int, weight: Array | None = None, overlaps: Sequence[float] = OVERLAPS
) -> Array:
    """(S, T, classes) in [0, 1]; NaN for a class of which there is no box."""
    each = [precisions(ranked(found, truth, code, overlaps), weight).mean(2) for code in range(classes)]
    return np.stack(each, 2)


def counts(found: Array, classes: int, thresholds: Array) -> Array:
    """(N, classes) int64: boxes of each class with a score of at least its threshold."""
    return np.stack(
        [((found[..., 0] == code) & (found[..., 1] >= thresholds[code])).sum(1) for code in range(classes)], 1
    )
