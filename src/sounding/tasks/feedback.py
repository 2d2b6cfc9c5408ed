"""The two kinds of feedback: ratings, which are predicted, and choices, by which all items are ranked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor

from sounding.batches import Batch, Transform
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.kinds import Number
from sounding.randomness import generator
from sounding.recipe import RecommendationRecipe
from sounding.tasks import metrics as measures
from sounding.tasks.ranking import Answer, by_user
from sounding.tasks.recommendation import RATING, USER, Recommendation
from sounding.tasks.task import Predictions, weighted_mean


class Ratings(Recommendation):
    """A rating for each user and item. The network learns it standardised, answers are in its own units."""

    ranks: ClassVar[bool] = False
    monitor: ClassVar[str] = "rmse"
    watched: ClassVar[tuple[str, ...]] = ("rmse", "mae")
    headline = "rmse"
    higher_is_better = False

    def __init__(self, schema: Schema, settings: RecommendationRecipe) -> None:
        super().__init__(schema, settings)
        self.number = cast("Number", schema.targets[0].fitted)
        self.range = (-np.inf, np.inf)

    def knowing(self, truth: np.ndarray) -> Self:
        """And with the lowest and the highest rating, which answers do not pass."""
        task = super().knowing(truth)
        if len(truth):
            task.range = (float(truth[:, RATING].min()), float(truth[:, RATING].max()))
        return task

    def learned(self) -> dict[str, Any]:
        """And that range."""
        return {**super().learned(), "range": list(self.range)}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse of `learned`."""
        task = super().with_learned(learned)
        low, high = learned["range"]
        task.range = (float(low), float(high))
        return task

    def _ratings(self, table: Table) -> np.ndarray:
        (standardised,) = self.schema.encode_targets(table).values()
        return self.number.decode_target(standardised)

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean squared error of the members, in units of the standard deviation of ratings."""
        wanted = ((target[:, RATING] - self.number.mean) / self.number.std).to(outputs.dtype)
        return weighted_mean((outputs - wanted[:, None]).square().mean(1), weight)

    def decode(self, outputs: Tensor) -> Predictions:
        """The mean over members, in the units of ratings."""
        return Predictions(self._shown(outputs.detach().double().mean(1).cpu().numpy()))

    def _shown(self, scores: np.ndarray) -> np.ndarray:
        ratings = self.number.decode_target(scores)
        return np.where(np.isfinite(scores), np.clip(ratings, *self.range), -np.inf)

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
        return measures.regression_metrics(values, truth[:, RATING], weight, names=names)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The absolute error."""
        return np.asarray(np.abs(predictions.values - truth[:, RATING]))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Ratings."""
        return [
            {"truth": float(truth[row, RATING]), "prediction": float(predictions.values[row]), "confidence": None}
            for row in rows
        ]


class Choices(Recommendation):
    """All items in order for each user, by what users chose. Values are ranks of the items of rows, from 0.

    A row's item is ranked among all items but those that its user met in earlier parts of the data.
    """

    ranks: ClassVar[bool] = True
    higher_is_better = True

    def __init__(self, schema: Schema, settings: RecommendationRecipe) -> None:
        super().__init__(schema, settings)
        self.headline = f"recall_at_{self.top}"
        self.monitor = f"missed_at_{self.top}"  # type: ignore[misc]
        self.watched = (self.headline, f"ndcg_at_{self.top}")  # type: ignore[misc]

    def transform(self, seed: int) -> Transform | None:
        """Negatives for each row: a function of (seed, epoch, step)."""
        many, items = self.settings.negatives, len(self.keys["item"].classes)
        if not many:
            return None

        def with_negatives(batch: Batch, epoch: int, step: int) -> Batch:
            drawn = generator(seed, epoch, step, "negatives").integers(1, items + 1, (len(batch.rows), many))
            codes = torch.from_numpy(drawn).to(batch.inputs[1].device)
            return batch._replace(inputs=(*batch.inputs, codes))

        return with_negatives

    def loss(self, outputs: Answer, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean cross-entropy of the members: which item was it, of all, or of those drawn."""
        return weighted_mean(outputs.loss.mean(1), weight)

    def decode(self, outputs: Answer) -> Predictions:
        """Ranks."""
        return Predictions(outputs.rank.detach().double().cpu().numpy())

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """See `ranking.by_user`: the mean over users; the weight of a user is the mean of those of its rows."""
        found, user = by_user(values, truth[:, USER], self.top)
        weights = np.ones((1, len(values))) if weight is None else np.atleast_2d(weight)
        sums = np.stack([np.bincount(user, one) for one in weights]) / np.bincount(user)
        means = {name: sums @ of / sums.sum(1) for name, of in found.items() if not names or name in names}
        several = weight is not None and np.ndim(weight) == 2
        return {name: value if several else float(value[0]) for name, value in means.items()}

    def resampled(
        self,
        predictions: Predictions,
        truth: np.ndarray,
        *,
        samples: int,
        seed: int,
        weight: np.ndarray | None = None,
        names: Collection[str] = (),
    ) -> dict[str, np.ndarray]:
        """See `Task.resampled`: of users, as the rows of one belong together."""
        if not len(truth):
            return {}
        table, known = self._users(predictions, truth)
        return measures.bootstrap(_Means(known), table, table, samples=samples, seed=seed, names=names)

    def _users(self, predictions: Predictions, truth: np.ndarray) -> tuple[np.ndarray, list[str]]:
        found, _ = by_user(predictions.values, truth[:, USER], self.top)
        return np.stack(list(found.values()), 1), list(found)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The rank; one behind the last item where it is infinite."""
        return np.asarray(np.minimum(predictions.values, self._codes("item")))

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """At which place the item of a row stands."""
        places = predictions.values[rows] + 1
        return [
            {
                "truth": "met",
                "prediction": f"place {place:.0f}" if np.isfinite(place) else "unknown",
                "confidence": None,
            }
            for place in places
        ]


class _Means:
    """The means of (U, metrics), as `metrics.bootstrap` asks for them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        weights = np.ones((1, len(values))) if weight is None else np.atleast_2d(weight)
        means = weights @ values / weights.sum(1, keepdims=True)
        return {name: means[:, at] for at, name in enumerate(self.names) if not names or name in names}
