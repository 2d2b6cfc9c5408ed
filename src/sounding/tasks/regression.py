"""A number for each row."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.kinds import Encoded, Number
from sounding.recipe import Recipe
from sounding.tasks import metrics as measures
from sounding.tasks.task import Predictions, Task, as_double, members_apart, members_joined, weighted_mean

MOST_POINTS = 500
"""Points that a scatter plot shows."""


class Regression(Task):
    """A number for each row. The network learns it standardised; metrics and predictions are in the user's units."""

    name: ClassVar[str] = "regression"
    target_kind: ClassVar[str] = "number"
    monitor: ClassVar[str] = "rmse"
    watched: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2")
    outputs = 1
    headline = "rmse"
    higher_is_better = False

    def __init__(self, schema: Schema, number: Number) -> None:
        self.schema, self.number = schema, number

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """A single target of numbers."""
        targets = schema.targets
        if len(targets) != 1 or targets[0].kind != "number":
            return None
        return f'"{targets[0].name}" is a number'

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """Mean and standard deviation of the training rows are in the schema."""
        (field,) = schema.targets
        assert isinstance(field.fitted, Number)
        return cls(schema, field.fitted)

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N,) float64 in the user's units."""
        (standardised,) = self.schema.encode_targets(table).values()
        return self.number.decode_target(standardised)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N,) float32, standardised in float64 before."""
        return torch.from_numpy(((truth - self.number.mean) / self.number.std).astype(np.float32))

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N,) float64 in the user's units."""
        return self.number.decode_target(target.cpu().numpy())

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The squared error in units of the target's standard deviation."""
        outputs, target, weight = members_apart(outputs, target, weight)
        return weighted_mean((outputs.squeeze(-1) - target) ** 2, weight)

    def decode(self, outputs: Tensor) -> Predictions:
        """The mean over members, in the user's units."""
        return Predictions(self.number.decode_target(members_joined(as_double(outputs))[:, 0]))

    def decide(self, predictions: Predictions) -> np.ndarray:
        """The number itself."""
        return predictions.values

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """See `metrics.regression_metrics`."""
        return measures.regression_metrics(values, truth, weight, names=names)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The absolute error in the user's units."""
        return np.asarray(np.abs(predictions.values - truth))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Numbers in the user's units."""
        return [
            {"truth": float(truth[row]), "prediction": float(predictions.values[row]), "confidence": None}
            for row in rows
        ]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`prediction` alone."""
        return {"prediction": predictions.values}

    def figures(self, predictions: Predictions, truth: np.ndarray) -> dict[str, Any]:
        """Predicted against true for at most 500 rows, evenly spaced, and the histogram of (prediction - truth)."""
        shown: np.ndarray = np.unique(np.linspace(0, max(len(truth) - 1, 0), MOST_POINTS).astype(np.int64))[
            : len(truth)
        ]
        residuals = predictions.values - truth
        low, high = np.quantile(residuals, [0.005, 0.995]) if len(residuals) else (0.0, 0.0)
        # A few extreme rows would leave all others in one bar: they are counted in the outermost bars.
        counts, edges = np.histogram(np.clip(residuals, low, high), bins=40)
        return {
            "scatter": {"truth": truth[shown].tolist(), "prediction": predictions.values[shown].tolist()},
            "residuals": {"edges": edges.tolist(), "counts": counts.tolist()},
        }
