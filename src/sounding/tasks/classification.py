"""One of several classes for each row."""

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
from sounding.kinds import Category, Encoded
from sounding.recipe import Recipe
from sounding.tasks import metrics as measures
from sounding.tasks.task import Predictions, Task, as_double, members_apart, members_joined, weighted_mean

DOMINANT = 0.95
"""With a larger share of the rows in one class, always saying that class would look like a good model."""

MOST_COLUMNS = 100
"""With more classes a file of predictions holds the probability of the predicted class only."""


class Classification(Task):
    """One of several classes for each row.

    The positive class of two, for f1 and the areas under curves, is the second one, as in scikit-learn: the larger
    number, or the later word (1 of 0 and 1, yes of no and yes, >50K of <=50K and >50K).
    """

    name: ClassVar[str] = "classification"
    target_kind: ClassVar[str] = "category"
    monitor: ClassVar[str] = "log_loss"
    watched: ClassVar[tuple[str, ...]] = ("accuracy", "log_loss")

    def __init__(
        self,
        schema: Schema,
        classes: tuple[str, ...],
        *,
        label_smoothing: float = 0.0,
        balanced: bool = False,
    ) -> None:
        self.schema, self.classes = schema, classes
        self.outputs = len(classes)
        self.positive = 1 if len(classes) == 2 else None
        self.label_smoothing, self.balanced = label_smoothing, balanced
        self.class_weights: Tensor | None = None
        self.headline, self.higher_is_better = "accuracy", True

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """A single target of few values."""
        targets = schema.targets
        if len(targets) != 1 or targets[0].kind != "category":
            return None
        return f'"{targets[0].name}" is a category'

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """One output for each class."""
        (field,) = schema.targets
        assert isinstance(field.fitted, Category)
        training = recipe.training
        return cls(
            schema,
            field.fitted.classes,
            label_smoothing=training.label_smoothing,
            balanced=training.class_weights,
        )

    def knowing(self, truth: np.ndarray) -> Self:
        """Class weights n / (classes * n_class), of mean 1 over the rows; another headline if one class dominates."""
        task = copy(self)
        counts = np.bincount(truth, minlength=len(self.classes))
        if self.balanced:
            task.class_weights = torch.from_numpy(len(truth) / (len(counts) * np.maximum(counts, 1))).float()
        share = counts.max() / max(len(truth), 1)
        if share > DOMINANT:
            task.headline = "roc_auc" if len(counts) == 2 else "balanced_accuracy"
            task.reason = (
                f"{share:.2%} of the rows are of one class, and who always says it is right that often: "
                f"{task.headline} is the measure, not accuracy"
            )
        return task

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N,) int64 codes of classes."""
        (codes,) = self.schema.encode_targets(table).values()
        return codes

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N,) int64."""
        return torch.from_numpy(np.ascontiguousarray(truth, dtype=np.int64))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N,) int64."""
        return target.cpu().numpy()

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy. target: (B,) codes, or (B, classes) shares where examples were mixed."""
        outputs, target, weight = members_apart(outputs, target, weight)
        classes = None if self.class_weights is None else self.class_weights.to(outputs.device)
        losses = F.cross_entropy(
            outputs, target, weight=classes, reduction="none", label_smoothing=self.label_smoothing
        )
        return weighted_mean(losses, weight)

    def decode(self, outputs: Tensor) -> Predictions:
        """The softmax, averaged over members."""
        return Predictions(members_joined(as_double(outputs).softmax(-1)))

    def decide(self, predictions: Predictions) -> np.ndarray:
        """The label of the most probable class, as str."""
        return np.asarray(np.array(self.classes, dtype=object)[predictions.values.argmax(1)])

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """See `metrics.classification_metrics`."""
        return measures.classification_metrics(values, truth, weight, positive=self.positive, names=names)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """-log(probability of the true class)."""
        return measures.row_log_losses(predictions.values, truth)

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Labels, and the probability of the predicted one."""
        shown = predictions.take(rows)
        true, said = np.array(self.classes, dtype=object)[truth[rows]], self.decide(shown)
        return [
            {"truth": str(label), "prediction": str(answer), "confidence": float(confidence)}
            for label, answer, confidence in zip(true, said, shown.values.max(1), strict=True)
        ]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`prediction`, and `probability_CLASS` for each class (or `probability` with very many classes)."""
        columns = {"prediction": self.decide(predictions)}
        if len(self.classes) > MOST_COLUMNS:
            return columns | {"probability": predictions.values.max(1)}
        return columns | {f"probability_{label}": predictions.values[:, at] for at, label in enumerate(self.classes)}

    def figures(self, predictions: Predictions, truth: np.ndarray) -> dict[str, Any]:
        """The confusion matrix (rows are true, columns predicted) and the calibration curve."""
        classes = len(self.classes)
        cell = truth * classes + predictions.values.argmax(1)
        counts = np.bincount(cell, minlength=classes**2).reshape(classes, classes)
        return {
            "confusion": {"labels": list(self.classes), "counts": counts.tolist()},
            "calibration": calibration_figure(predictions.values, truth),
        }


def calibration_figure(probabilities: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Confidence against accuracy by bins, and the error."""
    bins = zip(*measures.calibration_bins(probabilities, truth), strict=True)
    return {
        "bins": [
            {"confidence": float(confidence), "accuracy": float(right), "count": int(count)}
            for confidence, right, count in bins
        ],
        "error": measures.calibration_error(probabilities, truth) if len(truth) else None,
    }
