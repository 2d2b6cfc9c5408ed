"""What a simple model learns from, and what it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.kinds import Encoded
from sounding.randomness import generator
from sounding.tasks import Task


class Model(Protocol):
    """A simple model: learns, and says something about every row."""

    def __call__(self, problem: Problem) -> tuple[np.ndarray, str] | None:
        """Values for all rows as in `Predictions`, and what was limited; none where it does not apply."""


@dataclass(frozen=True)
class Problem:
    """What a simple model learns from."""

    task: Task
    table: Table
    schema: Schema
    split: Split
    encoded: Encoded
    target: np.ndarray
    seed: int

    @cached_property
    def weight(self) -> np.ndarray | None:
        """(N,), if rows have weights."""
        return self.schema.encode_weight(self.table)

    def training_rows(self, most: int) -> np.ndarray:
        """The training rows, or a random part of them."""
        rows = self.split.train
        if len(rows) <= most:
            return rows
        return np.sort(generator(self.seed, "baseline", "rows").choice(rows, size=most, replace=False))
