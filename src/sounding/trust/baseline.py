"""Simple models on the same split, and whether the network was worth it.

Three of them: a guess that ignores the inputs; a linear model; gradient-boosted trees, where there is a table. Series
have two of their own: see `series`. They see what the network sees, learn from the same training rows, and are measured
on the same rows.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.kinds import Encoded, Number
from sounding.kinds.number import parse
from sounding.randomness import draw_seed
from sounding.recipe import Recipe
from sounding.tasks import Predictions, Regression, Task
from sounding.tasks.multilabel import Multilabel
from sounding.trust.detectors import DETECTORS
from sounding.trust.masks import MASKS
from sounding.trust.problem import Model, Problem
from sounding.trust.series import SERIES
from sounding.trust.sounds import cepstra
from sounding.trust.texts import same_text
from sounding.trust.translations import TRANSLATIONS
from sounding.trust.unsupervised import WITHOUT_TARGET

MOST_LINEAR_CELLS = 60_000_000
"""Training rows times filled cells of a row; a linear model learns from a random part of more rows than that."""
MOST_TREE_CELLS = 10_000_000
"""Training rows times columns times classes; the same for trees."""
MOST_TREE_CLASSES = 100
"""An iteration grows a tree for each class, so with more classes trees are left out."""
LINEAR_ITERATIONS = 200
TREE_ITERATIONS = 300
FIXED_TREE_ITERATIONS = 100
"""Where there are too few rows to hold some out."""
STRENGTHS = (0.1, 1.0, 10.0)
"""Of regularisation; the validation rows choose (with C = 1 / strength for a logistic regression)."""
TEXT_STRENGTH = 0.1
"""Of texts, whose features are many and rare; 1 of anything else."""
CHEAP_CELLS = 6_000_000
"""With more filled cells times outputs only the usual strength is tried."""
FEW_CELLS = 2_000_000
"""Training rows times columns that one thread is quick enough for."""
MOST_NATIVE = 255
"""Codes of a column that trees can treat as categories; columns with more enter as numbers."""


@dataclass(frozen=True)
class BaselineResult:
    """How a simple model does, and how the network differs from it."""

    name: str
    """In words: `a linear model`."""
    metrics: dict[str, dict[str, float]]
    """By part, `validation` and `test`, then by metric."""
    seconds: float
    """To train and to predict."""
    metric: str
    """The headline metric of the task, of which the next two speak."""
    difference: float
    """Network minus simple model on the test rows; NaN where it is undefined."""
    interval: tuple[float, float]
    """95 % paired bootstrap interval of the difference."""
    differences: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """The difference and its interval in the headline and in the loss."""
    note: str = ""
    """What was limited: rows, iterations."""


@dataclass(frozen=True)
class Verdict:
    """Whether the network was worth it, in plain words."""

    headline: str
    winner: str
    """`network`, `neither`, `nothing` (no better than guessing), `unknown`, or the name of a simple model."""
    metric: str
    difference: float | None
    """Network minus the best simple model in `metric`, on the test rows."""
    interval: tuple[float, float] | None
    advice: str


def compare(
    task: Task,
    table: Table,
    schema: Schema,
    split: Split,
    encoded: Encoded,
    target: np.ndarray,
    predictions: Predictions,
    recipe: Recipe,
) -> list[BaselineResult]:
    """Train the simple models that apply, the guess first, and compare the network with each.

    target:       the truth of all rows of the table.
    predictions:  the network's, for the test rows.
    """
    problem = Problem(task, table, schema, split, encoded, target, recipe.seed)
    truth = target[split.test]
    results = []
    for name, model in models(task).items():
        started = time.perf_counter()
        answer = model(problem)
        if answer is None:
            continue
        seconds = time.perf_counter() - started
        values, note = answer
        parts = {
            part: (Predictions(values[rows]), target[rows]) for part, rows in split.parts.items() if part != "train"
        }
        metrics = {part: task.metrics(*both) for part, both in parts.items()}
        differences = _differences(task, predictions, parts["test"][0], truth, recipe)
        nothing = (float("nan"),) * 3
        difference, low, high = differences.get(task.headline, nothing)
        results.append(
            BaselineResult(name, metrics, seconds, task.headline, difference, (low, high), differences, note)
        )
    return results


OF_TASK: Mapping[str, Mapping[str, Model]] = {
    "transcription": {"always the most frequent text": same_text},
    "translation": TRANSLATIONS,
    "detection": DETECTORS,
    "segmentation": MASKS,
}
"""Simple models of tasks that have their own, the guess first."""


def models(task: Task) -> Mapping[str, Model]:
    """The simple models by name, the guess first."""
    if not task.needs_target:
        return WITHOUT_TARGET.get(task.name, {})
    if task.name in OF_TASK:
        return OF_TASK[task.name]
    return {_guess_name(task): guess, "a linear model": linear, "gradient-boosted trees": trees, **SERIES}


def guess(problem: Problem) -> tuple[np.ndarray, str]:
    """What can be said without looking at the inputs: the mean, or how frequent each class is in training."""
    truth = problem.target[problem.split.train]
    weight = None if problem.weight is None else problem.weight[problem.split.train]
    if isinstance(problem.task, Regression | Multilabel):
        constant = np.atleast_1d(np.average(truth, axis=0, weights=weight))
    else:
        counts = np.bincount(truth, weight, minlength=problem.task.outputs)
        constant = counts / counts.sum()
    values = np.tile(constant, (len(problem.target), 1))
    return (values[:, 0] if isinstance(problem.task, Regression) else values), ""


def linear(problem: Problem) -> tuple[np.ndarray, str]:
    """Ridge or logistic regression on standardised numbers, one-hot categories, weights of words, pixels, cepstra."""
    inputs: Any = linear_inputs(problem)
    filled = (inputs.size if isinstance(inputs, np.ndarray) else inputs.nnz) / inputs.shape[0]  # cells of a row
    rows = problem.training_rows(max(1000, int(MOST_LINEAR_CELLS / max(filled, 1))))
    cheap = len(rows) * filled * problem.task.outputs <= CHEAP_CELLS
    usual = TEXT_STRENGTH if all(block.form == "tokens" for block in problem.schema.blocks()) else 1.0
    answers = []
    for strength in STRENGTHS if cheap else [usual]:
        model = (
            Ridge(alpha=strength)
            if isinstance(problem.task, Regression)
            else LogisticRegression(C=1 / strength, max_iter=LINEAR_ITERATIONS)
        )
        answers.append(_fit_and_predict(problem, model, inputs, rows))
    check = problem.split.validation if len(problem.split.validation) else rows
    values, complete = min(answers, key=lambda answer: _mean_loss(problem, answer[0], check))
    note = _limits(problem, rows)
    if not complete:
        note.append(f"stopped after {LINEAR_ITERATIONS} iterations")
    return values, "; ".join(note)


def trees(problem: Problem) -> tuple[np.ndarray, str] | None:
    """Gradient-boosted trees on numbers and categories; a tenth of the training rows says when to stop."""
    table = [problem.encoded.blocks[name] for name in ("numbers", "categories") if name in problem.encoded.blocks]
    if not table or problem.task.outputs > MOST_TREE_CLASSES:
        return None
    inputs = np.concatenate(table, axis=1, dtype=np.float32)
    cardinalities = [count for block in problem.schema.blocks() for count in block.cardinalities]
    numbers = inputs.shape[1] - len(cardinalities)
    grown = problem.task.outputs if problem.task.outputs > 2 else 1
    rows = problem.training_rows(max(1000, MOST_TREE_CELLS // (inputs.shape[1] * grown)))
    stops = _can_hold_out_a_tenth(problem, rows)
    regression = isinstance(problem.task, Regression)
    model = (HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier)(
        max_iter=TREE_ITERATIONS if stops else FIXED_TREE_ITERATIONS,
        early_stopping=stops,
        categorical_features=[False] * numbers + [count <= MOST_NATIVE for count in cardinalities],
        random_state=draw_seed(problem.seed, "baseline", "trees") % 2**32,
    )
    values, _ = _fit_and_predict(problem, model, inputs, rows)
    return values, "; ".join(_limits(problem, rows))


def linear_inputs(problem: Problem) -> Any:
    """(N, features): dense float32 for pictures, series and recordings, else sparse."""
    blocks, schema = problem.encoded.blocks, problem.schema
    rows = len(problem.target)
    parts: list[Any] = []
    if "numbers" in blocks:
        # The encoded numbers are normal scores; a straight line may need the numbers as they are.
        parts += [blocks["numbers"], *_plain_numbers(problem)]
    if "categories" in blocks:
        cardinalities = [count for block in schema.blocks() for count in block.cardinalities]
        codes = blocks["categories"].astype(np.int64) + np.cumsum([0, *cardinalities[:-1]])
        starts = np.arange(rows + 1) * codes.shape[1]
        ones = np.ones(codes.size, dtype=np.float32)
        parts.append(sparse.csr_array((ones, codes.reshape(-1), starts), shape=(rows, sum(cardinalities))))
    for name in sorted(blocks):
        if name.startswith("image:"):
            pixels = blocks[name].reshape(rows, -1).astype(np.float32)
            pixels /= 255
            parts.append(pixels)
        elif name.startswith("audio:"):
            (rate,) = (block.rate for block in schema.blocks() if block.name == name)
            parts.append(cepstra(blocks[name], rate, problem.split.train))
        elif name.startswith("series:"):
            parts.append(blocks[name].reshape(rows, -1))
        elif name.startswith("text:"):
            words = schema[name.removeprefix("text:")].column(problem.table).words
            texts = [text or "" for text in words.to_pylist()]
            learned = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, dtype=np.float32, max_features=200_000)
            learned.set_params(token_pattern=r"\w+|[^\w\s]")
            if any(text.strip() for text in (texts[row] for row in problem.split.train)):
                learned.fit([texts[row] for row in problem.split.train])
                parts.append(sparse.csr_array(learned.transform(texts)))
    if not parts:
        return np.zeros((rows, 1), dtype=np.float32)
    if not any(sparse.issparse(part) for part in parts):
        return np.concatenate(parts, axis=1, dtype=np.float32)
    return sparse.csr_array(sparse.hstack([sparse.csr_array(part) for part in parts], format="csr"))


def verdict(
    task: Task,
    predictions: Predictions,
    truth: np.ndarray,
    baselines: Sequence[BaselineResult],
) -> Verdict:
    """What the comparison says, without flattery; only differences whose interval leaves out 0 count.

    The network is held against the simple model that did best on the validation rows, so that no test row chooses it.
    """
    own, rows, metric = task.metrics(predictions, truth), len(truth), task.headline
    if said := task.unjudged(predictions):
        return Verdict(
            said, "unknown", metric, None, None, "Name a column of known anomalies as the target to measure."
        )
    if metric not in own or not baselines:
        why = f"{metric} is undefined on {rows} test rows" if metric not in own else "no simple model was trained"
        return Verdict(f"No verdict: {why}.", "unknown", metric, None, None, "")
    chance, *simple = baselines
    best = min(simple, key=lambda result: _rank(task, result), default=chance)
    score, theirs = (_say(metric, value) for value in (own[metric], best.metrics["test"][metric]))
    low, high = (_say(metric, bound, signed=True) for bound in best.interval)
    words = _WORDS.get(metric, metric)
    against = (
        f"{words} {score} against {theirs} for {best.name} on {rows} test rows "
        f"(95 % interval of the difference {low} to {high})"
    )
    better, worse = _sign(task.higher_is_better, best.interval)

    def answer(headline: str, winner: str, advice: str) -> Verdict:
        return Verdict(headline, winner, metric, best.difference, best.interval, advice)

    if not _beats_guess(task, chance):
        level = _say(metric, chance.metrics["test"][metric])
        if not task.needs_target:
            headline = f"Nothing learned: {words} {score} against {level} for {chance.name} on {rows} test rows."
            return answer(headline, "nothing", "Train longer, or with another learning rate.")
        headline = f"No better than guessing: {words} {score} against {level} for {chance.name} on {rows} test rows."
        if worse:
            return answer(
                f"{headline} Not so the simple model: {theirs} for {best.name}.",
                best.name,
                "The inputs do tell something about the target, and this network has not learned it: train longer, "
                f"with another learning rate, or use {best.name}.",
            )
        return answer(
            headline,
            "nothing",
            "The inputs seem to say nothing about the target: check that labels and rows belong together.",
        )
    if best is chance:
        than = "guessing" if task.needs_target else chance.name
        return answer(f"The network is better than {than}: {against}.", "network", "")
    took = f"trained in {best.seconds:.1f} s"
    if better:
        return answer(f"The network wins: {against}.", "network", "")
    if worse:
        return answer(
            f"The simple model is better: {against}.",
            best.name,
            f"Use {best.name}: {took}.",
        )
    return answer(
        f"The simple model is as good: {against}.",
        "neither",
        f"Use {best.name}, {took}, or measure on more test rows to see smaller differences.",
    )


_WORDS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "roc_auc": "area under the ROC curve",
    "f1": "f1",
    "rmse": "typical error (rmse)",
    "bleu": "BLEU",
    "chrf": "chrF",
    "mase": "scaled error (MASE)",
    "reconstruction_error": "reconstruction error",
    "wer": "word error rate",
    "recall_at_10": "recall at 10",
    "map50": "mean average precision at an overlap of 0.5",
    "iou": "mean intersection over union",
}


def _say(metric: str, value: float, *, signed: bool = False) -> str:
    """A metric for people: 87.3 %, 0.912, 47,300."""
    sign = "+" if signed and value > 0 else ""
    if metric in ("accuracy", "balanced_accuracy", "wer", "cer"):
        return f"{sign}{value:.1%}".replace("%", " %")
    if abs(value) >= 1000:
        return f"{sign}{value:,.0f}"
    return f"{sign}{value:.3g}"


def _sign(higher_is_better: bool, interval: tuple[float, float]) -> tuple[bool, bool]:
    """Whether a difference is clearly for the network, and whether clearly against it."""
    low, high = interval
    return (low > 0, high < 0) if higher_is_better else (high < 0, low > 0)


def _beats_guess(task: Task, chance: BaselineResult) -> bool:
    """Whether the network is clearly better than the guess in the headline or in the loss.

    Accuracy alone would not do: with nine of ten rows in one class a network can know a lot and still always say that
    class.
    """
    found = chance.differences
    headline = task.headline in found and _sign(task.higher_is_better, found[task.headline][1:])[0]
    return headline or (task.monitor in found and _sign(False, found[task.monitor][1:])[0])


def _rank(task: Task, result: BaselineResult) -> float:
    """Smaller is better: the headline on the validation rows, or on the test rows where these do not tell it."""
    told = [metrics for part in ("validation", "test") if task.headline in (metrics := result.metrics.get(part, {}))]
    value = told[0][task.headline] if told else float("nan")
    if not np.isfinite(value):
        return float("inf")
    return -value if task.higher_is_better else value


def _differences(
    task: Task, network: Predictions, other: Predictions, truth: np.ndarray, recipe: Recipe
) -> dict[str, tuple[float, float, float]]:
    if not len(truth):
        return {}
    own, theirs = task.metrics(network, truth), task.metrics(other, truth)
    intervals = task.difference(
        network,
        other,
        truth,
        samples=recipe.evaluation.bootstrap,
        seed=recipe.seed,
        names={task.headline, task.monitor},
    )
    return {name: (own[name] - theirs[name], *intervals[name]) for name in own if name in theirs and name in intervals}


def _guess_name(task: Task) -> str:
    return "always the mean" if isinstance(task, Regression) else "guessing by class frequency"


def _limits(problem: Problem, rows: np.ndarray) -> list[str]:
    if len(rows) == len(problem.split.train):
        return []
    return [f"trained on {len(rows)} of {len(problem.split.train)} rows, drawn at random"]


def _can_hold_out_a_tenth(problem: Problem, rows: np.ndarray) -> bool:
    """Whether a tenth of the rows can hold every class while the others do too."""
    if isinstance(problem.task, Regression):
        return len(rows) >= 20
    truth = problem.target[rows].reshape(len(rows), -1)
    counts = [np.unique(answer, return_counts=True)[1] for answer in truth.T]
    return all(count.min() >= 2 and len(rows) >= 10 * max(len(count), 2) for count in counts)


def _mean_loss(problem: Problem, values: np.ndarray, rows: np.ndarray) -> float:
    """The mean loss of (N, ...) values on some rows: of squares for numbers."""
    losses = problem.task.row_losses(Predictions(values[rows]), problem.target[rows])
    return float(np.square(losses).mean() if isinstance(problem.task, Regression) else losses.mean())


def _fit_and_predict(problem: Problem, model: BaseEstimator, inputs: Any, rows: np.ndarray) -> tuple[np.ndarray, bool]:
    """Values for all rows as in `Predictions`, and whether the model came to its end.

    Only trees on many cells use all threads: elsewhere they gain little, and wait for each other on a busy machine.
    """
    truth = problem.target[rows]
    many = not isinstance(model, LogisticRegression | Ridge) and len(rows) * inputs.shape[1] > FEW_CELLS
    threads = None if many else 1
    if isinstance(problem.task, Multilabel):
        answers = [
            _one_answer(problem, clone(model), inputs, rows, truth[:, at], 2, threads) for at in range(truth.shape[1])
        ]
        return np.stack([values[:, 1] for values, _ in answers], axis=1), all(done for _, done in answers)
    return _one_answer(problem, model, inputs, rows, truth, problem.task.outputs, threads)


def _one_answer(
    problem: Problem,
    model: Any,
    inputs: Any,
    rows: np.ndarray,
    truth: np.ndarray,
    outputs: int,
    threads: int | None,
) -> tuple[np.ndarray, bool]:
    """The same for a single target: (N, outputs) probabilities, or (N,) numbers."""
    values = np.zeros((inputs.shape[0], outputs))
    regression = isinstance(problem.task, Regression)
    if not regression and truth.min() == truth.max():  # nothing to learn, and scikit-learn refuses to
        values[:, truth[0]] = 1.0
        return values, True
    weight = None if problem.weight is None else problem.weight[rows]
    with threadpool_limits(threads), warnings.catch_warnings():
        # Iterations are limited for speed; `complete` below says when the limit was met.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(inputs[rows], truth, sample_weight=weight)
        if regression:
            return np.asarray(model.predict(inputs), dtype=np.float64), True
        values[:, model.classes_] = model.predict_proba(inputs)
    values /= values.sum(1, keepdims=True)  # a model of float32 inputs rounds to float32
    complete = not isinstance(model, LogisticRegression) or int(model.n_iter_.max()) < LINEAR_ITERATIONS
    return values, complete


def _plain_numbers(problem: Problem) -> list[np.ndarray]:
    """Columns of numbers as they are, (N, 1) each: standardised by the training rows, at most 10 deviations out."""
    columns = []
    for one in problem.schema.inputs:
        if isinstance(number := one.fitted, Number):
            values = (parse(one.column(problem.table), number.decimal) - number.mean) / number.std
            columns.append(np.clip(np.nan_to_num(values), -10, 10).astype(np.float32)[:, None])
    return columns
