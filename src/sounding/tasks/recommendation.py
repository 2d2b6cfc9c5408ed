"""Which items a user will like: ratings that are predicted, or all items ranked by what users chose."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Category, Encoded
from sounding.recipe import Recipe, RecommendationRecipe
from sounding.tasks import interactions
from sounding.tasks.build import SIDES
from sounding.tasks.drawing import evenly
from sounding.tasks.examples import Examples
from sounding.tasks.ranking import Recommender
from sounding.tasks.task import Predictions, Task

USER, ITEM, RATING = range(3)
"""Columns of the truth."""
MOST_USERS, MOST_HISTORY = 8, 12
"""Users that the page shows, and items that they met before, the last ones."""
MOST_LISTS = 500
"""Users whose lists tell how popular the items are that are recommended."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
"""Of all items, the most popular first."""


@dataclass(frozen=True)
class Recommended(Predictions):
    """Items for users. `values` are their scores, (N, k), the best first; -infinity where there are no more items."""

    items: np.ndarray
    """(N, k) codes."""

    def take(self, rows: np.ndarray) -> Recommended:
        """For some users."""
        return Recommended(self.values[rows], self.items[rows])


class Recommendation(Task):
    """Which items a user will like. Rows are interactions of a user with an item.

    The truth of a row is its user, its item and its rating, (N, 3) float64. Users and items are codes from 1 on; those
    that training did not meet have codes behind the last one, in the order in which they occur.
    """

    name: ClassVar[str] = "recommendation"
    from_source: ClassVar[Examples] = interactions.Interactions()
    needs_target: ClassVar[bool] = False
    answers: ClassVar[str | tuple[str, ...]] = ("scores", "next_items")
    outputs = 1
    recommender: ClassVar[type[Recommender]] = Recommender
    ranks: ClassVar[bool]
    """Whether networks are to rank all items, and not to predict ratings."""

    def __init__(self, schema: Schema, settings: RecommendationRecipe) -> None:
        self.schema, self.settings, self.top = schema, settings, settings.top
        self.keys = {side: cast("Category", schema[getattr(settings, side)].fitted) for side in SIDES}
        self.columns: list[tuple[Tensor, Tensor]] = [_nothing(schema, side) for side in SIDES]
        self.blocks: Mapping[str, np.ndarray] = {}
        self.pairs: dict[str, np.ndarray] = {}
        self.counts = {"learned": 0, "held": 0}
        self.lacking: frozenset[str] = frozenset()
        self.names: dict[str, str] = {}
        self.cold: dict[str, int] = {}
        self.rows = 0
        self.asked_for: list[str] | None = None

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Whatever has users and items."""
        return "users are to be recommended items"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """The one for ratings where a target is named, or one for choices: see `recommendation.feedback`."""
        from sounding.tasks.feedback import Choices, Ratings  # subclasses of this
        from sounding.tasks.histories import Histories

        task: Recommendation
        if interactions.reads_histories(recipe):
            task = Histories.by(schema, recipe)
        elif interactions.is_implicit(schema, recipe):
            task = Choices(schema, recipe.recommendation)
        else:
            task = Ratings(schema, recipe.recommendation)
        return cast("Self", task)

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """With what stands in its rows."""
        task = copy.copy(self)
        task.blocks = encoded.blocks
        task.names = interactions.names_of(table, self.schema, self.settings.item)
        task.cold = {side: int((encoded.blocks[f"{side}:categories"][:, 0] == 0).sum()) for side in SIDES}
        task.rows = len(table)
        return task

    def noticed(self) -> list[Finding]:
        """Users and items that training did not meet, and what answers for them."""
        found = []
        for side, count in self.cold.items():
            if not count or (side == "item" and self.asked_for is not None):
                continue
            told = [field.name for field in self.schema.inputs if field.side == side][1:]
            said = (
                f"their columns: {', '.join(told[:6])}{', ...' * (len(told) > 6)}"
                if told
                else "what all have in common"
            )
            found.append(
                Finding(
                    rule=f"cold-{side}s",
                    severity="info",
                    title=f"{count} of {self.rows} rows are of {side}s new to the network: answered from {said}",
                    evidence={"rows": count, "of": self.rows, "columns": told},
                )
            )
        if self.ranks and self.cold["item"] and self.asked_for is None:
            found.append(
                Finding(
                    rule="items-without-rank",
                    severity="info",
                    title=f"{self.cold['item']} rows count as missed: their items cannot be ranked",
                    evidence={"rows": self.cold["item"]},
                )
            )
        return found

    def keeping(self, rows: np.ndarray) -> Self:
        """With the columns of every user and item by its code, as its first training row has them."""
        task = copy.copy(self)
        task.columns = [_kept(self.blocks, rows, side, pair) for side, pair in zip(SIDES, self.columns, strict=True)]
        return task

    def knowing(self, truth: np.ndarray) -> Self:
        """With what users met in the training rows, which is not recommended to them again."""
        task = copy.copy(self)
        task.pairs = {"learned": truth[:, :RATING].astype(np.int64)}
        task.counts = {"learned": len(truth), "held": 0}
        return task

    def around(self, network: nn.Module) -> nn.Module:
        """With all items to choose from, and what users have met."""
        recommender = self.recommender(network, self.ranks, self.columns, **self.counts)
        for name, pairs in self.pairs.items():
            getattr(recommender, name).set(*pairs.T)
        return recommender

    def calibrated(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray, rows: np.ndarray) -> Self:
        """With what users met in the validation rows, which is not recommended to them again either."""
        pairs = self._known(truth)[:, :RATING].astype(np.int64)
        cast("Recommender", network).held.set(*pairs.T)
        task = copy.copy(self)
        task.pairs = {**self.pairs, "held": pairs}
        task.counts = {**self.counts, "held": len(pairs)}
        return task

    def _known(self, truth: np.ndarray) -> np.ndarray:
        """The rows whose user and item training met."""
        return truth[(truth[:, USER] < self._codes("user")) & (truth[:, ITEM] < self._codes("item"))]

    def learned(self) -> dict[str, Any]:
        """How many interactions go with the network."""
        return dict(self.counts)

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse of `learned`."""
        task = copy.copy(self)
        task.counts = {name: int(learned[name]) for name in self.counts}
        return task

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N, 3): user, item, and rating, which is 1 where there is none."""
        codes = []
        for side in SIDES:
            column = self.schema[getattr(self.settings, side)].column(table)
            own = encoded.blocks[f"{side}:categories"][:, 0].astype(np.int64)
            unknown = np.flatnonzero(own == 0)
            words = np.asarray(column.words.take(unknown).to_numpy(zero_copy_only=False), dtype=object)
            place: dict[str, int] = {}
            own[unknown] = [place.setdefault(word, self._codes(side) + len(place)) for word in words]
            codes.append(own.astype(np.float64))
        return np.stack([*codes, self._ratings(table)], 1)

    def _ratings(self, table: Table) -> np.ndarray:
        return np.ones(len(table))

    def _codes(self, side: str) -> int:
        return len(self.keys[side].classes) + 1

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N, 3) float64: codes are exact."""
        return torch.from_numpy(truth)

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """As it is."""
        return target.cpu().numpy()

    def asked_of(self, table: Table) -> tuple[Task, Table]:
        """Items for each user where the column of items is lacking; columns of known users and items may be, too."""
        user, item = self.settings.user, self.settings.item
        if user not in table.columns:
            raise DataError(f'the column "{user}" is not here', "give a row for each user", file=table.name)
        task = copy.copy(self)
        if item not in table.columns:
            task.asked_for = [str(word) for word in self.schema[user].column(table).words.to_pylist()]
        completed, task.lacking = interactions.with_columns(table, self.schema)
        return task, completed

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 512) -> Predictions:
        """As every task; or, where items are asked for, `Recommended`."""
        recommender = cast("Recommender", network)
        for at, side in enumerate(SIDES):
            if side in self.lacking:
                inputs = _filled(recommender, inputs, at, side)
        if self.asked_for is None:
            return super().predict(network, inputs, batch_size)
        network.eval()
        device = next(network.parameters()).device
        found = []
        with torch.inference_mode():
            for at in range(0, max(len(inputs[0]), 1), batch_size):
                numbers, categories = (tensor[at : at + batch_size].to(device) for tensor in inputs[:2])
                found.append([part.cpu() for part in recommender.recommend(numbers, categories, self.top)])
        items, scores = (torch.cat(parts).numpy() for parts in zip(*found, strict=True))
        return Recommended(self._shown(scores.astype(np.float64)), items)

    def _shown(self, scores: np.ndarray) -> np.ndarray:
        return scores

    def decide(self, predictions: Predictions) -> np.ndarray:
        """Names of items, (N, k), none where there are no more; or the values themselves."""
        if isinstance(predictions, Recommended):
            names = self.keys["item"].decode(predictions.items).astype(object)
            names[~np.isfinite(predictions.values)] = None
            return names
        return predictions.values

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """`user`, `rank`, `item` and `score`, a row for each item that is recommended."""
        if not isinstance(predictions, Recommended):
            return {("rank" if self.ranks else "prediction"): predictions.values + self.ranks}
        there = np.isfinite(predictions.values)
        rows, ranks = np.nonzero(there)
        users = np.asarray(self.asked_for, dtype=object)
        return {
            self.settings.user: users[rows],
            "rank": ranks + 1,
            self.settings.item: self.decide(predictions)[there],
            "score": predictions.values[there],
        }

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Some users of the test rows: what they met before, what is recommended to them, and what they then met."""
        drawn = self.figures(predictions, truth)
        known = truth[:, USER] < self._codes("user")
        users, first, counts = np.unique(truth[known, USER], return_index=True, return_counts=True)
        if not len(users):
            return drawn
        chosen = np.sort(
            first[np.argsort(-counts, kind="stable")][np.linspace(0, len(users) - 1, MOST_USERS).astype(int)]
        )
        rows = np.flatnonzero(known)[np.unique(chosen)]
        task = copy.copy(self)
        task.asked_for = [""]
        recommended = cast("Recommended", task.predict(network, tuple(tensor[rows] for tensor in inputs)))
        drawn["recommended"] = [
            self._one(int(truth[row, USER]), recommended.take(np.array([at])), truth) for at, row in enumerate(rows)
        ]
        some = first[evenly(len(first), MOST_LISTS)]
        lists = cast(
            "Recommended", task.predict(network, tuple(tensor[np.flatnonzero(known)[some]] for tensor in inputs))
        )
        met = np.bincount(self.pairs["learned"][:, ITEM], minlength=self._codes("item"))[1:]
        advised = np.bincount(lists.items[np.isfinite(lists.values)], minlength=self._codes("item"))[1:]
        drawn["popularity"] = by_popularity(met, advised) | {"lists": len(some)}
        return drawn

    def _one(self, user: int, recommended: Recommended, truth: np.ndarray) -> dict[str, Any]:
        def names(codes: np.ndarray) -> list[str]:
            return [self.names.get(word, word) for word in self.keys["item"].decode(codes.astype(np.int64))]

        before = np.concatenate([pairs[pairs[:, USER] == user, ITEM] for pairs in self.pairs.values()])
        then = truth[truth[:, USER] == user, ITEM]
        there = np.isfinite(recommended.values[0])
        items, scores = recommended.items[0][there], recommended.values[0][there]
        return {
            "user": self.keys["user"].classes[user - 1],
            "before": names(before[: -MOST_HISTORY - 1 : -1]),
            "count": len(before),
            "then": len(then),
            "items": [
                {"item": name, "score": score, "met": bool(met)}
                for name, score, met in zip(names(items), scores, np.isin(items, then), strict=True)
            ],
        }


def by_popularity(met: np.ndarray, advised: np.ndarray) -> dict[str, Any]:
    """How much of what was met, and of what is recommended, are the most popular items.

    met, advised: (items,) how often each was met by users in the training rows, and is in lists that are recommended.

    >>> found = by_popularity(np.array([1, 6, 3]), np.array([0, 4, 0]))
    >>> found["met"][-1], found["advised"][-1], round(found["covered"], 2)
    (1.0, 1.0, 0.33)
    """
    order = np.argsort(-met, kind="stable")
    count = np.unique(np.ceil(np.array(SHARES) * len(met)).astype(int))
    met_so_far, advised_so_far = (np.cumsum(of[order]) / max(of.sum(), 1) for of in (met, advised))
    return {
        "items": [float(one) for one in count / len(met)],
        "met": [float(one) for one in met_so_far[count - 1]],
        "advised": [float(one) for one in advised_so_far[count - 1]],
        "covered": float((advised > 0).mean()),
    }


def _nothing(schema: Schema, side: str) -> tuple[Tensor, Tensor]:
    """Numbers and categories by code, all 0 but the code itself."""
    by_form = {block.form: block for block in schema.blocks() if block.side == side}
    numbers, categories = by_form.get("numbers"), by_form["categories"]
    codes = categories.cardinalities[0]
    kept = torch.zeros(codes, len(categories.columns), dtype=torch.int32)
    kept[:, 0] = torch.arange(codes)
    return torch.zeros(codes, len(numbers.features) if numbers else 0), kept


def _kept(
    blocks: Mapping[str, np.ndarray], rows: np.ndarray, side: str, nothing: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The same, with what stands in the first of these rows for each code; 0 is that of none."""
    numbers, categories = (tensor.clone() for tensor in nothing)
    codes, first = np.unique(blocks[f"{side}:categories"][rows, 0], return_index=True)
    first, codes = rows[first[codes > 0]], codes[codes > 0]
    for tensor, form in ((numbers, "numbers"), (categories, "categories")):
        if f"{side}:{form}" in blocks:
            tensor[torch.from_numpy(codes).long()] = torch.from_numpy(blocks[f"{side}:{form}"][first])
    return numbers, categories


def _filled(network: Recommender, inputs: tuple[Tensor, ...], at: int, side: str) -> tuple[Tensor, ...]:
    """Inputs with what is kept of known users, or items, in place of columns that are lacking."""
    numbers, categories = network.columns(side)
    codes = inputs[2 * at + 1][:, 0].long()
    filled = [*inputs]
    filled[2 * at : 2 * at + 2] = numbers.cpu()[codes], categories.cpu()[codes]
    return tuple(filled)
