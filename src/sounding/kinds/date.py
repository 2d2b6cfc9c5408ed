"""Dates and times: how late, and at what time of the year, the week and the day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.finding import Finding, Remedy
from sounding.kinds.kind import PRESENCE, Block, Column, Form, Kind, Recognition, bin_edges
from sounding.recipe import DataRecipe

LAYOUTS = {
    "YYYY-MM-DD": r"(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})",
    "YYYY/MM/DD": r"(?P<y>\d{4})/(?P<m>\d{1,2})/(?P<d>\d{1,2})",
    "YYYY-MM": r"(?P<y>\d{4})[-/](?P<m>\d{2})(?P<d>)",
    "DD.MM.YYYY": r"(?P<d>\d{1,2})\.(?P<m>\d{1,2})\.(?P<y>\d{4})",
    "DD/MM/YYYY": r"(?P<d>\d{1,2})[/-](?P<m>\d{1,2})[/-](?P<y>\d{4})",
    "MM/DD/YYYY": r"(?P<m>\d{1,2})[/-](?P<d>\d{1,2})[/-](?P<y>\d{4})",
    "D Month YYYY": r"(?P<d>\d{1,2})[ -](?P<m>[A-Za-z]{3,9})\.?[ -](?P<y>\d{4})",
    "Month D, YYYY": r"(?P<m>[A-Za-z]{3,9})\.? (?P<d>\d{1,2}),? (?P<y>\d{4})",
}
"""How a date may be written. Parsed by hand, so that neither locale nor time zone of the machine matters."""
CLOCK = r"(?:[T ](?P<clock>\d{1,2}:\d{2}(?::\d{2})?)(?:\.\d+)? ?(?P<zone>Z|[+-]\d{2}:?\d{2})?)?"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAY, WEEK, YEAR = 86_400.0, 7 * 86_400.0, 365.2425 * 86_400.0
BINS = 16
FARTHEST = 6.0
"""Standard deviations beyond which a date counts as no later or earlier."""


@dataclass(frozen=True)
class Date(Kind):
    """A date or time, as several numbers: the trend, and sine and cosine of each cycle that the training rows show.

    The trend has mean 0 and standard deviation 1. Cycles: year, week, day. A missing date is 0 in all of them, and
    a last feature says that it is missing, where that occurred in training.
    """

    name: ClassVar[str] = "date"
    form: ClassVar[Form] = "numbers"

    layout: str
    """A name from LAYOUTS; empty for typed dates and times."""
    mean: float
    """Seconds since 1970."""
    std: float
    cycles: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    """Edges of bins, for each feature."""
    missing: bool

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """All cells are dates in one layout that leaves no doubt about day and month."""
        layouts = _layouts(column)
        if len(layouts) != 1:
            return None
        seconds = _seconds(column, layouts[0])
        return Recognition(0.9, f"dates from {_day(np.nanmin(seconds))} to {_day(np.nanmax(seconds))}")

    @classmethod
    def near_miss(cls, column: Column) -> Finding | None:
        """That day and month cannot be told apart."""
        if len(_layouts(column)) < 2:
            return None
        example = next(iter(column.distinct))
        return Finding(
            rule="ambiguous-dates",
            severity="warning",
            title=f'"{column.name}" holds dates such as "{example}" in which day and month cannot be told apart: '
            "used as words",
            evidence={"column": column.name, "example": example},
            remedy=Remedy("write them as YYYY-MM-DD"),
        )

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Learn span and cycles from the training rows.

        Raises:
            DataError: if the cells are not dates, or in a layout that leaves doubt.
        """
        layouts = _layouts(column)
        if len(layouts) != 1:
            what = "day and month cannot be told apart" if layouts else "not all cells are dates in the same layout"
            row = int(column.present.argmax())
            raise column.error(what, f"write them as YYYY-MM-DD, or set data.kinds.{column.name} to category", row=row)
        seconds = _seconds(column, layouts[0])[rows]
        missing = bool(np.isnan(seconds).any())
        seconds = seconds[~np.isnan(seconds)]
        if not len(seconds):
            return cls(layouts[0], 0.0, 1.0, (), (bin_edges(seconds),), missing), []
        span = np.ptp(seconds)
        shown = {
            "year": span > YEAR / 6,
            "week": len(np.unique(seconds // DAY % 7)) > 1 and span > WEEK,
            "day": len(np.unique(seconds % DAY)) > 1,
        }
        cycles = tuple(name for name, there in shown.items() if there)
        kind = cls(layouts[0], float(seconds.mean()), float(seconds.std()) or 1.0, cycles, (), missing)
        at = np.linspace(0, 1, BINS + 1)
        bins = tuple(bin_edges(np.quantile(feature, at)) for feature in kind._features(seconds).T)
        return cls(kind.layout, kind.mean, kind.std, cycles, bins, missing), []

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, features) float32, each about in [-1, 1] or standardised.

        Raises:
            DataError: for a cell that is no date in the layout of the training rows.
        """
        seconds = _seconds(column, self.layout)
        bad = np.isnan(seconds) & column.present
        if bad.any():
            row = int(bad.argmax())
            expected = f"write it as {self.layout}" if self.layout else "give dates of the same type as in training"
            raise column.error(f'"{column.words[row].as_py()}" is not a date', expected, row=row)
        lacking = np.isnan(seconds)
        features = self._features(np.where(lacking, self.mean, seconds))
        features[lacking] = 0
        if self.missing:
            features = np.column_stack([features, lacking])
        return features.astype(np.float32), []

    def _features(self, seconds: np.ndarray) -> np.ndarray:
        """(N, 1 + 2 cycles) float64."""
        features = [np.clip((seconds - self.mean) / self.std, -FARTHEST, FARTHEST)]
        for cycle in self.cycles:
            angle = 2 * np.pi * seconds / {"year": YEAR, "week": WEEK, "day": DAY}[cycle]
            features += [np.sin(angle), np.cos(angle)]
        return np.stack(features, axis=1)

    def block(self, column: str) -> Block:
        """One feature for the trend, two for each cycle, one for what is missing."""
        waves = [f"{column} ({wave} of the {cycle})" for cycle in self.cycles for wave in ("sine", "cosine")]
        lacking = [f"{column} is missing"] if self.missing else []
        bins = self.edges + ((PRESENCE,) if self.missing else ())
        return Block("numbers", self.form, (column,), features=(column, *waves, *lacking), bins=bins)

    def describe(self) -> str:
        """About when."""
        cycles = f", with {', '.join(self.cycles)}" if self.cycles else ""
        return f"dates around {_day(self.mean)}{cycles}"


def _layouts(column: Column) -> list[str]:
    """The layouts in which every cell is a date; `[""]` for typed ones."""
    if pa.types.is_date(column.plain.type) or pa.types.is_timestamp(column.plain.type):
        return [""] if column.present.any() else []
    if not column.is_text or not column.present.any():
        return []
    first = column.words.drop_null()[:1]
    likely = [name for name in LAYOUTS if not np.isnan(_parse(first, name)).any()]
    return [name for name in likely if not np.isnan(_parse(column.words, name)[column.present]).any()]


def _seconds(column: Column, layout: str) -> np.ndarray:
    """(N,) float64: seconds since 1970, in UTC where a zone is given; NaN for what is missing or no date."""
    if layout:
        return _parse(column.words, layout) if column.is_text else np.full(len(column), np.nan)
    if not (pa.types.is_date(column.plain.type) or pa.types.is_timestamp(column.plain.type)):
        return np.full(len(column), np.nan)
    micros = column.plain.cast(pa.timestamp("us", getattr(column.plain.type, "tz", None)), safe=False).cast(pa.int64())
    return np.asarray(micros.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)) / 1e6


def _parse(words: pa.Array, layout: str) -> np.ndarray:
    """(N,) float64: seconds since 1970; NaN where a word is no date in this layout."""
    found = pc.extract_regex(words, f"^{LAYOUTS[layout]}{CLOCK}$")
    parts = {name: found.field(name) for name in ("y", "m", "d", "clock", "zone")}
    month = parts["m"]
    if "Month" in layout:
        place = pc.index_in(pc.utf8_slice_codeunits(pc.utf8_lower(month), 0, 3), value_set=pa.array(MONTHS, month.type))
        month = pc.add(place, 1)
    year, month, day = (_numbers(part) for part in (parts["y"], month, parts["d"]))
    if "D" not in layout:
        day = np.ones(len(words))
    there = np.asarray(pc.is_valid(found)) & ~np.isnan(year + month + day) & (month >= 1) & (month <= 12)
    months = (np.where(there, (year - 1970) * 12 + month - 1, 0)).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (np.where(there, day, 1) - 1).astype(np.int64)
    there &= (days.astype("datetime64[M]") == months) & (day >= 1)
    clock = pc.extract_regex(parts["clock"], r"^(?P<h>\d{1,2}):(?P<m>\d{2})(?::(?P<s>\d{2}))?$")
    hours, minutes, rest = (np.nan_to_num(_numbers(clock.field(part))) for part in "hms")
    there &= (hours < 24) & (minutes < 60) & (rest <= 60)
    zone = pc.extract_regex(parts["zone"], r"^(?P<sign>[+-])(?P<h>\d{2}):?(?P<m>\d{2})$")
    ahead = np.nan_to_num(_numbers(zone.field("h"))) * 60 + np.nan_to_num(_numbers(zone.field("m")))
    ahead *= np.where(np.asarray(pc.fill_null(pc.equal(zone.field("sign"), "-"), False)), -1, 1)
    seconds = days.astype(np.int64) * DAY + hours * 3600 + (minutes - ahead) * 60 + rest
    return np.where(there, seconds, np.nan)


def _numbers(cells: pa.Array) -> np.ndarray:
    """Digits as float64; NaN where there are none."""
    if not pa.types.is_integer(cells.type):
        cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, cells.type), cells)
    return np.asarray(cells.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _day(seconds: float) -> str:
    return str(np.datetime64(int(seconds), "s").astype("datetime64[D]"))
