"""Simple answers for every pixel: the most frequent class, and models of the colours around a pixel.

Source: pixels classified by filters of several sizes: Arganda-Carreras et al. 2017, doi:10.1093/bioinformatics/btx180.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, gaussian_laplace
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sounding.kinds.mask import UNLABELLED
from sounding.randomness import draw_seed, generator
from sounding.trust.problem import Model, Problem

WIDTHS = (1.0, 2.0, 4.0, 8.0)
"""Of Gaussians, in pixels."""
MOST_PIXELS = 60_000
"""Of all training pictures, drawn at random."""
TREES, LEAF = 40, 20
"""Trees, and the least pixels in a leaf."""


def most_frequent(problem: Problem) -> tuple[np.ndarray, str]:
    """The class with most training pixels, everywhere."""
    counts = sum(
        (np.bincount(problem.target[row].ravel(), minlength=256) for row in problem.split.train), np.zeros(256)
    )
    return np.full(problem.target.shape, np.argmax(counts[:UNLABELLED]), dtype=np.uint8), ""


def linear(problem: Problem) -> tuple[np.ndarray, str]:
    """Logistic regression on colours, their means, edges and blobs around a pixel, and its place."""
    return _learned(problem, make_pipeline(StandardScaler(), LogisticRegression(max_iter=100)))


def forest(problem: Problem) -> tuple[np.ndarray, str]:
    """Randomised trees on the same."""
    seed = draw_seed(problem.seed, "baseline", "trees") % 2**32
    return _learned(problem, ExtraTreesClassifier(TREES, min_samples_leaf=LEAF, random_state=seed))


def features(picture: np.ndarray) -> np.ndarray:
    """(H * W, features) float32 of a picture (C, H, W) uint8."""
    _, height, width = picture.shape
    colours = picture.astype(np.float32) / 255
    grey = colours.mean(0)
    parts = [*colours]
    for size in WIDTHS:
        parts += [gaussian_filter(one, size) for one in colours]
        parts += [gaussian_gradient_magnitude(grey, size), gaussian_laplace(grey, size)]
    parts += [*np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]]
    return np.stack([part.ravel() for part in parts], 1).astype(np.float32)


def _learned(problem: Problem, model: Any) -> tuple[np.ndarray, str]:
    pictures = next(array for name, array in problem.encoded.blocks.items() if name.startswith("image:"))
    train, target = problem.split.train, problem.target
    draws, each = generator(problem.seed, "baseline", "pixels"), -(-MOST_PIXELS // len(train))
    inputs, answers = list[np.ndarray](), list[np.ndarray]()
    for row in train:
        labels = target[row].ravel()
        known = np.flatnonzero(labels != UNLABELLED)
        chosen = draws.choice(known, min(each, len(known)), replace=False)
        inputs.append(features(pictures[row])[chosen])
        answers.append(labels[chosen])
    values = np.zeros(target.shape, dtype=np.uint8)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        seen = np.concatenate(answers)
        if len(np.unique(seen)) < 2:
            return most_frequent(problem)
        model.fit(np.concatenate(inputs), seen)
        for row in (*problem.split.validation, *problem.split.test):
            values[row] = model.predict(features(pictures[row])).reshape(target.shape[1:])
    return values, f"trained on {len(seen):,} pixels, drawn at random"


MASKS: Mapping[str, Model] = {
    "always the most frequent class": most_frequent,
    "a linear model of the colours around each pixel": linear,
    "trees on the colours around each pixel": forest,
}
