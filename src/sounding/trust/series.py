"""Simple models for series: the most similar training row, and random convolutions before a linear model.

Sources: nearest neighbours under dynamic time warping: Sakoe and Chiba 1978, and Ratanamahatana and Keogh 2005 for the
window that the training rows choose; MiniRocket: Dempster et al. 2021, arXiv:2012.08791.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch
from sklearn.linear_model import RidgeClassifierCV, RidgeCV
from threadpoolctl import threadpool_limits
from torch.nn import functional as F

from sounding.randomness import generator
from sounding.tasks import Classification, Regression
from sounding.tasks import metrics as measures
from sounding.trust.problem import Problem

WINDOWS = (0.0, 0.05, 0.1)
"""How far warping may go, as a fraction of the length; 0 is the Euclidean distance, where all have one length."""
MOST_WARPED = 4_000_000_000
"""Pairs of rows times pairs of points that are compared; of more training rows a random part is taken."""
FEATURES = 9_996
"""Of the random convolutions: 119 for each of 84 kernels, as in the paper."""
MOST_COMPARED = 4_000_000_000
"""Points times features; on more than that there are fewer features."""
STRENGTHS = np.logspace(-3, 3, 10)
"""Of the ridge penalty; leaving each training row out in turn chooses."""
SHARPNESS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Factors of the scores before their softmax; the validation rows choose."""


