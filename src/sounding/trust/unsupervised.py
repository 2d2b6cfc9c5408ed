"""Simple models for tasks that have nothing to predict."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import one_hot

from sounding.networks import reconstruction_errors
from sounding.randomness import draw_seed
from sounding.tasks import Compression
from sounding.trust import ngrams
from sounding.trust.forecasting import FORECASTS
from sounding.trust.invented import columns_apart, normal
from sounding.trust.outliers import OUTLIERS
from sounding.trust.paintings import PAINTINGS
from sounding.trust.problem import Model, Problem
from sounding.trust.recommenders import RECOMMENDERS

MOST_CELLS = 60_000_000
"""Training rows times features; principal components are found on a random part of more rows than that."""
MOST_READ_ROWS = 5000
"""Training rows on which categories are learned to be read from components."""
ITERATIONS = 100
"""Of the logistic regression that reads them."""
MOST_READ_CODES = 30
"""Of a column whose categories are read from components; of others their frequencies are told."""


def the_mean(problem: Problem) -> tuple[np.ndarray, str]:
    """Always the mean of the training rows, and how frequent their categories are."""
    task = cast("Compression", problem.task)
    return task.constant_errors(problem.target, problem.target[problem.split.train]), ""


def principal_components(problem: Problem) -> tuple[np.ndarray, str]:
    """As many principal components as the code has numbers, of numbers, one-hot categories and pixels.

    Categories are read from the components by a logistic regression for each column.
    """
    task = cast("Compression", problem.task)
    count = sum(_one_row(part, task.cardinalities).shape[1] for part in task.parts(problem.target[:1]))
    rows = problem.training_rows(max(1000, MOST_CELLS // count))
    with threadpool_limits(1):
        seen = np.concatenate([_one_row(part, task.cardinalities) for part in task.parts(problem.target[rows])])
        model = PCA(
            min(task.outputs, *seen.shape), random_state=draw_seed(problem.seed, "baseline", "components") % 2**32
        )
        components = model.fit_transform(seen)
        readers = _readers(task, components[:MOST_READ_ROWS], problem.target[rows[:MOST_READ_ROWS]])
        errors = []
        for part in task.parts(problem.target):
            components = model.transform(_one_row(part, task.cardinalities))
            numbers = model.inverse_transform(components)[:, : part[0][0].numel()].reshape(part[0].shape)
            values = [torch.from_numpy(numbers), *(read(components) for read in readers)]
            errors.append(reconstruction_errors(torch.cat(values, 1), part, task.cardinalities).mean(1))
    limited = len(rows) < len(problem.split.train)
    note = f"found on {len(rows)} of {len(problem.split.train)} rows, drawn at random" if limited else ""
    return torch.cat(errors).double().numpy(), note


def _one_row(part: tuple[Tensor, ...], cardinalities: Sequence[int]) -> np.ndarray:
    """(N, features) float32: pixels, or numbers and one-hot categories."""
    columns = part[1].unbind(1) if cardinalities else ()
    hot = [one_hot(codes, count).float() for codes, count in zip(columns, cardinalities, strict=True)]
    return np.asarray(torch.cat([part[0].flatten(1), *hot], 1).numpy())


def _readers(task: Compression, components: np.ndarray, truth: np.ndarray) -> list[Callable[[np.ndarray], Tensor]]:
    """For each column of categories what tells the logarithms of its probabilities (N, codes) from components."""
    if not task.cardinalities:
        return []
    constant = torch.split(task.constant_answer(truth), [len(task.features), *task.cardinalities])[1:]
    categories = truth[:, len(task.features) :].astype(np.int64).T
    return [_reader(components, codes, logits) for codes, logits in zip(categories, constant, strict=True)]


def _reader(components: np.ndarray, codes: np.ndarray, constant: Tensor) -> Callable[[np.ndarray], Tensor]:
    if len(constant) > MOST_READ_CODES or codes.min() == codes.max():
        return lambda some: constant.expand(len(some), -1)
    scale = components.std(0).max() or 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(max_iter=ITERATIONS).fit(components / scale, codes)

    def read(some: np.ndarray) -> Tensor:
        probabilities = np.zeros((len(some), len(constant)))
        probabilities[:, model.classes_] = model.predict_proba(some / scale)
        seen = len(codes)
        return torch.from_numpy(np.log((seen * probabilities + 1) / (seen + len(constant)))).float()

    return read


WITHOUT_TARGET: Mapping[str, Mapping[str, Model]] = {
    "compression": {"always the mean": the_mean, "principal components": principal_components},
    "anomaly": OUTLIERS,
    "forecasting": FORECASTS,
    "language-modeling": {"frequencies of tokens": ngrams.frequencies, "interpolated n-grams": ngrams.interpolated},
    "recommendation": RECOMMENDERS,
    "style": PAINTINGS,
    "generation": {"columns drawn one by one": columns_apart, "a normal distribution": normal},
}
"""By task, the simple models by name: the guess first."""
