"""How good generated examples are, and whether they are as various as real ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

NEIGHBOURS = 3
"""k of the precision and recall: the paper's choice."""
CHUNK = 20_000_000
"""Distances that are computed at a time."""


class Modes(NamedTuple):
    """What became of a mixture whose components are known."""

    covered: int
    """Components with at least one sample of high quality."""
    high_quality: float
    """Fraction of the samples that are."""


def modes(samples: np.ndarray, centres: np.ndarray, deviation: float) -> Modes:
    """Modes that are covered, and the share of samples of high quality: within three deviations of the nearest centre.

    samples:   (N, d).
    centres:   (M, d) of the components.
    deviation: of each of them, in every direction.
    Source:    Srivastava et al. 2017, arXiv:1705.07761, section 5.1; Lin et al. 2018, arXiv:1712.04086, section 4.1.

    >>> modes(np.array([[0.0, 0.2], [5.0, 5.0], [0.0, 0.5]]), np.array([[0.0, 0.0], [5.0, 5.0]]), 0.1)
    Modes(covered=2, high_quality=0.6666666666666666)
    """
    distances = _distances(samples, centres)
    near = distances.min(1) <= 3 * deviation
    return Modes(len(np.unique(distances.argmin(1)[near])), float(near.mean()))


def within_reach(points: np.ndarray, others: np.ndarray, neighbours: int = NEIGHBOURS) -> np.ndarray:
    """(N,) bool: which points are at least as close to any other as that one's own k-th neighbour.

    points: (N, d).
    others: (M, d): together with their neighbours they make a manifold.
    Source: Kynkäänniemi et al. 2019, arXiv:1904.06991, equation 1.
    """
    if len(others) <= neighbours:
        return np.zeros(len(points), dtype=bool)
    step = max(CHUNK // len(others), 1)
    radii = np.concatenate(
        [
            np.partition(_distances(others[at : at + step], others), neighbours, axis=1)[:, neighbours]
            for at in range(0, len(others), step)
        ]
    )
    return np.concatenate(
        [
            (_distances(points[at : at + step], others) <= radii).any(1)
            for at in range(0, max(len(points), 1), step)
        ]
    )  # fmt: skip


def precision_and_recall(real: np.ndarray, generated: np.ndarray, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """The share of generated examples that could be real, and of real ones that could have been generated.

    real, generated: (N, d) and (M, d) features.
    Source:          Kynkäänniemi et al. 2019, arXiv:1904.06991, equation 2. Both depend on how many examples there are:
                     compare like numbers.
    """
    precision = within_reach(generated, real, neighbours).mean()
    return float(precision), float(within_reach(real, generated, neighbours).mean())


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """The squared distance of two normal distributions with the means and covariances of the features.

    |m - m'|² + tr(C + C' - 2 (C C')^½), in the squared units of the features.

    real, generated: (N, d) and (M, d) features.
    Source:          Heusel et al. 2017, arXiv:1706.08500, equation 6; Dowson and Landau 1982.

    >>> draw = np.random.default_rng(0)
    >>> rows = draw.normal(size=(1000, 2))
    >>> round(frechet_distance(rows, rows + [3.0, 4.0]), 6)
    25.0
    """
    real, generated = np.asarray(real, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    ours, theirs = (np.atleast_2d(np.cov(rows, rowvar=False)) for rows in (real, generated))
    values, vectors = np.linalg.eigh(ours)
    root = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    # C C' has the eigenvalues of the symmetric root(C) C' root(C), whose square roots are real and exact enough
    overlap = np.sqrt(np.linalg.eigvalsh(root @ theirs @ root).clip(0.0)).sum()
    apart = np.square(real.mean(0) - generated.mean(0)).sum()
    return float(max(apart + np.trace(ours) + np.trace(theirs) - 2 * overlap, 0.0))


def _distances(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """(N, M) float64."""
    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if ours.shape[1] <= 3:  # exact, and as quick: the way below loses digits where points nearly agree
        return np.asarray(np.sqrt(sum(np.square(a[:, None] - b) for a, b in zip(ours.T, theirs.T, strict=True))))
    squares = np.square(ours).sum(1)[:, None] + np.square(theirs).sum(1) - 2 * ours @ theirs.T
    return np.asarray(np.sqrt(squares.clip(0.0)))
