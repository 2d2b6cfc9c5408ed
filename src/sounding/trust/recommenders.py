"""Simple models for recommendation: means and biases for ratings, the popular and the similar for choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from scipy import sparse

from sounding.tasks.ranking import CELLS, Seen, ranks_of
from sounding.trust.problem import Model, Problem

SHRINK = (2.0, 5.0, 10.0, 20.0)
"""Ratings of the mean that are added to those of each user and item."""
SWEEPS = 20
NEIGHBOURS = (20, 50, 100, 200)
"""The most similar items of each that count."""
MOST_ITEMS = 20_000
"""With more, the similarities of all pairs are too many."""
USER, ITEM, RATING = range(3)


def mean_rating(problem: Problem) -> tuple[np.ndarray, str] | None:
    """Always the mean of the training rows."""
    if getattr(problem.task, "ranks", True):
        return None
    mean = problem.target[problem.split.train, RATING].mean()
    return np.full(len(problem.target), mean), ""


def biases(problem: Problem) -> tuple[np.ndarray, str] | None:
    """The mean, and by how much a user and an item are above it, shrunken: Koren 2009, equation 1.

    The validation rows choose how much.
    """
    if getattr(problem.task, "ranks", True):
        return None
    train, truth = problem.split.train, problem.target
    users, items = truth[:, USER].astype(np.int64), truth[:, ITEM].astype(np.int64)
    mean = truth[train, RATING].mean()
    rows = train if not len(problem.split.validation) else problem.split.validation

    def answer(shrink: float) -> np.ndarray:
        of_user, of_item = np.zeros(users.max() + 1), np.zeros(items.max() + 1)
        above = truth[train, RATING] - mean
        for _ in range(SWEEPS):
            of_item = _shrunken(items[train], above - of_user[users[train]], len(of_item), shrink)
            of_user = _shrunken(users[train], above - of_item[items[train]], len(of_user), shrink)
        return np.asarray(mean + of_user[users] + of_item[items])

    answers = [answer(shrink) for shrink in SHRINK]
    return min(answers, key=lambda values: float(np.square(values - truth[:, RATING])[rows].mean())), ""


def _shrunken(codes: np.ndarray, values: np.ndarray, count: int, shrink: float) -> np.ndarray:
    return np.asarray(np.bincount(codes, values, count) / (np.bincount(codes, minlength=count) + shrink))


def most_popular(problem: Problem) -> tuple[np.ndarray, str] | None:
    """The same list for all: items by how many users met them in the training rows."""
    if not getattr(problem.task, "ranks", False):
        return None
    counts = np.asarray(_met(problem).sum(0)).ravel()
    return _ranks(problem, lambda users: np.broadcast_to(counts, (len(users), len(counts)))), ""


def neighbours(problem: Problem) -> tuple[np.ndarray, str] | None:
    """Items by their cosine to those that the user met: Sarwar et al. 2001.

    The validation rows choose how many neighbours of an item count.
    """
    met = _met(problem)
    if not getattr(problem.task, "ranks", False) or met.shape[1] > MOST_ITEMS:
        return None
    norms = np.sqrt(np.maximum(np.asarray(met.sum(0)).ravel(), 1))
    scaled = met @ sparse.diags_array(1 / norms)
    cosine = (scaled.T @ scaled).toarray()
    np.fill_diagonal(cosine, 0.0)
    rows = problem.split.validation
    tried: list[tuple[float, np.ndarray]] = []
    for count in NEIGHBOURS:
        kept = cosine
        if count < len(cosine):
            edge = np.partition(cosine, -count, axis=0)[-count]
            kept = np.where(cosine >= edge, cosine, 0.0)
        ranks = _ranks(problem, lambda users, kept=kept: met[users] @ kept)  # type: ignore[misc]
        metric = problem.task.headline
        score = problem.task.measure(ranks[rows], problem.target[rows], names=[metric])[metric] if len(rows) else count
        tried.append((float(score), ranks))
    return max(tried, key=lambda one: one[0])[1], ""


def _met(problem: Problem) -> sparse.csr_array:
    """(user codes, items), 1 where a training row holds the two; the item of code c is in column c - 1."""
    users, items = (problem.encoded.blocks[f"{side}:categories"][problem.split.train, 0] for side in ("user", "item"))
    shape = tuple(
        next(block.cardinalities[0] for block in problem.schema.blocks() if block.side == side and block.cardinalities)
        for side in ("user", "item")
    )
    ones = np.ones(len(users), dtype=np.float32)
    return sparse.csr_array((ones, (users, items - 1)), shape=(shape[0], shape[1] - 1))


def _ranks(problem: Problem, scores: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(N,) the rank of each row's item as `Recommender` gives it; NaN for training rows."""
    users, items = (problem.encoded.blocks[f"{side}:categories"][:, 0].astype(np.int64) for side in ("user", "item"))
    met, validation = _met(problem), problem.split.validation
    count = met.shape[1] + 1
    seen = {"learned": problem.split.train, "held": validation[(users[validation] > 0) & (items[validation] > 0)]}
    masks = {}
    for name, rows in seen.items():
        masks[name] = Seen(met.shape[0], len(rows))
        masks[name].set(users[rows], items[rows])
    ranks = np.full(len(users), np.nan)
    for rows, names in ((validation, ["learned"]), (problem.split.test, ["learned", "held"])):
        step = max(CELLS // count, 1)
        for at in range(0, len(rows), step):
            some = rows[at : at + step]
            of = torch.from_numpy(users[some])
            out = torch.stack([masks[name].mask(of, count)[:, 1:] for name in names]).any(0)
            values = torch.from_numpy(np.array(scores(users[some]), dtype=np.float32))
            ranks[some] = ranks_of(values, torch.from_numpy(items[some]), out).numpy()
    return ranks


RECOMMENDERS: Mapping[str, Model] = {
    "the mean rating": mean_rating,
    "the most popular items": most_popular,
    "means of users and items": biases,
    "item nearest neighbours": neighbours,
}
"""By name, the guess first: of each kind of feedback those that apply."""
