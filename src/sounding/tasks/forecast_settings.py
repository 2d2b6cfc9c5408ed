"""What is forecast, how far, and from how much, where the settings do not say; and whether what they say can be met."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sounding.data.ordered import find_season, in_order, parts_in_time
from sounding.data.schema import Schema
from sounding.data.split import PARTS, Split
from sounding.data.table import Table
from sounding.errors import DataError, RecipeError, nearest
from sounding.finding import Finding
from sounding.kinds import Column, Kind, Number, recognise
from sounding.kinds.number import numbers_in
from sounding.recipe import ForecastingRecipe, Recipe
from sounding.tasks.examples import Examples

EVERY = "*"
"""As a target: every column of numbers."""
MOST_CELLS = 20_000_000
"""Windows times targets times steps that a part measures on where no stride is set; some gigabytes of memory."""
NO_SEASON = 12
"""Steps that are forecast where neither horizon nor season is known."""


class RowsInTime(Examples):
    """Every row of series in order may be the last one that is known."""

    ordered: ClassVar[bool] = True

    def targets_of(self, table: Table, named: Sequence[str], recipe: Recipe) -> list[str]:
        """The columns that are named; every one of numbers for `*` or none.

        Raises:
            DataError: if there is none.
            RecipeError: if the table was to be cut into windows.
        """
        if recipe.data.window:
            what = "data.window cuts a long table into examples, and forecasting does so itself"
            raise RecipeError(what, "set forecasting.history instead")
        if named and EVERY not in named:
            return list(named)
        data = recipe.data
        aside = {data.time, data.group, data.weight, *data.ignore, *recipe.forecasting.known}
        numbers = [name for name in table.columns if name not in aside]
        found = [name for name in numbers if recognise(table.column(name, data))[0] == "number"]
        if not found:
            raise DataError("there is no column of numbers to forecast", "name one with --target", file=table.name)
        return found

    def narrowed(
        self, table: Table, schema: Schema, split: Split, recipe: Recipe
    ) -> tuple[Split, dict[str, Any], list[str]]:
        """Rows by time; season, horizon and history; and how they were found, a line each.

        schema: not fitted yet.

        Raises:
            RecipeError: for settings that cannot be met.
            DataError: for rows that have no place in the order.
        """
        rules, data = recipe.forecasting, recipe.data
        refuse(rules, [field.name for field in schema.inputs])
        ordered = in_order(table, data)
        values = np.stack([_values(field.column(table), field.kind) for field in schema.targets], 1)[ordered.rows]
        fractions = {"validation": data.validation, "test": data.test}
        part, notes = parts_in_time(table, ordered, fractions, max(rules.horizon, 1))
        trained = np.where((part == 0)[:, None], values, np.nan)
        season = rules.season or find_season(trained, ordered.starts)
        horizon = rules.horizon or (season if season > 1 else NO_SEASON)
        if not rules.horizon:
            part, notes = parts_in_time(table, ordered, fractions, horizon)
        longest = int(np.bincount(ordered.series[part == 0], minlength=1).max())
        history = rules.history or max(min(max(7 * horizon // 2, 2 * season), (longest - horizon) // 2), 1)
        if rules.known:  # what is known in the future passes through the history
            history = max(history, horizon)
        largest = int(np.bincount(part[part > 0], minlength=1).max()) * values.shape[1] * horizon
        stride = rules.stride or -(-largest // MOST_CELLS) or 1
        lines = [
            f"{horizon} steps are forecast from {history}"
            + (f"; a season takes {season}" if season > 1 else "; no season")
            + (f"; {len(ordered.names):,} series" if len(ordered.names) > 1 else "")
            + (f"; measured from one row in {stride}" if stride > 1 else "")
        ]
        rows = [np.sort(ordered.rows[part == at]).astype(np.int64) for at in range(len(PARTS))]
        follows: dict[str, Any] = {
            "forecasting.horizon": horizon,
            "forecasting.history": history,
            "forecasting.season": season,
            "forecasting.stride": stride,
        }
        return Split(*rows), follows, [*notes, *lines]

    def arranged(
        self, table: Table, schema: Schema, rows: np.ndarray, asked: Recipe
    ) -> tuple[Schema, dict[str, Kind], list[Finding]]:
        """The targets, fitted on those training rows that have a value.

        Raises:
            DataError: for a target without a value in the training rows, or that is the same in all.
        """
        known, findings = dict[str, Kind](), list[Finding]()
        for field in schema.targets:
            column = field.column(table)
            there = rows[column.present[rows]]
            if not len(there):
                raise column.error("there is no value in the training rows", "leave this column out")
            if field.kind == Number.name:
                present = np.flatnonzero(column.present)
                places = np.searchsorted(present, there)
                known[field.name], told = Number.fit_target(column.take(present), places, asked.data)
                findings += told
        return schema, known, findings


def _values(column: Column, kind: str) -> np.ndarray:
    """(N,) float64: numbers as they are written; NaN where words are the target, which is refused later."""
    return numbers_in(column)[0] if kind == Number.name else column.numbers


def refuse(rules: ForecastingRecipe, inputs: Sequence[str]) -> None:
    """See that the settings can be met.

    Raises:
        RecipeError: naming the first that cannot.
    """
    for key in ("horizon", "history", "season", "stride"):
        if getattr(rules, key) < 0:
            raise RecipeError(f"forecasting.{key} is {getattr(rules, key)}", "give 1 or more, or 0 to have it chosen")
    levels = rules.quantiles
    if any(not 0 < level < 1 for level in levels) or sorted(set(levels)) != levels:
        raise RecipeError(f"forecasting.quantiles are {levels}", "give rising numbers between 0 and 1: [0.1, 0.5, 0.9]")
    for name in rules.known:
        if name not in inputs:
            what = f'forecasting.known names "{name}", which is no input'
            raise RecipeError(what, nearest(name, inputs) if inputs else "there are no columns beside the targets")
    if rules.known and 0 < rules.history < rules.horizon:
        what = f"forecasting.history is {rules.history}, shorter than the horizon of {rules.horizon}"
        raise RecipeError(what, "make it as long: columns that are known in the future pass through it")
