"""The rows of a long table by series and time: their order, their season, and which of them train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.split import PARTS, moments
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.kinds import Column
from sounding.recipe import DataRecipe

UNEVEN = 0.05
"""A step of time that is longer than the usual one by more than this share is a gap; months differ by a tenth."""
REPEATS = 0.1
"""A season shows where differences from one point to the next go with those a season before by at least this much, and
by more than chance lets them."""
NEARLY = 0.8
"""The first lag at which they go together nearly as well as at the best one is taken: later ones are its multiples."""
MOST_SERIES = 50
"""Series in which a season is looked for."""


@dataclass(frozen=True)
class Ordered:
    """Rows of a table by series, and in each from the earliest to the latest.

    A row has a place in this order; places [starts[s], starts[s + 1]) belong to series s.
    """

    rows: np.ndarray
    """(N,) the row at each place."""
    places: np.ndarray
    """(N,) the place of each row."""
    starts: np.ndarray
    """(S + 1,) with which place each series begins; N at the end."""
    names: tuple[str, ...]
    """Of the series; a single one without a name is called nothing."""
    times: np.ndarray
    """(N,) by place: numbers that sort as the times do; the number within the series where there is no time."""
    unit: str = ""
    """Of times that are dates: `s`, `ms`, `us` or `ns` since 1970."""
    findings: tuple[Finding, ...] = ()

    @cached_property
    def series(self) -> np.ndarray:
        """(N,) by place: which series."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))


def in_order(table: Table, settings: DataRecipe) -> Ordered:
    """Order the rows by `data.group`, the series, then by `data.time`; as they come where these are not named.

    Raises:
        DataError: for a row without a time or a series, or for two rows of one series at the same time.
    """
    count = len(table)
    codes, names = np.zeros(count, dtype=np.int64), ("",)
    if settings.group:
        column = table.column(settings.group, settings)
        if not column.present.all():
            raise column.error(
                "this row belongs to no series", "give every row one", row=int(np.argmin(column.present))
            )
        encoded = pc.dictionary_encode(column.words)
        labels = encoded.dictionary.to_pylist()
        rank = np.argsort(np.argsort(np.array(labels), kind="stable"), kind="stable")
        codes, names = rank[np.asarray(encoded.indices)], tuple(sorted(labels))
    times, unit = np.arange(count, dtype=np.float64), ""
    if settings.time:
        column = table.column(settings.time, settings)
        times = np.asarray(moments(column), dtype=np.float64)
        if np.isnan(times).any():
            row = int(np.isnan(times).argmax())
            raise column.error("this row has no time", "fill it, or leave the row out", row=row)
        unit = _unit(column)
    rows = np.lexsort((times, codes))
    places = np.empty(count, dtype=np.int64)
    places[rows] = np.arange(count)
    starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))])
    times = times[rows]
    if not settings.time:
        times = np.concatenate([np.arange(size, dtype=np.float64) for size in np.diff(starts)])
    ordered = Ordered(rows, places, starts, names, times, unit)
    return replace(ordered, findings=_even(table, settings, ordered)) if settings.time else ordered


def times_after(ordered: Ordered, rows: np.ndarray, steps: int) -> np.ndarray:
    """(n, steps) the times of the steps after some rows: dates, or numbers.

    Steps go on as they do in the series: by whole months where these are all of one day of the month, or of its last
    one, else by the usual difference. A day that a month lacks is its last one.
    """
    found = []
    for place in ordered.places[rows]:
        low, high = ordered.starts[ordered.series[place]], ordered.starts[ordered.series[place] + 1]
        times = ordered.times[low:high]
        ahead = np.arange(1, steps + 1)
        if not ordered.unit:
            found.append(ordered.times[place] + ahead * (float(np.median(np.diff(times))) if len(times) > 1 else 1.0))
            continue
        dates = times.astype(np.int64).astype(f"datetime64[{ordered.unit}]")
        here = ordered.times[place].astype(np.int64).astype(f"datetime64[{ordered.unit}]")
        months = dates.astype("datetime64[M]")
        if day := _day_of_month(dates):
            step = int(np.median(np.diff(months).astype(np.int64)))
            after = here.astype("datetime64[M]") + step * ahead
            days = after.astype("datetime64[D]") + np.minimum(day, _lengths(after)) - 1
            found.append(days.astype(dates.dtype) + (here - here.astype("datetime64[D]").astype(dates.dtype)))
        else:
            found.append(
                here + ahead * (np.median(np.diff(dates).astype(np.int64)).astype(np.int64) if len(times) > 1 else 1)
            )
    return _plain(np.array(found))


