"""Windows of a long table, looked up by row: what a network sees up to a row, and what comes after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np
import torch
from torch import Tensor

from sounding.data.ordered import Ordered, in_order
from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Encoded, Number
from sounding.kinds.number import checked
from sounding.recipe import Recipe

MOST_CODES = 64
"""Of a column of categories that can be a covariate; each code is a channel."""
MANY_GAPS = 0.05
"""A larger share of missing values is to be looked at."""


@dataclass(frozen=True)
class Windows:
    """The values of all rows in order, once; a window is a row: the last one that is known.

    No window is ever copied but those of the batch at hand.
    """

    ordered: Ordered
    values: np.ndarray
    """(N, targets) float64 by place, in the user's units; NaN where there is none."""
    carried: np.ndarray
    """The same, with the last known value of the series where there is none; before it the training mean."""
    wanted: np.ndarray
    """(targets, N) float32, `values` standardised."""
    channels: np.ndarray
    """(targets + covariates, N) float32 by place, standardised: targets as they are carried; covariates that are known
    in the future come last."""
    known: int
    """How many of the last channels are known in the future."""
    history: int
    horizon: int
    ends: np.ndarray
    """(S,) behind the last place of each series with targets; rows after it hold only what is known in the future."""
    findings: tuple[Finding, ...] = ()
    """About values that are missing between others."""
    _moved: dict[torch.device, tuple[Tensor, Tensor, Tensor]] = dataclass_field(default_factory=dict)

    def complete(self) -> np.ndarray:
        """(N,) bool by place: rows with a whole history up to them and a whole future after them.

        In both is a known value at least.
        """
        place, series = np.arange(len(self.ordered.rows)), self.ordered.series
        starts, ends = self.ordered.starts[series], self.ends[series]
        whole = (place - starts + 1 >= self.history) & (place + self.horizon < ends)
        known = np.concatenate([[0], np.cumsum(np.isfinite(self.values).any(1))])
        here, last = place + 1, len(place)
        seen = known[here] - known[np.maximum(here - self.history, 0)]
        to_come = known[np.minimum(here + self.horizon, last)] - known[here]
        return np.asarray(whole & (seen > 0) & (to_come > 0))

    def spaced(self, places: np.ndarray, stride: int) -> np.ndarray:
        """Of rising places the first of each series, and those that are a multiple of the stride after it."""
        series = self.ordered.series[places]
        _, first = np.unique(series, return_index=True)
        begins = np.zeros(len(self.ordered.names), dtype=np.int64)
        begins[series[first]] = places[first]
        return np.asarray(places[(places - begins[series]) % stride == 0])

    def last_rows(self) -> np.ndarray:
        """The last row with targets of each series that has a whole history."""
        long = self.ends - self.ordered.starts[:-1] >= self.history
        return np.asarray(self.ordered.rows[self.ends[long] - 1])

    def future_places(self, rows: np.ndarray) -> np.ndarray:
        """(n, horizon) places of the steps after some rows."""
        places: np.ndarray = self.ordered.places[rows][:, None] + np.arange(1, self.horizon + 1)
        return places

    def future(self, rows: np.ndarray) -> np.ndarray:
        """(n, targets, horizon) float64, in the user's units."""
        return np.asarray(self.values[self.future_places(rows)].transpose(0, 2, 1))

    def past(self, rows: np.ndarray, steps: int) -> np.ndarray:
        """(n, targets, steps) float64: the last steps up to some rows; NaN for gaps, and before a series begins."""
        places = self.ordered.places[rows][:, None] + np.arange(1 - steps, 1)
        begins = self.ordered.starts[self.ordered.series[self.ordered.places[rows]]]
        values = self.values[np.maximum(places, 0)]
        values[places < begins[:, None]] = np.nan
        return np.asarray(values.transpose(0, 2, 1))

    def inputs(self, rows: Tensor) -> Tensor:
        """(B, channels, history) float32: what a network sees up to some rows, on their device.

        Channels that are known in the future are those of `horizon` steps later.
        """
        channels, _, places = self._on(rows.device)
        at = places[rows][:, None] + torch.arange(1 - self.history, 1, device=rows.device)  # (B, history)
        seen = channels[: len(channels) - self.known][:, at]
        if not self.known:
            return seen.transpose(0, 1).contiguous()
        last = channels.shape[1] - 1
        ahead = channels[len(channels) - self.known :][:, (at + self.horizon).clamp(max=last)]
        return torch.cat([seen, ahead]).transpose(0, 1).contiguous()

    def goals(self, rows: Tensor) -> Tensor:
        """(B, targets, horizon) float32, standardised: what comes after some rows; NaN where that is not known."""
        _, wanted, places = self._on(rows.device)
        at = places[rows][:, None] + torch.arange(1, self.horizon + 1, device=rows.device)
        return wanted[:, at].transpose(0, 1).contiguous()

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """Channels, what is wanted, and places where the rows are."""
        if device not in self._moved:
            channels, wanted, places = map(torch.from_numpy, (self.channels, self.wanted, self.ordered.places))
            self._moved[device] = channels.to(device), wanted.to(device), places.to(device)
        return self._moved[device]


