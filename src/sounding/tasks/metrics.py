"""How good predictions are, and how sure that is.

Every function takes a weight for each row: none, (N,), or (S, N) for S weightings at once, and answers with a number
or with (S,) numbers. A bootstrap is then nothing but a matrix of weights: how often each resample drew each row. What
is undefined on the rows at hand (the area under a curve where only one class occurs) is NaN.

probabilities:  (N, C) float64, rows sum to 1
truth:          (N,) int64 codes of classes in [0, C), or (N,) float64 numbers
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import numpy as np

from sounding.randomness import generator

Array = np.ndarray
Value = Any
"""A float for one weighting, an array (S,) for S of them."""

CALIBRATION_BINS = 15
"""As in Guo et al. 2017."""

AREAS = ("roc_auc", "average_precision")
MOST_CLASSES_RANKED = 200
"""With more classes the areas under curves, which need a sorting for each class, are left out."""


def accuracy(probabilities: Array, truth: Array, weight: Array | None = None) -> Value:
    """The share of rows whose most probable class is the true one.

    >>> accuracy(np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 1]))
    0.5
    """
    return _mean(probabilities.argmax(1) == truth, weight)


def balanced_accuracy(probabilities: Array, truth: Array, weight: Array | None = None) -> Value:
    """The mean over the classes that occur of the share of their rows that is found.

    >>> balanced_accuracy(np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1]]), np.array([0, 0, 1]))
    0.5
    """
    found, _, actual = _counts(probabilities, truth, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _scalar(_nanmean(found / actual), weight)


def f1(probabilities: Array, truth: Array, weight: Array | None = None, *, positive: int | None = None) -> Value:
    """The harmonic mean of precision and recall.

    positive: the class in question; none for the mean ("macro") over the classes that occur or are predicted.

    >>> round(f1(np.array([[0.1, 0.9], [0.1, 0.9], [0.8, 0.2]]), np.array([1, 0, 0]), positive=1), 3)
    0.667
    """
    found, predicted, actual = _counts(probabilities, truth, weight)
    with np.errstate(invalid="ignore", divide="ignore"):
        each = 2 * found / (predicted + actual)  # 2 TP / (2 TP + FP + FN)
    return _scalar(_nanmean(each) if positive is None else each[:, positive], weight)


def log_loss(probabilities: Array, truth: Array, weight: Array | None = None) -> Value:
    """The mean of -log(probability of the true class), in nats; ln C for a guess among C classes.

    Probabilities below 2.2e-16 count as that much, so one confident mistake costs 36 at most.
    """
    return _mean(row_log_losses(probabilities, truth), weight)


def row_log_losses(probabilities: Array, truth: Array) -> Array:
    """(N,) -log(probability of the true class)."""
    likely = probabilities[np.arange(len(truth)), truth]
    losses: Array = -np.log(np.clip(likely, np.finfo(np.float64).eps, 1.0))
    return losses


def calibration_bins(probabilities: Array, truth: Array, bins: int = CALIBRATION_BINS) -> tuple[Array, Array, Array]:
    """Mean confidence, accuracy and number of rows for each bin of confidence that has rows.

    A row's confidence is the probability of its most probable class. Bins are equally wide and closed on the right:
    bin m holds the confidences in ((m - 1)/bins, m/bins].
    """
    confidence, right, bin_of = _binned(probabilities, truth, bins)
    counts = np.bincount(bin_of, minlength=bins)
    used = counts > 0
    mean_confidence = np.bincount(bin_of, confidence, bins)[used] / counts[used]
    share_right = np.bincount(bin_of, right, bins)[used] / counts[used]
    return mean_confidence, share_right, counts[used]


def calibration_error(
    probabilities: Array, truth: Array, weight: Array | None = None, *, bins: int = CALIBRATION_BINS
) -> Value:
    """How far stated confidence is from observed accuracy, averaged over the rows of the confidence bins.

    Returns: a fraction in [0, 1]; 0.03 means three percentage points.
    Source:  Guo et al. 2017, arXiv:1706.04599, equation 3; bins as in `calibration_bins`.

    >>> round(calibration_error(np.array([[0.9, 0.1], [0.9, 0.1]]), np.array([0, 1])), 3)
    0.4
    """
    confidence, right, bin_of = _binned(probabilities, truth, bins)
    weights = _rows(weight, len(truth))
    gap = weights @ _one_hot(bin_of, bins, right - confidence)
    return _scalar(np.abs(gap).sum(1) / weights.sum(1), weight)


def roc_auc(probabilities: Array, truth: Array, weight: Array | None = None, *, positive: int | None = None) -> Value:
    """The probability that a row of the class gets a higher score than a row of another class (ties count half).

    positive: the class in question; none for the mean over the classes that occur, each against all others.
    """
    return _areas(probabilities, truth, weight, positive)[0]


def average_precision(
    probabilities: Array, truth: Array, weight: Array | None = None, *, positive: int | None = None
) -> Value:
    """The mean precision over all recalls: the area under the precision-recall curve as a sum of steps.

    A guess scores the share of the class. `positive` as for `roc_auc`.
    """
    return _areas(probabilities, truth, weight, positive)[1]


def rmse(prediction: Array, truth: Array, weight: Array | None = None) -> Value:
    """The root of the mean squared error, in the units of the target.

    >>> rmse(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    1.0
    """
    return _scalar(np.sqrt(np.atleast_1d(_mean((prediction - truth) ** 2, weight))), weight)


def mae(prediction: Array, truth: Array, weight: Array | None = None) -> Value:
    """The mean absolute error, in the units of the target."""
    return _mean(np.abs(prediction - truth), weight)


def r2(prediction: Array, truth: Array, weight: Array | None = None) -> Value:
    """The share of the variance of the target that is explained: 1 is perfect, 0 as good as always saying the mean."""
    weights = _rows(weight, len(truth))
    centred = truth - truth.mean() if len(truth) else truth  # for precision: the mean of squares may dwarf the variance
    total = weights.sum(1)
    variance = weights @ centred**2 - (weights @ centred) ** 2 / total
    with np.errstate(invalid="ignore", divide="ignore"):
        share = 1 - (weights @ (prediction - truth) ** 2) / np.where(variance > 0, variance, np.nan)
    return _scalar(share, weight)


def classification_metrics(
    probabilities: Array,
    truth: Array,
    weight: Array | None = None,
    *,
    positive: int | None = None,
    names: Collection[str] = (),
) -> dict[str, Value]:
    """The named metrics of a classification, or all of them.

    positive: the class that f1 and the areas under curves speak of; none for the mean over classes.
    """

    def is_wanted(name: str) -> bool:
        return not names or name in names

    of_rows = {
        "accuracy": accuracy,
        "balanced_accuracy": balanced_accuracy,
        "log_loss": log_loss,
        "calibration_error": calibration_error,
    }
    found = {name: metric(probabilities, truth, weight) for name, metric in of_rows.items() if is_wanted(name)}
    if is_wanted("f1"):
        found["f1"] = f1(probabilities, truth, weight, positive=positive)
    areas = [name for name in AREAS if is_wanted(name)]
    if areas and probabilities.shape[1] <= MOST_CLASSES_RANKED:
        both = dict(zip(AREAS, _areas(probabilities, truth, weight, positive), strict=True))
        found |= {name: both[name] for name in areas}
    return found


def regression_metrics(
    prediction: Array, truth: Array, weight: Array | None = None, *, names: Collection[str] = ()
) -> dict[str, Value]:
    """The named metrics of a regression, or all of them."""
    metrics = {"rmse": rmse, "mae": mae, "r2": r2}
    return {name: metric(prediction, truth, weight) for name, metric in metrics.items() if not names or name in names}


def anomaly_metrics(
    values: Array,
    truth: Array,
    weight: Array | None = None,
    *,
    false_alarms: float,
    names: Collection[str] = (),
) -> dict[str, Value]:
    """The named metrics of scores of strangeness, or all of them; without known labels the share of alarms alone.

    values:        (N, 2) float64: scores, higher for stranger rows, and their p-values.
    truth:         (N,) int64: 1 for an anomaly, 0 for a normal row, -1 where nothing is known and nothing measured.
    false_alarms:  rows with a p-value of at most this are alarms.

    Returns: roc_auc and average_precision of the scores, with anomalies as the positive class; false_alarm_rate, the
             share of normal rows that are alarms; recall, the share of anomalies that are; precision, the share of the
             alarms that are anomalies. Of rows of which nothing is known: alarm_rate.
    """
    alarm = values[:, 1] <= false_alarms + 1e-12
    weights = _rows(weight, len(truth))
    known = truth >= 0
    if not known.any():
        return {"alarm_rate": _mean(alarm, weight)} if not names or "alarm_rate" in names else {}

    def share(of: Array, among: Array) -> Value:
        with np.errstate(invalid="ignore", divide="ignore"):
            return _scalar((weights @ (of & among).astype(np.float64)) / (weights @ among.astype(np.float64)), weight)

    strange, normal = truth == 1, truth == 0
    shares = {
        "false_alarm_rate": (alarm, normal),
        "recall": (alarm, strange),
        "precision": (strange, alarm & known),
    }
    found = {name: share(*pair) for name, pair in shares.items() if not names or name in names}
    areas = [name for name in AREAS if not names or name in names]
    if areas:
        columns = np.ascontiguousarray(weights[:, known].T)
        both = dict(zip(AREAS, _areas_of_class(values[known, 0], strange[known], columns), strict=True))
        found = {name: _scalar(both[name], weight) for name in areas} | found
    return found


class Measure(Protocol):
    """Metrics by name, of predictions (N, ...), truth (N, ...) and weights: none, (N,) or (S, N)."""

    def __call__(
        self, values: Array, truth: Array, weight: Array | None = None, /, *, names: Collection[str] = ()
    ) -> dict[str, Value]:
        """The named metrics, or all."""


BOOTSTRAP_WORK = 100_000_000
"""Rows times answers times resamples that a bootstrap looks at: what a few seconds are enough for."""
FEWEST_RESAMPLES = 200
"""Enough for the ends of a 95 % interval, whatever the work."""
CHUNK = 1 << 20
"""Weights held at once."""


def bootstrap(
    measure: Measure,
    prediction: Array,
    truth: Array,
    *,
    samples: int,
    seed: int,
    weight: Array | None = None,
    names: Collection[str] = (),
) -> dict[str, Array]:
    """Each metric on resamples of the rows, drawn with replacement: (S,) values for each.

    The draws depend on the seed and the number of rows alone, so two predictions of the same rows meet the same
    resamples, in the same order. S is `samples`, or fewer (though 200 at least) where that many would take longer than
    some seconds: fewer for predictions with more answers.

    names:  the metrics in question; all when empty.
    Source: Efron and Tibshirani 1993, chapters 6 and 13.
    """
    rows = len(truth)
    work = max(rows * (prediction.shape[1] if prediction.ndim > 1 else 1), 1)
    samples = min(samples, max(FEWEST_RESAMPLES, BOOTSTRAP_WORK // work))
    draw = generator(seed, "bootstrap", rows)
    together = max(16, CHUNK // max(rows, 1))
    found: dict[str, list[Array]] = {}
    for at in range(0, samples if rows else 0, together):
        weights = np.empty((min(together, samples - at), rows))
        for resample in weights:
            resample[:] = np.bincount(draw.integers(rows, size=rows), minlength=rows)
        if weight is not None:
            weights *= weight
        for name, values in measure(prediction, truth, weights, names=names).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in found.items()}


def interval(values: Array) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile of bootstrap values; values that are undefined are left out.

    >>> interval(np.arange(1001.0))
    (25.0, 975.0)
    """
    defined = values[np.isfinite(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [0.025, 0.975])
    return float(low), float(high)


def intervals(found: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """The `interval` of what `bootstrap` gave for each metric that is defined anywhere."""
    return {name: interval(values) for name, values in found.items() if np.isfinite(values).any()}


def differences(one: Mapping[str, Array], other: Mapping[str, Array]) -> dict[str, tuple[float, float]]:
    """The `interval` of (one - other) for each metric of both, on the first resamples, which both were measured on."""
    both = {name: min(len(values), len(other[name])) for name, values in one.items() if name in other}
    return {name: interval(one[name][:count] - other[name][:count]) for name, count in both.items()}


def defined(metrics: dict[str, Value]) -> dict[str, float]:
    """The metrics that are defined on the rows at hand, as plain floats."""
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}


def _rows(weight: Array | None, rows: int) -> Array:
    """(S, N) weights."""
    return np.ones((1, rows)) if weight is None else np.atleast_2d(np.asarray(weight, dtype=np.float64))


def _scalar(values: Array, weight: Array | None) -> Value:
    """One number for one weighting, all of them for several."""
    return values if weight is not None and np.ndim(weight) == 2 else float(values[0])


def _mean(values: Array, weight: Array | None) -> Value:
    weights = _rows(weight, len(values))
    with np.errstate(invalid="ignore", divide="ignore"):
        return _scalar((weights @ values.astype(np.float64)) / weights.sum(1), weight)


def _nanmean(values: Array) -> Array:
    """The mean over the second axis of what is defined there."""
    there = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Array = np.where(there, values, 0.0).sum(1) / there.sum(1)
    return mean


def _one_hot(codes: Array, count: int, values: Array | float = 1.0) -> Array:
    """(N, count): the value at the code, 0 elsewhere."""
    table = np.zeros((len(codes), count))
    table[np.arange(len(codes)), codes] = values
    return table


def _counts(probabilities: Array, truth: Array, weight: Array | None) -> tuple[Array, Array, Array]:
    """For each weighting and class (S, C): rows found, rows predicted, rows that are of the class."""
    classes = probabilities.shape[1]
    prediction = probabilities.argmax(1)
    weights = _rows(weight, len(truth))
    right = (prediction == truth).astype(np.float64)
    if len(weights) == 1:  # no table of rows by classes for a single weighting
        row = weights[0]
        columns = [
            np.bincount(codes, row * factor, classes) for codes, factor in ((truth, right), (prediction, 1), (truth, 1))
        ]
        return columns[0][None], columns[1][None], columns[2][None]
    return (
        weights @ _one_hot(truth, classes, right),
        weights @ _one_hot(prediction, classes),
        weights @ _one_hot(truth, classes),
    )


def _binned(probabilities: Array, truth: Array, bins: int) -> tuple[Array, Array, Array]:
    confidence = probabilities.max(1)
    right = (probabilities.argmax(1) == truth).astype(np.float64)
    bin_of = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return confidence, right, bin_of


def _areas(probabilities: Array, truth: Array, weight: Array | None, positive: int | None) -> tuple[Value, Value]:
    """Area under the ROC curve and average precision of one class, or their means over the classes that occur."""
    columns = np.ascontiguousarray(_rows(weight, len(truth)).T)
    classes = [positive] if positive is not None else np.unique(truth)
    each = [_areas_of_class(probabilities[:, one], truth == one, columns) for one in classes]
    nothing = np.full((columns.shape[1], 1), np.nan)
    roc, precision = (np.stack(values, 1) for values in zip(*each, strict=True)) if each else (nothing, nothing)
    return _scalar(_nanmean(roc), weight), _scalar(_nanmean(precision), weight)


def _areas_of_class(score: Array, positive: Array, weights: Array) -> tuple[Array, Array]:
    """For weights (N, S) both areas, (S,) each.

    Rows go from the highest score to the lowest, those with equal scores in one step. With S contiguous, sorting moves
    whole rows of weights and the sums run over S at once.
    """
    order = np.argsort(-score, kind="stable")
    ranked = weights[order]
    seen = np.cumsum(ranked, axis=0)
    ranked[~positive[order]] = 0
    true = np.cumsum(ranked, axis=0, out=ranked)
    last = np.flatnonzero(np.diff(score[order], append=-np.inf) != 0)  # of each distinct score
    if len(last) < len(order):
        seen, true = seen[last], true[last]
    gained = np.diff(true, axis=0, prepend=0.0)
    all_true, all_false = true[-1], seen[-1] - true[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.divide(true, seen, out=np.zeros_like(true), where=seen > 0)
        average_precision = np.einsum("gs,gs->s", gained, precision) / np.where(all_true > 0, all_true, np.nan)
        passed = np.diff(seen, axis=0, prepend=0.0) - gained  # rows of other classes at each step
        area = np.einsum("gs,gs->s", passed, true) - np.einsum("gs,gs->s", passed, gained) / 2  # trapezoids
        pairs = all_true * all_false
        return area / np.where(pairs > 0, pairs, np.nan), average_precision
