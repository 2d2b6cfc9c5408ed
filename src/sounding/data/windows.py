"""A long table of numbers, one row for each moment, cut into windows: each becomes a row with a series in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.ordered import Ordered, in_order
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Column, Number, recognise
from sounding.kinds.number import numbers_in
from sounding.recipe import DataRecipe

FIRST_POINT = "first_point"
"""The column that says with which point a window begins."""
MANY_WINDOWS = 10_000
"""The usual stride makes about so many at most, and never skips more than a quarter of a window."""


def usual_stride(points: int, window: int) -> int:
    """The stride where none is set: as dense as pays.

    >>> usual_stride(1200, 100), usual_stride(100_000, 100), usual_stride(10_000_000, 100)
    (1, 10, 25)
    """
    return min(max(points // MANY_WINDOWS, 1), max(window // 4, 1))


def starts(points: int, window: int, stride: int) -> np.ndarray:
    """(windows,) int64: with which point each window begins; the last one ends with the last point.

    >>> starts(10, 4, 3)
    array([0, 3, 6])
    >>> starts(11, 4, 3)
    array([0, 3, 6, 7])
    """
    last = points - window
    first = np.arange(0, last + 1, stride, dtype=np.int64)
    return first if first[-1] == last else np.append(first, last)


def cut(table: Table, settings: DataRecipe, target: Sequence[str] = ()) -> Table:
    """The windows of a long table, `data.window` points each, in order of time.

    Columns of numbers become the channels of one column of series, which bears their names; a window has the largest
    of its numbers in a target column, or the label that is rarest in the table. Rows are taken series by series, where
    `data.group` tells them apart, and in the order of `data.time` where that is a column, else as they come;
    `first_point` says with which of them each window begins. No window holds points of two series.

    Raises:
        DataError: if a series has fewer points than one window takes, or two at one time; if no column has numbers.
    """
    points, window = len(table), settings.window
    ordered = in_order(table, settings) if points else None
    _refuse_short(table, ordered, window)
    assert ordered is not None
    if settings.time or settings.group:
        table = replace(table, data=table.data.take(pa.array(ordered.rows)), origins=_reordered(table, ordered.rows))
    stride = settings.stride or usual_stride(points, window)
    first = np.concatenate([low + starts(high - low, window, stride) for low, high in pairwise(ordered.starts)])
    rows = first[:, None] + np.arange(window)
    channels, left, findings = _channels(table, settings, target)
    values = np.stack([np.asarray(channel, dtype=np.float64)[rows] for channel in channels.values()], axis=1)
    columns: dict[str, pa.Array] = {", ".join(channels): _lists(values)}
    for name in target:
        if name in table.columns:
            columns[name] = _labels(table, settings, name, rows)
    if settings.group:
        columns[settings.group] = table.column(settings.group, settings).words.take(pa.array(first))
    columns[FIRST_POINT] = pa.array(first)
    places = [table.where(int(row)) for row in first]
    lines = None if places[0][1] is None else np.array([line for _, line in places])
    findings = [*table.findings, *ordered.findings, *findings]
    if left:
        named = ", ".join(f'"{name}"' for name in left)
        findings.append(
            Finding(
                rule="columns-not-cut",
                severity="warning",
                title=f"only columns of numbers are cut into windows; left out: {named}",
                evidence={"columns": left},
            )
        )
    return Table(
        pa.table(columns),
        table.name,
        (Origin(str(places[0][0] or table.name), len(first), lines=lines),),
        table.root,
        notes=(*table.notes, f"{points:,} points cut into {len(first):,} windows of {window}"),
        findings=tuple(findings),
        target=table.target,
    )


def of_windows(settings: DataRecipe) -> DataRecipe:
    """Settings for the table of the windows, from those for the long table, whose columns are gone.

    The latest windows test; of several series whole ones do.
    """
    gone = replace(settings, kinds={}, ignore=[], keep=[], missing_in={}, weight="")
    return replace(gone, time="", ignore=[FIRST_POINT]) if settings.group else replace(gone, time=FIRST_POINT)


def _refuse_short(table: Table, ordered: Ordered | None, window: int) -> None:
    """See that a window fits into every series."""
    sizes = np.zeros(1, dtype=np.int64) if ordered is None else np.diff(ordered.starts)
    if sizes.min() >= window:
        return
    short = int(sizes.argmin())
    name = "" if ordered is None else ordered.names[short]
    raise DataError(
        f"there are {sizes[short]} points{f' in the series {name}' if name else ''}, fewer than data.window = {window}",
        "set a shorter one" + (", or leave the series out" if name else ""),
        file=table.name,
        line=None if ordered is None or not name else table.where(int(ordered.rows[ordered.starts[short]]))[1],
    )


def _channels(
    table: Table, settings: DataRecipe, target: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str], list[Finding]]:
    """The columns of numbers that are inputs, by name; the names of the other inputs; how numbers are read."""
    aside = {*target, *settings.ignore, settings.time, settings.weight, settings.group}
    channels, left, findings = dict[str, np.ndarray](), list[str](), list[Finding]()
    for name in table.columns:
        if name in aside:
            continue
        column = table.column(name, settings)
        if _is_number(column, settings):
            channels[name], told = numbers_in(column)
            findings += told
        else:
            left.append(name)
    if not channels:
        raise DataError("no column of numbers is there to cut into windows", "leave data.window out", file=table.name)
    return channels, left, findings


def _is_number(column: Column, settings: DataRecipe) -> bool:
    return (settings.kinds.get(column.name) or recognise(column)[0]) == Number.name


def _lists(values: np.ndarray) -> pa.Array:
    """(N, channels, length) as a list for each row; of several channels as a list of lists."""
    _, channels, length = values.shape
    cells = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), length)
    return cells if channels == 1 else pa.FixedSizeListArray.from_arrays(cells, channels)


def _labels(table: Table, settings: DataRecipe, name: str, rows: np.ndarray) -> pa.Array:
    column = table.column(name, settings)
    numbers = column.numbers
    if np.isnan(numbers).any() and _is_number(column, settings):
        numbers, _ = numbers_in(column)
    if not np.isnan(numbers).any():
        largest = numbers[rows].max(1)
        return pa.array(largest.astype(np.int64) if (largest == np.round(largest)).all() else largest)
    encoded = pc.dictionary_encode(column.words, null_encoding="encode")
    codes = np.asarray(encoded.indices)
    rarity = np.argsort(np.argsort(-np.bincount(codes), kind="stable"), kind="stable")  # the rarest has the highest
    by_rarity = np.argsort(rarity, kind="stable")
    return encoded.dictionary.take(pa.array(by_rarity[rarity[codes][rows].max(1)]))


def _reordered(table: Table, order: np.ndarray) -> tuple[Origin, ...]:
    """Where the rows came from, after they were put in order."""
    places = [table.where(int(row)) for row in order]
    lines = None if places[0][1] is None else np.array([line for _, line in places])
    return (Origin(str(places[0][0] or table.name), len(order), lines=lines),)


def point_means(values: np.ndarray, first: np.ndarray, points: int) -> np.ndarray:
    """The value of each point, averaged over the windows that hold it.

    values:  (N, ..., window).
    first:   (N,), with which point each window begins.
    Returns: (..., points); NaN where no window holds a point.

    >>> point_means(np.array([[1.0, 2.0], [4.0, 6.0]]), np.array([0, 1]), 4)
    array([ 1.,  3.,  6., nan])
    """
    window = values.shape[-1]
    sums, counts = np.zeros((points, *values.shape[1:-1])), np.zeros(points)
    for at in range(window):
        np.add.at(sums, first + at, values[..., at])
        np.add.at(counts, first + at, 1)
    with np.errstate(invalid="ignore"):
        means: np.ndarray = np.moveaxis(sums, 0, -1) / np.where(counts > 0, counts, np.nan)
    return means