def nearest(problem: Problem) -> tuple[np.ndarray, str] | None:
    """What the most similar training row is, by dynamic time warping.

    Its probability is how often this is right among the training rows, each without itself.
    """
    given = _series(problem)
    if given is None:
        return None
    values, lengths = given
    longest, rows = values.shape[2], len(values)
    widest = max(round(max(WINDOWS) * longest), 1, int(np.ptp(lengths)))
    seen = problem.training_rows(max(20, MOST_WARPED // (rows * longest * (2 * widest + 1))))
    equal = int(np.ptp(lengths)) == 0
    tried = []
    for window in dict.fromkeys(round(share * longest) for share in WINDOWS if equal or share):
        distances = warped(values[seen], lengths[seen], values[seen], lengths[seen], window)
        np.fill_diagonal(distances, np.inf)
        tried.append((_alike(problem, seen, seen[distances.argmin(1)]), window))
    alike, window = max(tried, key=lambda one: (one[0], -one[1]))
    distances = warped(values, lengths, values[seen], lengths[seen], window)
    answer = problem.target[seen[distances.argmin(1)]]
    note = f"warped by {window} points at most" if window else "Euclidean distance"
    if len(seen) < len(problem.split.train):
        note += f"; compared with {len(seen)} of {len(problem.split.train)} training rows, drawn at random"
    if isinstance(problem.task, Regression):
        return answer.astype(np.float64), note
    classes = problem.task.outputs
    sure = min((alike * len(seen) + 1) / (len(seen) + 2), 1.0)
    probabilities = np.full((rows, classes), (1 - sure) / max(classes - 1, 1))
    probabilities[np.arange(rows), answer] = sure
    return probabilities / probabilities.sum(1, keepdims=True), note


def random_convolutions(problem: Problem) -> tuple[np.ndarray, str] | None:
    """How much of a series exceeds random thresholds after fixed convolutions, and a ridge regression on that."""
    given = _series(problem)
    if given is None:
        return None
    values, lengths = given
    seen = problem.split.train
    features = minirocket(values, lengths, seen, problem.seed, MOST_COMPARED // max(values[:, 0].size, 1))
    mean, deviation = features[seen].mean(0), features[seen].std(0)
    features = (features - mean) / np.where(deviation > 0, deviation, 1.0)
    truth = problem.target[seen]
    with threadpool_limits(1):
        if isinstance(problem.task, Regression):
            return np.asarray(RidgeCV(STRENGTHS).fit(features[seen], truth).predict(features), dtype=np.float64), ""
        found = np.zeros((len(values), problem.task.outputs))
        if truth.min() == truth.max():
            found[:, truth[0]] = 1.0
            return found, ""
        model = RidgeClassifierCV(STRENGTHS).fit(features[seen], truth)
        scores = model.decision_function(features).astype(np.float64)
    scores = np.stack([-scores, scores], 1) if scores.ndim == 1 else scores
    check = problem.split.validation if len(problem.split.validation) else seen
    answers = []
    for factor in SHARPNESS:
        probabilities = np.exp(factor * (scores - scores.max(1, keepdims=True)))
        answer = np.full_like(found, 1e-6)  # a class without training rows is not impossible
        answer[:, model.classes_] += probabilities / probabilities.sum(1, keepdims=True)
        answer /= answer.sum(1, keepdims=True)
        answers.append((measures.row_log_losses(answer[check], problem.target[check]).mean(), answer))
    return min(answers, key=lambda one: one[0])[1], ""


SERIES = {
    "the nearest neighbour": nearest,
    "random convolutions and a linear model": random_convolutions,
}
"""By name the simple models for a row that is one series."""


def warped(
    first: np.ndarray, first_lengths: np.ndarray, second: np.ndarray, second_lengths: np.ndarray, window: int
) -> np.ndarray:
    """Dynamic time warping distances, squared, of all pairs: (n, m).

    first, second: (n or m, channels, L).
    window:        how far a point may lie behind its partner; more where the lengths of a pair differ by more.

    >>> a, b = np.array([[[0.0, 1.0, 0.0]]]), np.array([[[0.0, 0.0, 1.0]]])
    >>> float(warped(a, np.array([3]), b, np.array([3]), 0)[0, 0])
    2.0
    >>> float(warped(a, np.array([3]), b, np.array([3]), 1)[0, 0])
    1.0
    """
    rows, columns = first.shape[2], second.shape[2]
    apart = np.abs(first_lengths[:, None] - second_lengths)
    band = np.maximum(window, apart)  # (n, m)
    widest, narrowest = int(band.max(initial=0)), int(band.min(initial=0))
    squares = np.square(first).sum(1), np.square(second).sum(1)
    found = np.full(band.shape, np.inf)
    before: dict[int, np.ndarray] = {}
    for row in range(rows):
        here: dict[int, np.ndarray] = {}
        ends = first_lengths[:, None] == row + 1
        for column in range(max(0, row - widest), min(columns, row + widest + 1)):
            product = first[:, :, row] @ second[:, :, column].T
            cost = np.maximum(squares[0][:, row, None] + squares[1][:, column] - 2 * product, 0.0)
            ways = [
                one for one in (before.get(column), before.get(column - 1), here.get(column - 1)) if one is not None
            ]
            if ways:
                cost += ways[0] if len(ways) == 1 else np.minimum.reduce(ways)
            elif row or column:
                continue
            if abs(row - column) > narrowest:
                cost[np.abs(row - column) > band] = np.inf
            here[column] = cost
            end = ends & (second_lengths == column + 1)
            if end.any():
                found[end] = cost[end]
        before = here
    return found


def minirocket(values: np.ndarray, lengths: np.ndarray, seen: np.ndarray, seed: int, most: int) -> np.ndarray:
    """(N, features) in [0, 1]: the share of points at which a fixed convolution exceeds a threshold.

    values:  (N, channels, L), 0 behind the length of each.
    seen:    the rows from which thresholds are taken.
    most:    features at most; 84 at least.

    Kernels have nine weights, three of them 2 and the others -1, in all 84 ways, each on some channels. Thresholds are
    quantiles of what comes out for a random row. Every other kernel leaves the ends out, where it sees padding.
    """
    _, channels, longest = values.shape
    kernels = np.full((84, 9), -1.0, dtype=np.float32)
    for weights, places in zip(kernels, combinations(range(9), 3), strict=True):
        weights[list(places)] = 2.0
    each = max(min(FEATURES, most) // 84, 1)  # features of a kernel
    reach = max(np.log2(max(lengths[seen].mean() - 1, 1) / 8), 0.0)
    dilations, shares = np.unique((2 ** np.linspace(0, reach, min(each, 32))).astype(int), return_counts=True)
    numbers = np.maximum(each * shares // shares.sum(), 1)
    numbers[0] += max(each - numbers.sum(), 0)
    draw = generator(seed, "baseline", "convolutions")
    tensor = torch.from_numpy(values.astype(np.float32))
    real = np.arange(longest) < lengths[:, None]
    parts, drawn = [], 0
    for at, (dilation, number) in enumerate(zip(dilations, numbers, strict=True)):
        chosen = _channels(channels, draw)
        filters = torch.from_numpy(kernels[:, None, :] * chosen[:, :, None])
        out = F.conv1d(tensor, filters, padding=4 * int(dilation), dilation=int(dilation)).numpy()  # (N, 84, L)
        inside = real.copy()
        inside[:, : 4 * dilation] = False
        inside &= np.arange(longest) < lengths[:, None] - 4 * dilation
        for kernel in range(len(kernels)):
            quantiles = (np.arange(drawn + 1, drawn + number + 1) * ((np.sqrt(5) + 1) / 2)) % 1
            drawn += int(number)
            row = int(draw.choice(seen))
            counted = inside if (kernel + at) % 2 and inside.any(1).all() else real
            thresholds = np.quantile(out[row, kernel][counted[row]], quantiles)
            above = (out[:, kernel, :, None] > thresholds) & counted[:, :, None]
            parts.append(above.sum(1) / counted.sum(1)[:, None])
    return np.concatenate(parts, 1).astype(np.float32)


def _channels(channels: int, draw: np.random.Generator) -> np.ndarray:
    """(84, channels) 1 or 0: of several channels each kernel sees a random few, mostly one or two."""
    if channels == 1:
        return np.ones((84, 1), dtype=np.float32)
    chosen = np.zeros((84, channels), dtype=np.float32)
    for one in chosen:
        size = int(2 ** draw.uniform(0, np.log2(min(channels, 9) + 1)))
        one[draw.choice(channels, size=min(size, channels), replace=False)] = 1.0
    return chosen


def _series(problem: Problem) -> tuple[np.ndarray, np.ndarray] | None:
    """(N, channels, L) and (N,) lengths, where a row is one series and the answer a class or a number."""
    blocks = problem.schema.blocks()
    if len(blocks) != 1 or blocks[0].form != "series" or not isinstance(problem.task, Classification | Regression):
        return None
    values = np.asarray(problem.encoded.blocks[blocks[0].name], dtype=np.float64)
    if not blocks[0].varying:
        return values, np.full(len(values), values.shape[2])
    return values[:, :-1], values[:, -1].sum(1).astype(np.int64)


def _alike(problem: Problem, rows: np.ndarray, others: np.ndarray) -> float:
    """How alike the answers of pairs of rows are: the share of equal classes, or minus the mean squared difference."""
    one, other = problem.target[rows], problem.target[others]
    return (
        -float(np.square(one - other).mean()) if isinstance(problem.task, Regression) else float((one == other).mean())
    )
