"""What comes next in one or many series, with intervals."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import Batch
from sounding.data.ordered import times_after
from sounding.data.schema import Schema
from sounding.data.split import PARTS, Split
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Block, Encoded, Number
from sounding.randomness import generator
from sounding.recipe import ForecastingRecipe, Recipe
from sounding.tasks.examples import Examples
from sounding.tasks.forecast_drawing import drawn
from sounding.tasks.forecast_metrics import by_cell, measured, middle_of, resampled, seasonal_scale, widening
from sounding.tasks.forecast_settings import RowsInTime
from sounding.tasks.forecast_windows import Windows, covariates_of, read_windows
from sounding.tasks.task import Predictions, Task, weighted_mean


@dataclass(frozen=True)
class Forecasts(Predictions):
    """What comes after some rows. `values` are (N, targets, horizon, 1 + quantiles): the mean, then each quantile."""

    rows: np.ndarray
    """(N,) the last known row of each."""

    def take(self, rows: np.ndarray) -> Forecasts:
        """Of some rows."""
        return Forecasts(self.values[rows], self.rows[rows])


class Forecasting(Task):
    """What comes next in one or many series, all in one long table.

    An example is a row, the last one that is known: the network sees the `history` rows up to it, and says the
    `horizon` rows after it. The truth of a row is its number, by which what comes after it is looked up; so windows
    that overlap are never copied. What trains ends before the first validation row, what validates before the first
    test row; windows may look back into the part before.
    """

    name: ClassVar[str] = "forecasting"
    from_source: ClassVar[Examples] = RowsInTime()
    target_kind: ClassVar[str] = "number"
    needs_target: ClassVar[bool] = False
    answers: ClassVar[str] = "forecasts"
    monitor: ClassVar[str] = "standardised_mse"
    watched: ClassVar[tuple[str, ...]] = ("standardised_mse", "standardised_mae")
    headline = "mase"
    higher_is_better = False
    reason = "mase is the mean absolute error, divided by that of repeating the season before in the training rows"

    windows: Windows

    def __init__(self, schema: Schema, recipe: Recipe) -> None:
        self.schema, self.recipe = schema, recipe
        self.rules: ForecastingRecipe = recipe.forecasting
        self.outputs = 1 + len(self.rules.quantiles)
        numbers = [(field.name, field.fitted) for field in schema.targets]
        self.numbers = {name: number for name, number in numbers if isinstance(number, Number)}
        self.mean = np.array([number.mean for number in self.numbers.values()])
        self.deviation = np.array([number.std for number in self.numbers.values()])
        self.scales: dict[str, np.ndarray] = {}
        self.widening = 1.0

    @classmethod
    def claims(cls, schema: Schema) -> str | None:
        """Targets of numbers."""
        targets = schema.targets
        if not targets or any(field.kind != "number" for field in targets):
            return None
        return f"what comes next is asked for, of {', '.join(field.name for field in targets)}"

    @classmethod
    def for_schema(cls, schema: Schema, recipe: Recipe) -> Self:
        """Means and deviations of the training rows are in the schema."""
        return cls(schema, recipe)

    @classmethod
    def blocks_of(cls, schema: Schema, recipe: Recipe) -> list[Block]:
        """One block: the targets, then the covariates, those that are known in the future last."""
        rules, names = recipe.forecasting, tuple(field.name for field in schema.targets)
        covariates = covariates_of(schema, rules.known)
        return [
            Block(
                "history",
                "series",
                names + tuple(name for name, _, _ in covariates),
                channels=len(names) + sum(width for _, width, _ in covariates),
                length=rules.history,
                targets=len(names),
                horizon=rules.horizon,
            )
        ]

    def reading(self, table: Table, encoded: Encoded) -> Self:
        """This task with the values of a table in order.

        Raises:
            DataError: for a covariate that is not known as far as needed.
        """
        task = copy(self)
        task.windows = read_windows(table, self.schema, encoded, self.recipe)
        return task

    def noticed(self) -> Sequence[Finding]:
        """Gaps in time, and values that are missing."""
        return (*self.windows.ordered.findings, *self.windows.findings)

    def usable(self, split: Split) -> Split:
        """Rows whose history is whole and whose future lies within one part.

        Raises:
            DataError: if a part has no such row.
        """
        ordered, horizon = self.windows.ordered, self.windows.horizon
        part = np.empty(len(ordered.rows), dtype=np.int64)
        for at, rows in enumerate(split.parts.values()):
            part[ordered.places[rows]] = at
        place = np.flatnonzero(self.windows.complete())
        first, last = part[place + 1], part[place + horizon]
        within = [place[(first == at) & (last == at)] for at in range(len(PARTS))]
        spaced = [within[0], *(self.windows.spaced(places, self.rules.stride) for places in within[1:])]
        rows_of = [np.sort(ordered.rows[places]) for places in spaced]
        for name, given, rows in zip(PARTS, split.parts.values(), rows_of, strict=True):
            if len(given) and not len(rows):
                longest = int(np.bincount(ordered.series[ordered.places[given]]).max())
                raise DataError(
                    f"no window fits into the {name} rows: the longest series has {longest} of them, and a window "
                    f"takes {self.windows.history} before and {horizon} that are forecast",
                    "set a shorter forecasting.history or forecasting.horizon, or give more rows",
                )
        return Split(*(rows.astype(np.int64) for rows in rows_of))

    def knowing(self, truth: np.ndarray) -> Self:
        """The scale of MASE for each series, from the rows that training sees."""
        task, ordered = copy(self), self.windows.ordered
        places = ordered.places[truth]
        last = np.full(len(ordered.names), -1)
        np.maximum.at(last, ordered.series[places], places + self.windows.horizon)
        task.scales = {
            name: seasonal_scale(self.windows.values[begin : end + 1], self.rules.season)
            for name, begin, end in zip(ordered.names, ordered.starts[:-1], last, strict=True)
        }
        return task

    def calibrated(self, network: nn.Module, inputs: tuple[Tensor, ...], truth: np.ndarray, rows: np.ndarray) -> Self:
        """By how much intervals are to be wider or narrower, so that they hold their share of the validation rows.

        Source: Romano et al. 2019, arXiv:1905.03222, with one factor for all steps, as windows are few and overlap.
        """
        task, levels = copy(self), self.rules.quantiles
        if len(truth) and len(levels) > 1:
            values = self.predict(network, inputs).values
            task.widening = widening(values[..., 1:], self.windows.future(truth), levels[-1] - levels[0])
        return task

    def learned(self) -> dict[str, Any]:
        """The scales of MASE, and by how much intervals are wider than the network says."""
        known = {name: [None if np.isnan(one) else one for one in scale] for name, scale in self.scales.items()}
        return {"scales": known, "widening": self.widening}

    def with_learned(self, learned: Mapping[str, Any]) -> Self:
        """The inverse of `learned`."""
        task = copy(self)
        task.scales = {name: np.array(scale, dtype=np.float64) for name, scale in learned["scales"].items()}
        task.widening = float(learned["widening"])
        return task

    def scale(self, rows: np.ndarray) -> np.ndarray:
        """(N, targets): the scale of MASE at some rows; that of a series without one is the mean of the others."""
        ordered, nothing = self.windows.ordered, np.full(len(self.mean), np.nan)
        known = np.array([self.scales.get(name, nothing) for name in ordered.names])
        others = np.array(list(self.scales.values())) if self.scales else nothing[None]
        there = np.isfinite(others)
        usual = np.divide(np.where(there, others, 0.0).sum(0), there.sum(0), out=nothing.copy(), where=there.sum(0) > 0)
        scales: np.ndarray = np.where(np.isfinite(known), known, usual)[ordered.series[ordered.places[rows]]]
        return scales

    def encode_target(self, table: Table, encoded: Encoded) -> np.ndarray:
        """(N,) int64: the numbers of the rows."""
        return np.arange(len(table), dtype=np.int64)

    def inputs_of(self, inputs: tuple[Tensor, ...], rows: np.ndarray) -> tuple[Tensor, ...]:
        """The numbers of the rows: what the network sees of them is looked up batch by batch."""
        return (torch.from_numpy(rows),)

    def trim(self, batch: Batch) -> Batch:
        """Windows instead of the numbers of their rows."""
        (rows,) = batch.inputs
        goals = self.windows.goals(rows)
        return batch._replace(inputs=(self.windows.inputs(rows),), target=goals)

    def asked(self) -> np.ndarray:
        """The last row of each series.

        Raises:
            DataError: if none is long enough, or what is known in the future ends too early.
        """
        rows, windows = self.windows.last_rows(), self.windows
        if not len(rows):
            raise DataError(f"no series has the {windows.history} rows that a forecast needs", "give more rows")
        ordered = windows.ordered
        lacking = ordered.starts[ordered.series[ordered.places[rows]] + 1] - ordered.places[rows] - 1 < windows.horizon
        if windows.known and lacking.any():
            name = ordered.names[int(ordered.series[ordered.places[rows[int(lacking.argmax())]]])]
            raise DataError(
                f"{', '.join(self.rules.known)} must be known for {windows.horizon} steps after the last target"
                + (f" of series {name}" if name else ""),
                "add rows for these times, with empty targets",
            )
        return rows

    def measurable(self) -> np.ndarray:
        """Rows with a whole history and a whole future, as far apart as the test rows were."""
        places = self.windows.spaced(np.flatnonzero(self.windows.complete()), self.rules.stride)
        rows = np.sort(self.windows.ordered.rows[places])
        if not len(rows):
            taken = self.windows.history + self.windows.horizon
            raise DataError(f"no series has the {taken} rows that a window takes", "give more rows")
        return np.asarray(rows)

    def to_tensor(self, truth: np.ndarray) -> Tensor:
        """(N,) int64."""
        return torch.from_numpy(truth)

    def from_tensor(self, target: Tensor) -> np.ndarray:
        """(N,) int64."""
        return target.cpu().numpy()

    def loss(self, outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The squared error of the mean, and the pinball losses of the quantiles, in standardised units.

        outputs: (B, targets, horizon, 1 + quantiles).
        target:  (B, targets, horizon); what is NaN does not count.
        Source:  Koenker and Bassett 1978 for the loss of quantiles.
        """
        there = target.isfinite()
        target = torch.where(there, target, 0.0)
        share = there.to(outputs.dtype).mean((1, 2)).clamp(min=torch.finfo(outputs.dtype).tiny)
        losses = ((outputs[..., 0] - target).square() * there).mean((1, 2))
        if self.rules.quantiles:
            levels = outputs.new_tensor(self.rules.quantiles)
            under = target[..., None] - outputs[..., 1:]
            pinball = torch.maximum(levels * under, (levels - 1) * under) * there[..., None]
            losses = losses + pinball.mean((1, 2, 3))
        return weighted_mean(losses / share, weight)

    def decode(self, outputs: Tensor) -> Predictions:
        """In the user's units; quantiles that cross are put in order (Chernozhukov et al. 2010)."""
        values = outputs.detach().double().cpu().numpy() * self.deviation[:, None, None] + self.mean[:, None, None]
        values[..., 1:].sort(-1)
        if self.widening != 1.0:
            middle = middle_of(values[..., 1:])
            values[..., 1:] = middle + self.widening * (values[..., 1:] - middle)
        return Predictions(values)

    def predict(self, network: nn.Module, inputs: tuple[Tensor, ...], batch_size: int = 512) -> Forecasts:
        """What comes after some rows, looked up batch by batch."""
        network.eval()
        device = next(iter(network.parameters())).device
        (rows,) = inputs
        with torch.inference_mode():
            outputs = [
                network(self.windows.inputs(rows[at : at + batch_size].to(device))).float().cpu()
                for at in range(0, max(len(rows), 1), batch_size)
            ]
        return Forecasts(self.decode(torch.cat(outputs)).values, rows.numpy())

    def decide(self, predictions: Predictions) -> np.ndarray:
        """(N, targets, horizon) means, or (N, horizon) of a single target."""
        means = predictions.values[..., 0]
        return np.asarray(means[:, 0] if means.shape[1] == 1 else means)

    def cells(self, values: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
        """What the metrics are means of; see `forecast_metrics.by_cell`."""
        return by_cell(values, self.windows.future(truth), self.scale(truth), self.deviation, self.rules.quantiles)

    def measure(
        self,
        values: np.ndarray,
        truth: np.ndarray,
        weight: np.ndarray | None = None,
        /,
        *,
        names: Collection[str] = (),
    ) -> dict[str, Any]:
        """MASE, MAE, RMSE and sMAPE in percent, errors on standardised data, and the coverage of the interval."""
        return measured(self.cells(values, truth), weight, names)

    def validation_metrics(self, outputs: Tensor, target: Tensor) -> dict[str, float]:
        """Errors on standardised data."""
        away = (outputs[..., 0].double() - target.double())[target.isfinite()]
        return {"standardised_mse": float(away.square().mean()), "standardised_mae": float(away.abs().mean())}

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
        """See `Task.resampled`, and `forecast_metrics.resampled`."""
        if not len(truth):
            return {}
        cells, places = self.cells(predictions.values, truth), self.windows.future_places(truth)
        times = self.windows.ordered.times[places]  # of all series at once: they may share what moves them
        return resampled(cells, times, self.windows.horizon, samples, generator(seed, "bootstrap", len(truth)), names)

    def row_losses(self, predictions: Predictions, truth: np.ndarray) -> np.ndarray:
        """(N,) the scaled error of each row."""
        return np.asarray(self.cells(predictions.values, truth)["mase"].mean(1))

    def worst(self, predictions: Predictions, truth: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """None: forecasts are drawn, not listed."""
        return np.empty(0, dtype=np.int64), np.empty(0)

    def examples(self, predictions: Predictions, truth: np.ndarray, rows: np.ndarray) -> list[dict[str, Any]]:
        """None, as there are no worst rows."""
        return []

    def to_columns(self, predictions: Predictions) -> dict[str, np.ndarray]:
        """A row for each step ahead: series and time, where there are such, the step, and of each target the mean.

        Quantiles are named `TARGET_0.9`.
        """
        assert isinstance(predictions, Forecasts)
        ordered, horizon, data = self.windows.ordered, self.windows.horizon, self.recipe.data
        count = len(predictions)
        columns: dict[str, np.ndarray] = {}
        if data.group:
            names = np.array(ordered.names, dtype=object)[ordered.series[ordered.places[predictions.rows]]]
            columns[data.group] = np.repeat(names, horizon)
        if data.time:
            columns[data.time] = times_after(ordered, predictions.rows, horizon).reshape(-1)
        columns["step"] = np.tile(np.arange(1, horizon + 1), count)
        for at, name in enumerate(self.numbers):
            columns[name] = predictions.values[:, at, :, 0].reshape(-1)
            for place, level in enumerate(self.rules.quantiles, start=1):
                columns[f"{name}_{level:g}"] = predictions.values[:, at, :, place].reshape(-1)
        return columns

    def draw(
        self,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        predictions: Predictions,
        truth: np.ndarray,
        labels: Mapping[str, np.ndarray],
    ) -> dict[str, Any]:
        """Some forecasts with what came before and what came, and how far off each step ahead is."""
        return {"forecasts": drawn(self.windows, list(self.numbers), self.deviation, self.rules, predictions, truth)}
