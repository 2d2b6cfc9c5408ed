from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sounding.data.schema import Schema
from sounding.data.split import Split, make_split
from sounding.data.table import Table
from sounding.kinds import Encoded
from sounding.recipe import Recipe
from sounding.tasks import TASKS, Task, choose_task

torch.set_num_threads(1)


@dataclass(frozen=True)
class Case:
    """A small table with all that is known before the first step."""

    table: Table
    schema: Schema
    split: Split
    encoded: Encoded
    recipe: Recipe
    task: Task
    truth: np.ndarray


MakeCase = Callable[..., Case]


@pytest.fixture
def make_case() -> MakeCase:
    """From columns to a case; the target is `y` unless it is said."""

    def make(
        columns: Mapping[str, Any],
        target: Sequence[str] = ("y",),
        parts: Mapping[str, range] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Case:
        recipe = Recipe().with_settings(settings or {})
        table = Table(pa.table(dict(columns)), "t.csv", parts=parts or {})
        schema = Schema.infer(table, recipe.data, list(target), TASKS.get(recipe.task, Task).target_kind)
        split, _ = make_split(table, schema, recipe.data, recipe.seed)
        schema, _ = schema.fit(table, split.train, recipe.data)
        task = TASKS[choose_task(schema, recipe.task)[0]].for_schema(schema, recipe)
        encoded = schema.encode(table)
        truth = task.encode_target(table, encoded)
        task = task.knowing(truth[split.train])
        return Case(table, schema, split, encoded, recipe, task, truth)

    return make


@pytest.fixture
def columns() -> Callable[..., dict[str, Any]]:
    """A number and a category that tell something about two classes, three, an amount and two flags."""

    def make(target: str = "", count: int = 200, seed: int = 0) -> dict[str, Any]:
        draw = np.random.default_rng(seed)
        x, colour = draw.normal(size=count), draw.choice(["red", "green", "blue"], size=count)
        score = x + (colour == "red") + draw.normal(size=count) * 0.5
        targets = {
            "two": np.where(score > 0.3, "yes", "no"),
            "three": np.where(score > 1, "large", np.where(score > 0, "medium", "small")),
            "amount": 1000 + 50 * score,
            "wet": np.where(score + draw.normal(size=count) * 0.3 > 0, "yes", "no"),
            "cold": np.where(x > 0, "yes", "no"),
        }
        return {"x": x, "colour": colour} | ({"y": targets[target]} if target else targets)

    return make
