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
    """A stretch of numbers, with mean 0 and standard deviation 1 over the training rows, by channel.

    A cell is a list of numbers, or for several channels a list of such lists. A point without a value is 0, the mean.
    Where the training rows are not all of one length, shorter series end with zeros, and a last channel is 1 where
    there are points; series that are longer than all of these are read to their end, too.
    """

    name: ClassVar[str] = "series"
    form: ClassVar[Form] = "series"

    channels: int
    shortest: int
    """Points of the shortest training row."""
    length: int
    """Points of the longest."""
    mean: tuple[float, ...]
    """Of each channel, over training rows."""
    std: tuple[float, ...]

    @property
    def varying(self) -> bool:
        """Whether the training rows differ in length."""
        return self.shortest < self.length

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Lists of numbers, or lists of those."""
        depth = series_depth(column.plain.type)
        if not depth:
            return None
        return Recognition(1.0, "lists of numbers" if depth == 1 else "lists of numbers on several channels")

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Measure mean and deviation of each channel, and the lengths, on the training rows.

        Raises:
            DataError: naming the first row without a series, or with other channels than the first.
        """
        values, lengths = points(column.take(rows))
        finite = np.isfinite(values)
        counts = np.maximum(finite.sum(axis=(0, 2)), 1)
        mean = np.where(finite, values, 0.0).sum(axis=(0, 2)) / counts
        squares = np.where(finite, values - mean[:, None], 0.0) ** 2
        std = np.sqrt(squares.sum(axis=(0, 2)) / counts)
        shortest, longest = int(lengths.min()), int(lengths.max())
        deviations = tuple(float(s) or 1.0 for s in std)
        return cls(values.shape[1], shortest, longest, tuple(map(float, mean)), deviations), []

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, channels, length) float32; of lengths that vary (N, channels + 1, length or more).

        Raises:
            DataError: naming the first row whose series has not the channels, or the length, of the training rows.
        """
        values, lengths = points(column, self.channels, 0 if self.varying else self.length)
        longest = max(self.length, values.shape[2])
        values = np.pad(values, ((0, 0), (0, 0), (0, longest - values.shape[2])), constant_values=np.nan)
        real = np.arange(longest) < lengths[:, None]
        scaled = (values - np.array(self.mean)[:, None]) / np.array(self.std)[:, None]
        gaps = ~np.isfinite(scaled)
        scaled[gaps] = 0.0
        gaps &= real[:, None, :]
        findings = [*_gaps(column, gaps), *self._longer(column, lengths)]
        if self.varying:
            scaled = np.concatenate([scaled, real[:, None, :]], axis=1)
        return scaled.astype(np.float32), findings

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(
            f"series:{column}",
            self.form,
            (column,),
            channels=self.channels,
            length=self.length,
            varying=self.varying,
            mean=self.mean,
            std=self.std,
        )

    def show(self, column: Column, row: int) -> str:
        """The first points of the first channel."""
        values, lengths = points(column.take(np.array([row])))
        return " ".join(f"{value:.4g}" for value in values[0, 0, :8]) + (" ..." if lengths[0] > 8 else "")

    def describe(self) -> str:
        """Lengths and channels."""
        length = f"{self.shortest} to {self.length}" if self.varying else str(self.length)
        several = f" on {self.channels} channels" if self.channels > 1 else ""
        return f"series of {length} points{several}"

    def _longer(self, column: Column, lengths: np.ndarray) -> list[Finding]:
        """That some series are longer than the network has seen any."""
        longer = lengths > self.length
        if not longer.any():
            return []
        return [
            Finding(
                rule="longer-series",
                severity="info",
                title=f'"{column.name}": {longer.sum():,} of {len(lengths):,} series are longer than any training row, '
                f"up to {lengths.max():,} points where those have {self.length:,} at most; they are read to their end",
                evidence={"column": column.name, "rows": int(longer.sum()), "longest": int(lengths.max())},
            )
        ]


def _gaps(column: Column, lacking: np.ndarray) -> list[Finding]:
    """That points have no value: (N, channels, length) bool."""
    if not lacking.any():
        return []
    return [
        Finding(
            rule="gaps-in-series",
            severity="warning",
            title=f'"{column.name}": {lacking.sum():,} of {lacking.size:,} points have no value: the mean stands there',
            evidence={"column": column.name, "points": int(lacking.sum()), "rows": int(lacking.any(axis=(1, 2)).sum())},
        )
    ]


def series_depth(kind: pa.DataType) -> int:
    """1 for lists of numbers, 2 for lists of lists of numbers, 0 for anything else."""
    depth = 0
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind, depth = kind.value_type, depth + 1
    numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return depth if numbers and depth <= 2 else 0


def points(column: Column, channels: int = 0, length: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N, channels, longest) float64, NaN where a point has no value and behind the last; (N,) how many points.

    channels: that all rows should have; those of the first row where 0.
    length:   that all rows should have; any where 0.

    Raises:
        DataError: naming the first row that has no series, other channels, or another length.
    """
    cells, rows = column.plain, len(column)
    if cells.null_count:
        lacking = int(np.argmin(np.asarray(pc.is_valid(cells))))
        raise column.error(f"{cells.null_count} of {rows} rows have no series", "leave these rows out", row=lacking)
    several = series_depth(cells.type) == 2
    inner = cells.flatten() if several else cells
    counts = np.asarray(pc.list_value_length(cells), dtype=np.int64) if several else np.ones(rows, dtype=np.int64)
    each = np.asarray(pc.fill_null(pc.list_value_length(inner), 0), dtype=np.int64)
    owner = np.repeat(np.arange(rows), counts)
    first = np.cumsum(counts) - counts
    channels = channels or (int(counts[0]) if rows else 1)
    if (wrong := counts != channels).any():
        row = int(wrong.argmax())
        what = f"a series on {counts[row]} channels among those on {channels}"
        raise column.error(what, "give all series as many channels", row=row)
    lengths = each[first] if rows else each
    ragged = np.zeros(rows, dtype=bool)
    ragged[owner[each != lengths[owner]]] = True
    if ragged.any():
        row = int(ragged.argmax())
        its = ", ".join(map(str, each[first[row] : first[row] + channels]))
        raise column.error(f"channels of {its} points", "give all channels of a row as many points", row=row)
    if (lengths == 0).any():
        what = "a series without points"
        raise column.error(what, "leave such rows out", row=int((lengths == 0).argmax()))
    if length and (lengths != length).any():
        row = int((lengths != length).argmax())
        raise column.error(
            f"a series of {lengths[row]} points, where all training rows have {length}",
            "give series of that length, or train with series of several lengths",
            row=row,
        )
    values = np.full((rows, channels, int(lengths.max()) if rows else length), np.nan)
    flat = inner.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)
    values[np.broadcast_to((np.arange(values.shape[2]) < lengths[:, None])[:, None], values.shape)] = flat
    return values, lengths
