"""Several yes-or-no answers at once for each row."""

from __future__ import annotations

from collections.abc import Collection
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.kinds import Category, Encoded
from sounding.recipe import Recipe
from sounding.tasks import metrics as measures
from sounding.tasks.classification import calibration_figure
from sounding.tasks.task import Predictions, Task, as_double, members_apart, members_joined, weighted_mean


class Multilabel(Task):
    """Several yes-or-no answers at once: each target column holds two values, of which the second counts as yes.

    A metric is the mean over the answers of that metric of each answer.
    """

    name: ClassVar[str] = "multilabel"
    target_kind: ClassVar[str] = "category"
    monitor: ClassVar[str] = "log_loss"
    watched: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "log_loss")
    headline = "f1"
    higher_is_better = True
    reason = "several answers at once, most of them often no: f1 looks at the yes answers"

    def __init__(self, schema: Schema, pairs: dict[str, tuple[str, str]], *, balanced: bool = False) -> None:
        self.schema, self.pairs, self.balanced = schema, pairs, balanced
        self.outputs = len(pairs)
        self.positive_weights: Tensor | None = None

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Several targets of two values each."""
        targets = schema.targets
        if len(targets) < 2 or any(field.kind != "category" for field in targets):
            return None
        return f"{len(targets)} target columns of categories"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """One output for each target column.

        Raises:
            DataError: for a target column that has more than two values.
        """
        pairs = {}
        for field in schema.targets:
            assert isinstance(field.fitted, Category)
            pairs[field.name] = two_classes(field.name, field.fitted.classes)
        return cls(schema, pairs, balanced=recipe.training.class_weights)

    def knowing(self, truth: np.ndarray) -> Self:
        """With class weights, yes weighs as much as no in all rows together."""
        task = copy(self)
        if self.balanced:
            yes = truth.sum(0)
            task.positive_weights = torch.from_numpy((len(truth) - yes) / np.maximum(yes, 1)).float()
        return task

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, answers) int64, 0 or 1."""
        codes = self.schema.encode_targets(table)
        return np.stack([codes[name] for name in self.pairs], axis=1)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, answers) float32."""
        return torch.from_numpy(truth.astype(np.float32))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N, answers) int64, 0 or 1."""
        return target.cpu().numpy().astype(np.int64)

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Binary cross-entropy, the mean over the answers."""
        outputs, target, weight = members_apart(outputs, target, weight)
        positive = None if self.positive_weights is None else self.positive_weights.to(outputs.device)
        losses = F.binary_cross_entropy_with_logits(outputs, target, reduction="none", pos_weight=positive)
        return weighted_mean(losses.mean(-1), weight)

    def decode(self, outputs: Tensor) -> Predictions:
        """The logistic function of each output, averaged over members."""
        return Predictions(members_joined(as_double(outputs).sigmoid()))

    def decide(self, predictions: Predictions) -> np.ndarray:
        """(N, answers) labels, as str: the second value of a column where its probability is above one half."""
        labels = np.array([*self.pairs.values()], dtype=object)  # (answers, 2)
        return np.asarray(labels[np.arange(self.outputs), (predictions.values > 0.5).astype(np.int64)])

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """The mean over the answers of each metric; an answer for which one is undefined is left out of its mean."""
        each = [
            measures.classification_metrics(two_columns(values[:, at]), truth[:, at], weight, positive=1, names=names)
            for at in range(self.outputs)
        ]
        return {name: mean_of_defined([one[name] for one in each]) for name in each[0]}

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The mean over the answers of -log(probability of the true answer)."""
        columns = range(self.outputs)
        losses = [measures.row_log_losses(two_columns(predictions.values[:, at]), truth[:, at]) for at in columns]
        return np.asarray(np.mean(losses, axis=0))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """The columns whose answer is yes, and the probability of the least sure answer."""
        names = np.array(list(self.pairs), dtype=object)
        return [
            {
                "truth": ", ".join(names[truth[row] == 1]) or "none",
                "prediction": ", ".join(names[predictions.values[row] > 0.5]) or "none",
                "confidence": float(np.maximum(predictions.values[row], 1 - predictions.values[row]).min()),
            }
            for row in rows
        ]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`prediction_COLUMN` and `probability_COLUMN` (that the answer is yes) for each target column."""
        decided = self.decide(predictions)
        columns = {}
        for at, name in enumerate(self.pairs):
            columns[f"prediction_{name}"] = decided[:, at]
            columns[f"probability_{name}"] = predictions.values[:, at]
        return columns

    def figures(self, predictions: Predictions, truth: np.ndarray) -> dict[str, Any]:
        """The calibration curve over all answers together."""
        return {"calibration": calibration_figure(two_columns(predictions.values.reshape(-1)), truth.reshape(-1))}


def two_columns(yes: np.ndarray) -> np.ndarray:
    """(N, 2) probabilities of no and yes."""
    return np.stack([1 - yes, yes], axis=1)


def two_classes(column: str, classes: tuple[str, ...]) -> tuple[str, str]:
    """The two values of a column.

    Raises:
        DataError: if it has another number of values.
    """
    if len(classes) != 2:
        raise DataError(
            f"with several targets each needs two values, and this has {len(classes)}",
            "predict it in a run of its own",
            column=column,
        )
    return classes[0], classes[1]


def mean_of_defined(values: list[Any]) -> Any:
    """The mean over a list of floats, or of arrays (S,), leaving out NaN."""
    stacked = np.stack([np.asarray(value, dtype=np.float64) for value in values])
    there = np.isfinite(stacked)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, stacked, 0.0).sum(0) / there.sum(0)
    return mean if mean.ndim else float(mean)
