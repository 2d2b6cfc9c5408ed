"""Series: cells that are lists of numbers, one after the other in time, on one or several channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.finding import Finding
from sounding.kinds.kind import Block, Column, Form, Kind, Recognition
from sounding.recipe import DataRecipe


@dataclass(frozen=True)
class Series(Kind):
    """A stretch of one length, as numbers with mean 0 and standard deviation 1 over the training rows, by channel.

    A cell is a list of numbers, or for several channels a list of such lists. A point without a value is 0, the mean.
    """

    name: ClassVar[str] = "series"
    form: ClassVar[Form] = "series"

    channels: int
    length: int
    mean: tuple[float, ...]
    """Of each channel, over training rows."""
    std: tuple[float, ...]

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Lists of numbers, or lists of those."""
        depth = series_depth(column.plain.type)
        if not depth:
            return None
        return Recognition(1.0, "lists of numbers" if depth == 1 else "lists of numbers on several channels")

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Measure mean and deviation of each channel on the training rows.

        Raises:
            DataError: naming the first row without a series, or with one of another shape than the first.
        """
        values = points(column)[rows].astype(np.float64)
        finite = np.isfinite(values)
        counts = np.maximum(finite.sum(axis=(0, 2)), 1)
        mean = np.where(finite, values, 0.0).sum(axis=(0, 2)) / counts
        squares = np.where(finite, values - mean[:, None], 0.0) ** 2
        std = np.sqrt(squares.sum(axis=(0, 2)) / counts)
        _, channels, length = values.shape
        return cls(channels, length, tuple(map(float, mean)), tuple(float(s) or 1.0 for s in std)), []

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, channels, length) float32.

        Raises:
            DataError: naming the first row whose series has not the shape of the training rows.
        """
        values = points(column, (self.channels, self.length))
        scaled = (values - np.array(self.mean)[:, None]) / np.array(self.std)[:, None]
        lacking = ~np.isfinite(scaled)
        scaled[lacking] = 0.0
        if not lacking.any():
            return scaled.astype(np.float32), []
        found = Finding(
            rule="gaps-in-series",
            severity="warning",
            title=f'"{column.name}": {lacking.sum():,} of {lacking.size:,} points have no value: the mean stands there',
            evidence={"column": column.name, "points": int(lacking.sum()), "rows": int(lacking.any(axis=(1, 2)).sum())},
        )
        return scaled.astype(np.float32), [found]

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(
            f"series:{column}",
            self.form,
            (column,),
            channels=self.channels,
            length=self.length,
            mean=self.mean,
            std=self.std,
        )

    def show(self, column: Column, row: int) -> str:
        """The first points of the first channel."""
        first = points(column.take(np.array([row])))[0, 0, :8]
        return " ".join(f"{value:.4g}" for value in first) + (" ..." if self.length > len(first) else "")

    def describe(self) -> str:
        """Length and channels."""
        several = f" on {self.channels} channels" if self.channels > 1 else ""
        return f"series of {self.length} points{several}"


def series_depth(kind: pa.DataType) -> int:
    """1 for lists of numbers, 2 for lists of lists of numbers, 0 for anything else."""
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return depth if numbers and depth <= 2 else 0


def points(column: Column, shape: tuple[int, int] | None = None) -> np.ndarray:
    """(N, channels, length) float64; NaN where a point has no value.

    shape:  the channels and the length that all rows should have; those of the first row when left out.

    Raises:
        DataError: naming the first row that has none, or another shape.
    """
    cells, rows = column.plain, len(column)
    if cells.null_count:
        lacking = int(np.argmin(np.asarray(pc.is_valid(cells))))
        raise column.error(f"{cells.null_count} of {rows} rows have no series", "leave these rows out", row=lacking)
    outer = cells if series_depth(cells.type) == 2 else None
    inner = cells.flatten() if outer is not None else cells
    channels = np.full(rows, 1) if outer is None else np.asarray(pc.list_value_length(outer), dtype=np.int64)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(inner), 0), dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(channels)])
    if shape is None:
        shape = (int(channels[0]), int(lengths[0])) if len(lengths) else (0, 0)
    wrong = channels != shape[0]
    owner = np.repeat(np.arange(rows), channels)
    wrong[owner[lengths != shape[1]]] = True
    if wrong.any() or not all(shape):
        row = int(wrong.argmax())
        its = lengths[starts[row] : starts[row + 1]]
        found = f"{channels[row]} x {its[0] if len(its) else 0}" if outer is not None else f"{its[0]} points"
        wanted = f"{shape[0]} x {shape[1]}" if outer is not None else f"{shape[1]} points"
        raise column.error(
            f"a series of {found} among those of {wanted}" if wrong.any() else "a series without points",
            "give series of one length and as many channels, or a long table and data.window to cut it",
            row=row,
        )
    values = inner.flatten().cast(pa.float64())
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64).reshape(rows, *shape).copy()
