"""Simple models that say how strange rows are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from threadpoolctl import threadpool_limits

from sounding.kinds import Block
from sounding.randomness import draw_seed
from sounding.tasks import conformal
from sounding.trust.problem import Model, Problem

MOST_CELLS = 20_000_000
"""Training rows times columns, pixels or points; PCA learns from a random part of more rows than that."""
KEPT = 0.9
"""Of the variance, by the components that give a row back."""
LEAST_VARIANCE = 1e-6
"""Components with a smaller share of the largest variance are rounding errors, and no distance is told in them."""


def same_for_all(problem: Problem) -> tuple[np.ndarray, str]:
    """A score that looks at nothing."""
    return _values(problem, np.zeros(len(problem.target))), ""


def isolation_forest(problem: Problem) -> tuple[np.ndarray, str]:
    """How few random cuts it takes to be alone: Liu et al. 2008, in scikit-learn's usual settings."""
    inputs = flat_inputs(problem)
    seed = draw_seed(problem.seed, "baseline", "forest") % 2**32
    with threadpool_limits(1):
        forest = IsolationForest(random_state=seed).fit(inputs[problem.split.train])
        return _values(problem, -forest.score_samples(inputs)), ""


def pca_error(problem: Problem) -> tuple[np.ndarray, str]:
    """What the principal components with nine tenths of the variance cannot give back."""
    inputs, model, note = _components(problem)
    count = int(np.searchsorted(np.cumsum(model.explained_variance_ratio_), KEPT)) + 1
    centred = inputs - model.mean_
    basis = model.components_[:count]
    return _values(problem, np.square(centred - centred @ basis.T @ basis).mean(1)), note


def pca_distance(problem: Problem) -> tuple[np.ndarray, str]:
    """The distance from the mean in units of the deviation of each principal component: Shyu et al. 2003."""
    inputs, model, note = _components(problem)
    told = model.explained_variance_ > LEAST_VARIANCE * model.explained_variance_[0]
    scores = (inputs - model.mean_) @ model.components_[told].T
    return _values(problem, (np.square(scores) / model.explained_variance_[told]).mean(1)), note


def flat_inputs(problem: Problem) -> np.ndarray:
    """(N, features) float32: numbers, categories one-hot, pixels from 0 to 1, points of series; standardised none."""
    parts = [_flat(problem.encoded.blocks[block.name], block) for block in problem.schema.blocks()]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _flat(values: np.ndarray, block: Block) -> np.ndarray:
    if block.form == "categories":
        columns = [np.eye(count, dtype=np.float32)[values[:, at]] for at, count in enumerate(block.cardinalities)]
        return np.concatenate(columns, axis=1)
    rows = values.reshape(len(values), -1).astype(np.float32)
    return rows / 255 if block.form == "pictures" else rows


def _components(problem: Problem) -> tuple[np.ndarray, PCA, str]:
    inputs = flat_inputs(problem)
    rows = problem.training_rows(max(1000, MOST_CELLS // inputs.shape[1]))
    seed = draw_seed(problem.seed, "baseline", "components") % 2**32
    with threadpool_limits(1):
        model = PCA(random_state=seed, svd_solver="full").fit(inputs[rows])
    fewer = len(rows) < len(problem.split.train)
    return inputs, model, f"trained on {len(rows):,} rows, drawn at random" if fewer else ""


def _values(problem: Problem, scores: np.ndarray) -> np.ndarray:
    """Scores and conformal p-values, calibrated as those of the network."""
    scores = scores.astype(np.float64)
    return np.stack([scores, conformal.p_values(scores, scores[problem.split.validation])], axis=1)


OUTLIERS: Mapping[str, Model] = {
    "the same score for all": same_for_all,
    "an isolation forest": isolation_forest,
    "PCA, what it cannot give back": pca_error,
    "PCA, distance in all components": pca_distance,
}
"""By name, the guess first."""
