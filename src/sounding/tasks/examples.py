"""From a source to examples: which columns and rows a task takes, before anything is encoded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from sounding.data import windows
from sounding.data.schema import Schema
from sounding.data.split import Split
from sounding.data.table import Table
from sounding.finding import Finding
from sounding.kinds import Column, Kind
from sounding.recipe import DataRecipe, Recipe


class Examples:
    """A row is an example, its columns are recognised one by one, and the split is that of `make_split`.

    What follows in this order is asked before a task exists, by `prepare`. A task whose examples are anything else has
    a subclass as its `from_source`, with the methods that differ.
    """

    ordered: ClassVar[bool] = False
    """Whether rows follow each other in time, and an example is a row with those before and after it: then all are
    held, what is named as the target is learned, and there may be no other columns."""
    learns_target: ClassVar[bool] = False
    """Whether the network learns from a target that the task does not need, where one is named."""

    def are_meant_by(self, targets: Sequence[Column]) -> bool:
        """Whether such targets leave no doubt of the task before columns are recognised."""
        return False

    def settled(self, asked: Recipe) -> Recipe:
        """What is asked, and what follows from the task before the data are looked at.

        Raises:
            RecipeError: for settings that the task needs and that are not there.
        """
        return asked

    def targets_of(self, table: Table, named: Sequence[str], recipe: Recipe) -> list[str]:
        """The target columns, from what is named as such."""
        return list(named)

    def cuts(self, recipe: Recipe) -> bool:
        """Whether the rows of a source are no examples yet, so that all of them are read and cut."""
        return recipe.data.window > 0

    def cut(self, table: Table, recipe: Recipe, target: Sequence[str], held_out: Mapping[str, float] | None) -> Table:
        """The examples of a source that is cut: the windows of a long table.

        held_out: part of the split to its fraction, for tasks that divide what they cut; none where all rows are one
                  part, as in a prediction.
        """
        return windows.cut(table, recipe.data, target)

    def of_examples(self, data: DataRecipe, table: Table) -> DataRecipe:
        """Settings for the table of what was cut, from those for the source."""
        return windows.of_windows(data)

    def gathered(self, table: Table, asked: Recipe) -> Table:
        """A table, with what further sources say of its rows."""
        return table

    def reads(self, table: Table, target: Sequence[str], data: DataRecipe) -> DataRecipe:
        """Settings by which columns are recognised."""
        return data

    def narrowed(
        self, table: Table, schema: Schema, split: Split, recipe: Recipe
    ) -> tuple[Split, dict[str, Any], list[str]]:
        """The rows to learn from, to choose by and to measure on; settings that follow; and why, a line each.

        schema: not fitted yet.
        """
        return split, {}, []

    def arranged(
        self, table: Table, schema: Schema, rows: np.ndarray, asked: Recipe
    ) -> tuple[Schema, dict[str, Kind], list[Finding]]:
        """The columns as the task takes them, by the training rows; what of them is fitted already; what is odd."""
        return schema, {}, []