def _day_of_month(dates: np.ndarray) -> int:
    """The day on which all dates of a monthly series are, 31 for the last one; 0 where it is no such series."""
    days, months = dates.astype("datetime64[D]"), dates.astype("datetime64[M]")
    of_month = (days - months.astype("datetime64[D]")).astype(np.int64) + 1
    lengths = _lengths(months)
    day = 31 if (of_month == lengths).all() else int(of_month.max())
    clock = np.unique(dates - days.astype(dates.dtype))
    return day if len(dates) > 1 and len(clock) == 1 and (of_month == np.minimum(day, lengths)).all() else 0


def _lengths(months: np.ndarray) -> np.ndarray:
    """Days of months."""
    return np.asarray((months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)


def _plain(times: np.ndarray) -> np.ndarray:
    """Dates in days, where all are whole ones, else in seconds, where all are those; whole numbers as such."""
    if times.dtype.kind == "f" and (times == np.rint(times)).all():
        return times.astype(np.int64)
    for unit in ("D", "s") if times.dtype.kind == "M" else ():
        if (times == times.astype(f"datetime64[{unit}]")).all():
            return times.astype(f"datetime64[{unit}]")
    return times


def _unit(column: Column) -> str:
    """Of the moments of a column of dates; none for numbers."""
    kind = column.cells.type
    if pa.types.is_timestamp(kind):
        return str(kind.unit)
    return "" if not pa.types.is_temporal(kind) and not np.isnan(column.numbers).any() else "us"


def _stands_out(alike: np.ndarray, lag: int, chance: float) -> bool:
    """Whether there is a valley on both sides of a peak: noise alone makes one at 2 in a smooth series.

    Differences of noise go against each other at lag 1, which says nothing.
    """
    before, after = alike[2:lag], alike[lag + 1 : 2 * lag]
    valley = max((float(side.min()) for side in (before, after) if len(side)), default=-1.0)
    return bool(alike[lag] - valley >= max(alike[lag] / 2, 2 * chance))


def _even(table: Table, settings: DataRecipe, ordered: Ordered) -> tuple[Finding, ...]:
    """Look at the steps of time within the series."""
    same = ordered.series[1:] == ordered.series[:-1]
    steps = np.diff(ordered.times)
    column = table.column(settings.time, settings)
    if (twice := same & (steps == 0)).any():
        row = int(ordered.rows[int(twice.argmax()) + 1])
        what = f"{int(twice.sum())} rows are at the time of another row of their series, here the first"
        remedy = "leave copies out" if settings.group else "name the column of the series: --set data.group=COLUMN"
        raise column.error(what, remedy, row=row)
    usual = float(np.median(steps[same])) if same.any() else 0.0
    gaps = same & (steps > usual * (1 + UNEVEN + 0.1))  # February and a month of 31 days differ by a tenth
    if not gaps.any():
        return ()
    row = int(ordered.rows[int(gaps.argmax()) + 1])
    file, line = table.where(row)
    return (
        Finding(
            rule="gaps-in-time",
            severity="warning",
            title=f"{int(gaps.sum())} steps of time are longer than the usual one, the first before row {row + 1}",
            evidence={"steps": int(gaps.sum()), "row": row, "file": file, "line": line},
            meaning="Rows are taken to follow each other in even steps: a window holds both sides of a gap, and a "
            "forecast over it is said to be of a time that comes sooner. Give rows for the lacking times.",
        ),
    )


def parts_in_time(
    table: Table, ordered: Ordered, fractions: Mapping[str, float], horizon: int
) -> tuple[np.ndarray, list[str]]:
    """(N,) by place, to which part each row belongs: 0 train, 1 validation, 2 test; and how that was found.

    The latest times test, the latest of the others validate, unless the source brings its own parts. A part that is
    drawn has `horizon` times at least.

    Raises:
        DataError: if too few times are left to train with, or a part of the source begins before the one before ends.
    """
    part = np.zeros(len(ordered.rows), dtype=np.int64)
    given = [name for name in PARTS[1:] if name in table.parts]
    for name in given:
        rows = table.parts[name]
        part[ordered.places[rows.start : rows.stop]] = PARTS.index(name)
    notes = [f"the source brings its own {name} rows: {len(table.parts[name]):,}" for name in given]
    drawn, every = [], len(np.unique(ordered.times[part == 0]))
    for name in ("test", "validation"):
        if name in given or not fractions.get(name, 0.0):
            continue
        times = np.unique(ordered.times[part == 0])
        size = max(round(fractions[name] * every), horizon)
        if size >= len(times):
            raise DataError(
                f"there are {len(times)} times to train with, and {size} of them are to be {name} rows",
                "give more rows, or a shorter forecasting.horizon",
                file=table.name,
            )
        part[(part == 0) & (ordered.times >= times[-size])] = PARTS.index(name)
        drawn.append(f"{size:,} for {name}")
    if drawn:
        notes.append(f"by time, the latest {' and the latest before these '.join(drawn)}")
    back = (np.diff(part) < 0) & (np.diff(ordered.series) == 0)
    if back.any():
        row = int(ordered.rows[int(back.argmax()) + 1])
        what = "a row that trains comes later than one that is to measure"
        raise DataError(
            what, "give test rows that are later than all others", file=table.name, line=table.where(row)[1]
        )
    return part, notes


def find_season(values: np.ndarray, starts: np.ndarray) -> int:
    """After how many points a series repeats itself; 1 where it does not.

    values: (N, K) by place, the columns of all series; NaN is passed over.
    starts: (S + 1,) where series begin.

    The highest peak of the autocorrelation of differences, averaged over series and columns, if it is high enough.

    >>> find_season(np.sin(np.arange(200) * 2 * np.pi / 12)[:, None], np.array([0, 200]))
    12
    """
    longest = max(int(np.diff(starts).max(initial=0)) // 3, 0)
    total, count, points = np.zeros(longest + 1), np.zeros(longest + 1), 0
    for low, high in list(pairwise(starts))[:MOST_SERIES]:
        for column in values[low:high].T:
            steps = np.diff(column[np.isfinite(column)])
            lags = len(steps) // 3
            if lags < 2 or not steps.std():
                continue
            steps = steps - steps.mean()
            spectrum = np.fft.rfft(steps, 2 * len(steps))
            products = np.fft.irfft(np.square(np.abs(spectrum)))[: lags + 1]
            total[: lags + 1] += products / products[0] * len(steps) / (len(steps) - np.arange(lags + 1))
            count[: lags + 1] += 1
            points += len(steps)
    seen = np.flatnonzero(count)
    if len(seen) < 4:
        return 1
    alike = np.divide(total, count, out=np.zeros_like(total), where=count > 0)[: seen[-1] + 1]
    chance = 1 / np.sqrt(points)  # the standard error where there is no season
    least = max(REPEATS, 5 * chance)
    summits = [lag for lag in range(2, len(alike) - 1) if alike[lag] >= max(alike[lag - 1], alike[lag + 1], least)]
    peaks = [lag for lag in summits if _stands_out(alike, lag, chance)]
    if not peaks:
        return 1
    highest = max(alike[lag] for lag in peaks)
    return next(lag for lag in peaks if alike[lag] >= min(NEARLY * highest, highest - 2 * chance))
