"""What a user chooses next, told from what the user met before, in order of time."""

from __future__ import annotations

from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Batches
from sounding.data.schema import Schema
from sounding.data.split import moments
from sounding.data.table import Table
from sounding.errors import RecipeError
from sounding.finding import Finding
from sounding.kinds import Encoded
from sounding.networks import NETWORKS
from sounding.recipe import Recipe, RecommendationRecipe
from sounding.tasks.feedback import Choices
from sounding.tasks.interactions import is_implicit
from sounding.tasks.met import HistoryBatches, HistoryRecommender, stretch_of
from sounding.tasks.ranking import Recommender
from sounding.tasks.recommendation import USER

TIME = 3
"""The column of the truth that `Histories` add."""


class Histories(Choices):
    """`Choices` by networks that read histories. The truth has the time of each row as well, (N, 4)."""

    recommender: ClassVar[type[Recommender]] = HistoryRecommender
    longest: int
    """Items of a history that the network reads together at most."""

    def __init__(self, schema: Schema, settings: RecommendationRecipe) -> None:
        super().__init__(schema, settings)
        self.times = np.zeros(0)
        self.dated = np.zeros((0, 4))
        self.long = 0

    @classmethod
    def by(cls, schema: Schema, recipe: Recipe) -> Self:
        """For a fitted schema.

        Raises:
            RecipeError: where ratings are to be predicted.
        """
        name = recipe.network.name
        if not is_implicit(schema, recipe):
            raise RecipeError(
                f'"{name}" tells which items come next, and predicts no ratings',
                "set recommendation.feedback=implicit, or take matrix_factorization",
            )
        task = cls(schema, recipe.recommendation)
        task.longest = int({**NETWORKS[name].options, **recipe.network.options}["longest"])
        return task

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """And with the time of every row: the end of all times where the column is lacking."""
        task = super().reading(table, encoded)
        (field,) = (field for field in self.schema.fields if field.role == "time")
        task.times = np.full(len(table), np.inf)
        if field.name in table.columns:
            column = field.column(table)
            task.times = moments(column)
            if np.isnan(task.times).any():
                row = int(np.isnan(task.times).argmax())
                raise column.error("there is no time in this row", "every interaction has its time", row=row)
        codes = encoded.blocks["user:categories"][:, 0].astype(np.int64)
        task.long = int((np.bincount(codes)[1:] > self.longest).sum())
        return task

    def noticed(self) -> list[Finding]:
        """And histories that are longer than what is read together."""
        found = super().noticed()
        if self.long:
            found.append(
                Finding(
                    rule="long-histories",
                    severity="info",
                    title=f"{self.long} users met more than {self.longest} items: what comes next is told from the "
                    f"latest {self.longest // 2} to {self.longest}",
                    evidence={"users": self.long, "longest": self.longest},
                    meaning="All of it is learned from; network.options.longest says how many items are read together.",
                )
            )
        return found

    def knowing(self, truth: np.ndarray) -> Self:
        """With what users met in the training rows, in order of time."""
        truth = truth[np.argsort(truth[:, TIME], kind="stable")]
        task = super().knowing(truth)
        task.dated = truth
        return task

    def around(self, network: nn.Module) -> nn.Module:
        """And with what users met, in order of time."""
        recommender = cast("HistoryRecommender", super().around(network))
        if self.pairs:
            recommender.tell(self.dated)
        return recommender

    def calibrated(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray, rows: np.ndarray) -> Self:
        """With what users met in the validation rows, too."""
        truth = truth[np.argsort(truth[:, TIME], kind="stable")]
        task = super().calibrated(network, inputs, truth, rows)
        task.dated = np.concatenate([self.dated, self._known(truth)])
        cast("HistoryRecommender", network).tell(task.dated)
        return task

    def batches(self, inputs: tuple[Tensor, ...], goals: Tensor, weight: Tensor | None, **options: Any) -> Batches:
        """Batches whose rows of one history stand together, so that it is read once for all of them."""
        batches = HistoryBatches(inputs, goals, weight, **options)
        truth = goals.numpy()
        users = truth[:, USER].astype(np.int64)
        order = np.lexsort((truth[:, TIME], users))
        starts = np.concatenate([[0], np.cumsum(np.bincount(users))])
        places = np.empty(len(users), dtype=np.int64)
        places[order] = np.arange(len(users)) - starts[users[order]]
        stretches = stretch_of(places, self.longest)
        batches.stretches = users * (int(stretches.max(initial=0)) + 1) + stretches
        return batches

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, 4): user, item, 1, and the time."""
        return np.column_stack([super().encode_target(table, encoded), self.times])

    def asked(self) -> np.ndarray:
        """All rows, with their times."""
        return np.arange(self.rows)

    def measurable(self) -> np.ndarray:
        """All rows, with their times."""
        return np.arange(self.rows)

    def inputs_of(self, inputs: tuple[Tensor, ...], rows: np.ndarray) -> tuple[Tensor, ...]:
        """And the times."""
        return (*super().inputs_of(inputs, rows), torch.from_numpy(self.times[rows]))