def read_windows(table: Table, schema: Schema, encoded: Encoded, recipe: Recipe) -> Windows:
    """The values of a table in order, and its covariates."""
    rules, ordered = recipe.forecasting, in_order(table, recipe.data)
    columns = [field.column(table) for field in schema.targets]
    numbers = [field.fitted for field in schema.targets if isinstance(field.fitted, Number)]
    values = [checked(column, number.decimal) for column, number in zip(columns, numbers, strict=True)]
    stacked = np.stack(values, 1)[ordered.rows]
    there = np.isfinite(stacked)
    place = np.arange(len(stacked))
    begins = ordered.starts[:-1]
    ends = np.maximum(np.maximum.reduceat(np.where(there.any(1), place, -1), begins) + 1, begins)
    lacking = ~there & (place < ends[ordered.series])[:, None]
    mean, deviation = (np.array([getattr(number, key) for number in numbers]) for key in ("mean", "std"))
    carried = _carried(stacked, ordered.starts[ordered.series], mean)
    covariates, known = _channels(schema, encoded, ordered.rows, rules.known)
    standardised, wanted = (((values - mean) / deviation).T for values in (carried, stacked))
    return Windows(
        ordered,
        stacked,
        carried,
        np.ascontiguousarray(wanted, dtype=np.float32),
        np.ascontiguousarray(np.concatenate([standardised, covariates]), dtype=np.float32),
        known,
        rules.history,
        rules.horizon,
        ends,
        tuple(_gaps(table, ordered, [column.name for column in columns], lacking)),
    )


def _carried(values: np.ndarray, begins: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """(N, targets): values, with the last known one of the series where there is none, and the mean before it.

    begins: (N,) where the series of each place begins.

    >>> _carried(np.array([[np.nan], [3.0], [np.nan], [np.nan]]), np.array([0, 0, 0, 3]), np.array([7.0])).T
    array([[7., 3., 3., 7.]])
    """
    place = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(values), place, -1), axis=0)
    found = np.take_along_axis(values, np.maximum(last, 0), 0)
    return np.where(last >= begins[:, None], found, mean)


def _gaps(table: Table, ordered: Ordered, names: Sequence[str], lacking: np.ndarray) -> Iterator[Finding]:
    """That targets are missing between others: (N, targets) bool by place."""
    for name, missing in zip(names, lacking.T, strict=True):
        if not missing.any():
            continue
        row = int(ordered.rows[missing].min())
        file, line = table.where(row)
        count, share = int(missing.sum()), missing.mean()
        yield Finding(
            rule="gaps-in-target",
            severity="warning" if share > MANY_GAPS else "info",
            title=f'"{name}": {count:,} of {len(missing):,} values are missing between others: the network sees '
            "the last known one there, and no gap is learned from, or measured on",
            evidence={"column": name, "values": count, "row": row, "file": file, "line": line},
        )


def _channels(schema: Schema, encoded: Encoded, order: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, int]:
    """(covariates, N) float32 by place, and how many of the last are known in the future."""
    found, known = [np.zeros((0, len(order)), np.float32)], 0
    for name, width, (form, first) in covariates_of(schema, names):
        values = encoded.blocks[form][order]
        if form == "numbers":
            found.append(values[:, first : first + width].T)
        else:
            found.append((values[:, first] == np.arange(width)[:, None]).astype(np.float32))
        known += width * (name in names)
    return np.concatenate(found), known


def covariates_of(schema: Schema, known: Sequence[str]) -> list[tuple[str, int, tuple[str, int]]]:
    """Each input, how many channels it takes, and in which block from where: those that are known last.

    Raises:
        DataError: for an input that is neither a number nor one of few categories.
    """
    found, first = [], {"numbers": 0, "categories": 0}
    for field in schema.inputs:
        block = None if field.fitted is None else field.fitted.block(field.name)
        if block is None or block.form not in first:
            what = f'"{field.name}" is {field.kind}, and only numbers and categories can go with a series'
            raise DataError(what, f'leave it out: --set data.ignore=["{field.name}"]')
        wide = len(block.features) if block.form == "numbers" else block.cardinalities[0]
        if block.form == "categories" and wide > MOST_CODES:
            what = f'"{field.name}" has {wide} categories, and a covariate may have {MOST_CODES}'
            raise DataError(what, f'leave it out: --set data.ignore=["{field.name}"]')
        found.append((field.name, wide, (block.form, first[block.form])))
        first[block.form] += wide if block.form == "numbers" else 1
    return sorted(found, key=lambda one: one[0] in known)
