"""An encoder that learns from rows without labels, to be the beginning of another run: `--from`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import RecipeError, nearest
from sounding.kinds import Category, Encoded
from sounding.networks import LESSONS, Lesson
from sounding.recipe import PretrainingRecipe, Recipe
from sounding.tasks.build import PictureNetwork, Standardized
from sounding.tasks.drawing import map_of
from sounding.tasks.task import Predictions, Task, weighted_mean


@dataclass(frozen=True)
class Features(Predictions):
    """What came of some rows. `values` are (N, 2): the loss of each, and that of an answer that knows nothing."""

    features: np.ndarray
    """(N, num_features) float64."""

    def take(self, rows: np.ndarray) -> Features:
        """Of some rows."""
        return Features(self.values[rows], self.features[rows])


class Pretraining(Task):
    """An encoder that learns from rows without labels, by a lesson that they set themselves: see `LESSONS`.

    The network is of the families of supervised tasks. Predictions are its features. There is no truth: its array is of
    zeros.
    """

    name: ClassVar[str] = "pretraining"
    needs_target: ClassVar[bool] = False
    monitor: ClassVar[str] = "loss"
    watched: ClassVar[tuple[str, ...]] = ()
    outputs = 1
    headline = "skill"
    higher_is_better = True

    def __init__(self, schema: Schema, settings: PretrainingRecipe) -> None:
        self.schema = schema
        blocks = schema.blocks()
        self.block = {block.form: block for block in blocks}
        forms = {"table" if block.form in ("numbers", "categories") else block.form for block in blocks}
        self.form = next(iter(forms))
        pictures = sum(block.form == "pictures" for block in blocks)
        if len(forms) > 1 or pictures > 1 or self.form not in LESSONS:
            raise RecipeError(
                f"pretraining takes a table or one picture in a row, and the inputs are {', '.join(sorted(forms))}",
                "leave other columns out with data.ignore",
            )
        known = LESSONS[self.form]
        self.method = next(iter(known)) if settings.method == "auto" else settings.method
        if self.method not in known:
            raise RecipeError(
                f'there is no method "{self.method}" for inputs of the form {self.form}', nearest(self.method, known)
            )
        self.options = settings.options
        self.reason = f"by the lesson {self.method}"

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Whatever can be put in."""
        return "an encoder is to learn without labels"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The lesson is that of the recipe.

        Raises:
            RecipeError: for a lesson that does not exist, or inputs that none is for.
        """
        return cls(schema, recipe.pretraining)

    def around(self, network: nn.Module) -> nn.Module:
        """The lesson around the encoder.

        Raises:
            RecipeError: for options that the lesson does not have, or a network that is none of ours.
        """
        build: Any = LESSONS[self.form][self.method]
        try:
            if self.form == "table":
                numbers, categories = self.block.get("numbers"), self.block.get("categories")
                features = len(numbers.features) if numbers else 0
                return cast(
                    "nn.Module",
                    build(network, features, categories.cardinalities if categories else (), **self.options),
                )
            if not isinstance(network, PictureNetwork):
                raise RecipeError(f"{type(network).__name__} is not pretrained here", "take another network")
            block, inner = self.block["pictures"], network.network
            sizes: dict[str, Any] = {"in_channels": block.channels, "picture_size": (block.height, block.width)}
            lesson = build(inner, **self.options, **({} if self.method == "contrastive" else sizes))
            return Standardized(network.standardize, lesson)
        except (TypeError, ValueError) as error:
            raise RecipeError(
                f"the lesson {self.method} refuses its options: {error}", "correct pretraining.options"
            ) from None

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """Nothing."""
        return np.zeros(len(table))

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """Nothing."""
        return torch.from_numpy(truth).float()

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """Nothing."""
        return target.cpu().double().numpy()

    def loss(self, outputs: Lesson, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The mean loss of the rows."""
        return weighted_mean(outputs.loss, weight)

    def decode(self, outputs: Lesson) -> Features:
        """Losses and features."""
        losses = torch.stack([outputs.loss, outputs.naive], 1)
        return Features(*(part.detach().double().cpu().numpy() for part in (losses, outputs.features)))

    def decide(self, predictions: Predictions) -> np.ndarray:
        """The features."""
        return cast("Features", predictions).features

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """`loss`, and `skill`: the share by which it is below that of an answer that knows nothing of the row."""
        weights = np.ones((1, len(values))) if weight is None else np.atleast_2d(weight)
        loss, naive = (weights @ values[:, at] / weights.sum(1) for at in (0, 1))
        found = {"loss": loss, "skill": 1 - loss / np.where(naive > 0, naive, np.nan)}
        several = weight is not None and np.ndim(weight) == 2
        return {
            name: value if several else float(value[0]) for name, value in found.items() if not names or name in names
        }

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """The loss of each row."""
        losses: np.ndarray = predictions.values[:, 0]
        return losses

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """Nothing is true or said but the row itself."""
        return [{"truth": None, "prediction": None, "confidence": None} for _ in rows]

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`feature_1`, `feature_2`, ..."""
        features = self.decide(predictions)
        return {f"feature_{place + 1}": features[:, place] for place in range(features.shape[1])}

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """A map of the features, and how much each varies; see `drawing.map_of`."""
        name, groups = next(iter(labels.items()), ("", None))
        fitted = self.schema[name].fitted if name else None
        named = isinstance(fitted, Category)
        pictures = inputs[0].numpy() if self.form == "pictures" else None
        classes = list(fitted.classes) if isinstance(fitted, Category) else []
        drawn = map_of(self.decide(predictions), pictures, groups if named else None, classes)
        spread = self.decide(predictions).var(0) if len(predictions) else []
        return {} if drawn is None else {"map": drawn, "units": {"variances": spread, "used": None}}
