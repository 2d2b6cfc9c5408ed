"""What a column can be that is to be predicted."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection
from typing import ClassVar, Self

import numpy as np

from sounding.finding import Finding
from sounding.kinds.kind import Column, Kind
from sounding.recipe import DataRecipe


class Target(Kind):
    """A kind whose values can be a truth, too: complete, and in a form of their own where the input's would not do."""

    looks_like: ClassVar[str] = ""
    """The kind that such a column is taken for as an input, where it is another."""

    @classmethod
    def fit_target(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """As `fit`, for a column to predict.

        Raises:
            DataError: for values that are missing in any row, or where there is nothing to predict.
        """
        return cls.fit(column, rows, settings)

    def unnamed(self, column: Column, labels: Collection[str]) -> set[str]:
        """Of the values that `data.labels` names, those that are none of such a column; all where it has no classes."""
        return set(labels)

    @abstractmethod
    def encode_target(self, column: Column) -> np.ndarray:
        """(N, ...): the truth of all rows, as the kind says.

        Raises:
            DataError: naming the first cell that is missing, or that training knew nothing of.
        """
