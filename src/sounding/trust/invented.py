"""Simple ways to make examples up, with which a generator is compared."""

from __future__ import annotations

import numpy as np

from sounding.randomness import generator
from sounding.tasks.samples import cardinalities_of
from sounding.trust.problem import Problem

MOST_FEATURES = 2000
"""A covariance of more is left out."""


def columns_apart(problem: Problem) -> tuple[np.ndarray, str] | None:
    """For each row one whose columns come from training rows of their own: right one by one, but nothing fits."""
    if any(block.form == "pictures" for block in problem.schema.blocks()):
        return None
    draw, features = generator(problem.seed, "baseline", "columns"), problem.target[:, 1:].astype(np.float64)
    sizes = cardinalities_of(problem.schema)
    widths = [1] * (features.shape[1] - sum(sizes)) + sizes
    parts = np.split(features, np.cumsum(widths)[:-1], axis=1)
    return np.concatenate([part[draw.choice(problem.split.train, len(features))] for part in parts], axis=1), ""


def normal(problem: Problem) -> tuple[np.ndarray, str] | None:
    """For each row a draw from the normal distribution with the mean and the covariance of the training rows."""
    features = problem.target[:, 1:].astype(np.float64)
    if features.shape[1] > MOST_FEATURES:
        return None
    known = features[problem.split.train]
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(known, rowvar=False)))
    draws = generator(problem.seed, "baseline", "normal").normal(size=features.shape)
    return known.mean(0) + draws * np.sqrt(values.clip(0.0)) @ vectors.T, ""
