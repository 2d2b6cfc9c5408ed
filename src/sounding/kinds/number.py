"""Numbers: spread evenly over a standard normal, so that no magnitude or heavy tail can upset a network.

Source: quantile normalisation as in Gorishniy et al. 2021, "Revisiting Deep Learning Models for Tabular Data",
arXiv:2106.11959, section 4.2; here without noise, so that equal training rows always give the same map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import ndtri

from sounding.finding import Finding, Remedy
from sounding.kinds.kind import (
    NUMBER,
    PRESENCE,
    Block,
    Column,
    Form,
    Recognition,
    bin_edges,
    require_targets,
)
from sounding.kinds.target import Target
from sounding.recipe import DataRecipe

QUANTILES = 1000
"""The most knots of the map from values to normal scores."""
ROWS_PER_QUANTILE = 30
"""Fewer training rows than this for each knot would follow their noise."""
BINS = 64
"""Edges of bins for piecewise-linear embeddings (Gorishniy et al. 2022, arXiv:2203.05556), twice: see `_edges`."""
ROWS_PER_BIN = 20
LARGEST = float(np.finfo(np.float64).max)

DECIMAL_COMMA = r"^[+-]?\d+,\d+$"
ORNAMENT = r"[\s\x{00a0}'’%$€£¥₹]|^(USD|EUR|GBP|CHF|JPY)|(USD|EUR|GBP|CHF|JPY)$"
"""What may surround a number that a person wrote: blanks, percent, currency."""
ENGLISH = r"^[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d*)?$"
CONTINENTAL = r"^[+-]?(\d+|\d{1,3}(\.\d{3})+)(,\d*)?$"


@dataclass(frozen=True)
class Number(Target):
    """A number, as its normal score among the training rows, and whether it is missing where that occurred.

    The map is piecewise linear through up to 1000 training quantiles; ties share their middle rank. Beyond the
    training values it goes on in a straight line for at most one unit. A missing value is 0, the median.
    """

    name: ClassVar[str] = "number"
    form: ClassVar[Form] = "numbers"

    knots: tuple[float, ...]
    """Rising training values."""
    scores: tuple[float, ...]
    """The normal score of each."""
    edges: tuple[float, ...]
    """Edges of bins in the encoded space."""
    mean: float
    std: float
    missing: bool
    """Whether training rows lack a value; then a second feature is 1 where it is missing, else 0."""
    decimal: str = ""
    """Empty for plain numbers; "." or "," for numbers written with thousands separators, currency or percent."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """All values are numbers; none has leading zeros or more whole digits than float64 can hold."""
        if not (column.is_number or column.is_text) or not column.present.any():
            return None
        if column.is_text:  # most columns of words are done here
            first = column.words[:1000].drop_null()
            if not pc.all(pc.match_substring_regex(first, f"{NUMBER}|{DECIMAL_COMMA}")).as_py():
                return None
        if column.not_a_quantity:
            return None
        values = column.numbers[column.present]
        if np.isnan(values).any():
            if not _has_decimal_comma(column):
                return None
            values = parse(column, ",")[column.present]
            return Recognition(
                1.0, f"numbers with a decimal comma from {_shown(values.min())} to {_shown(values.max())}"
            )
        return Recognition(1.0, f"numbers from {_shown(values.min())} to {_shown(values.max())}")

    @classmethod
    def near_miss(cls, column: Column) -> Finding | None:
        """What to say about a column of words in which numbers abound, if they do."""
        if not column.is_text or not column.present.any() or column.not_a_quantity:
            return None
        present = column.present
        count = int(present.sum())
        if 2 * pc.sum(pc.match_substring_regex(column.words, r"\d")).as_py() < count:
            return None  # most cells have no digit: words, and the rest of this need not be looked at
        plain = int((~np.isnan(column.numbers[present])).sum())
        loose = max(int((~np.isnan(parse(column, sign)[present])).sum()) for sign in ".,")
        if loose > plain and loose >= 0.97 * count:
            ornate = np.flatnonzero(present & np.isnan(column.numbers))[:3]
            examples = [column.words[int(row)].as_py() for row in ornate]
            return Finding(
                rule="numbers-in-disguise",
                severity="warning",
                title=f'"{column.name}" looks numeric in {loose / count:.0%} of rows, such as "{examples[0]}", '
                "but is used as words",
                evidence={"column": column.name, "numeric": loose, "values": count, "examples": examples},
                remedy=Remedy("read it as numbers", {f"data.kinds.{column.name}": "number"}),
            )
        if 0.5 * count <= plain < count:
            stray = np.flatnonzero(present & np.isnan(column.numbers))[:3]
            examples = [{"line": column.where(int(row))[1], "cell": column.words[int(row)].as_py()} for row in stray]
            words = ", ".join(f'"{example["cell"]}"' for example in examples)
            return Finding(
                rule="numbers-and-words",
                severity="warning",
                title=f'"{column.name}" holds {plain} numbers and {count - plain} words such as {words}: used as words',
                evidence={
                    "column": column.name,
                    "numbers": plain,
                    "words": count - plain,
                    "examples": examples,
                },
                meaning="As words, 9 and 10 have nothing to do with each other.",
                remedy=Remedy(
                    "mend these cells, or say that they mean no value",
                    {f"data.missing_in.{column.name}": sorted({*column.missing, *(e["cell"] for e in examples)})},
                ),
            )
        return None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """Learn the map from the training rows; thousands, currency and percent are read where numbers are asked for.

        Raises:
            DataError: naming the first cells that are no numbers.
        """
        decimal, findings = _decimal_of(column)
        values = checked(column, decimal)[rows]
        present = values[~np.isnan(values)]
        mean, std = _moments(_clipped(present))
        knots, scores = _normal_scores(_clipped(present))
        kind = cls(knots, scores, (), mean, std, len(present) < len(values), decimal)
        return replace(kind, edges=_edges(kind._scores_of(present))), findings

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, 1 or 2) float32: the normal score, and 1 where the value is missing."""
        values = checked(column, self.decimal)
        missing = np.isnan(values)
        scores = np.zeros(len(values))
        scores[~missing] = self._scores_of(values[~missing])
        features = [scores, missing] if self.missing else [scores]
        return np.stack(features, axis=1).astype(np.float32), []

    def block(self, column: str) -> Block:
        """One feature, or two where values were missing in training."""
        if not self.missing:
            return Block("numbers", self.form, (column,), features=(column,), bins=(self.edges,))
        named = (column, f"{column} is missing")
        return Block("numbers", self.form, (column,), features=named, bins=(self.edges, PRESENCE))

    def describe(self) -> str:
        """The range of the training values."""
        return f"numbers from {_shown(self.knots[0])} to {_shown(self.knots[-1])}" if self.knots else "no values"

    def encode_target(self, column: Column) -> np.ndarray:
        """(N,) float64: values as a regression target, with mean 0 and standard deviation 1 over the training rows.

        Raises:
            DataError: naming the first cell that is missing, infinite or no number.
        """
        return (target_values(column, self.decimal) - self.mean) / self.std

    def decode_target(self, values: np.ndarray) -> np.ndarray:
        """The inverse of `encode_target`: standardised values in the user's units, float64."""
        return np.asarray(values, dtype=np.float64) * self.std + self.mean

    def decode(self, encoded: np.ndarray) -> np.ndarray:
        """The inverse of `encode`, (N,) float64: NaN where it is rather missing than not; whole numbers stay whole."""
        scores, (knots, at) = np.asarray(encoded[:, 0], dtype=np.float64), self._map
        if not len(knots):
            return np.full(len(scores), np.nan)
        values = np.interp(scores, at, knots)
        if len(knots) > 1:  # beyond the ends it went on in a straight line, for at most one unit
            beyond = np.clip(scores - np.clip(scores, at[0], at[-1]), -1.0, 1.0)
            values += beyond / (at[-1] - at[0]) * (knots[-1] - knots[0])
        if (np.rint(knots) == knots).all():
            values = np.rint(values)
        return np.where(encoded[:, 1] > 0.5, np.nan, values) if self.missing else values

    @classmethod
    def fit_target(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """As `fit`, for a column to predict.

        Raises:
            DataError: for missing or infinite values in any row, or if all training rows hold the same value.
        """
        decimal, findings = _decimal_of(column)
        values = target_values(column, decimal)[rows]
        if len(values) and values.min() == values.max():
            raise column.error(
                f"the target is {_shown(values[0])} in all {len(values)} training rows: its variance is 0",
                "give a target that varies",
            )
        kind, _ = cls.fit(column, rows, settings)
        return kind, findings

    @cached_property
    def _map(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.knots), np.array(self.scores)

    def _scores_of(self, values: np.ndarray) -> np.ndarray:
        """Normal scores of values without NaN."""
        knots, scores = self._map
        if not len(knots):
            return np.zeros(len(values))
        # Scaled by a power of two so that neither 1e308 - -1e308 overflows nor 5e-324 is lost in a division.
        _, exponent = np.frexp(np.abs(knots).max())
        with np.errstate(over="ignore", under="ignore"):
            x, knots = np.ldexp(_clipped(values), -exponent), np.ldexp(knots, -exponent)
        x = np.clip(x, knots[0] - 4, knots[-1] + 4)  # knots are in [-1, 1] now: no value beyond is told apart
        if len(knots) == 1:
            return np.asarray(scores[0] + np.sign(x - knots[0]))
        left = np.clip(np.searchsorted(knots, x, side="right") - 1, 0, len(knots) - 2)
        width = knots[left + 1] - knots[left]
        share = np.divide(x - knots[left], width, out=np.zeros(len(x)), where=width > 0)
        inside = scores[left] + (scores[left + 1] - scores[left]) * np.clip(share, 0, 1)
        slope = (scores[-1] - scores[0]) / (knots[-1] - knots[0])
        beyond = x - np.clip(x, knots[0], knots[-1])
        return np.asarray(inside + np.clip(beyond * slope, -1, 1))


def parse(column: Column, decimal: str) -> np.ndarray:
    """(N,) float64: cells as numbers written with this decimal sign; NaN where missing or no number."""
    if not decimal or not column.is_text:
        return column.numbers
    bare = pc.replace_substring_regex(column.words, ORNAMENT, "")
    thousands = "," if decimal == "." else "."
    fits = pc.match_substring_regex(bare, ENGLISH if decimal == "." else CONTINENTAL)
    bare = pc.replace_substring(pc.replace_substring(bare, thousands, ""), ",", ".")
    cells = pc.if_else(fits, bare, pa.scalar(None, pa.large_string())).cast(pa.float64())
    return np.asarray(cells.to_numpy(zero_copy_only=False), dtype=np.float64)


def numbers_in(column: Column) -> tuple[np.ndarray, list[Finding]]:
    """(N,) float64: cells as numbers with the decimal sign that most have, NaN only where there is no value; findings.

    Raises:
        DataError: naming the first cell that is no number.
    """
    decimal, findings = _decimal_of(column)
    return checked(column, decimal), findings


def target_values(column: Column, decimal: str = "") -> np.ndarray:
    """(N,) float64: finite values of a regression target.

    Raises:
        DataError: naming how many are missing or infinite, and the first.
    """
    require_targets(column)
    values = checked(column, decimal)
    infinite = np.isinf(values)
    if infinite.any():
        raise column.error(
            f"{infinite.sum()} of {len(values)} target values {_are(infinite)} infinite, here the first",
            "correct or remove these rows",
            row=int(infinite.argmax()),
        )
    return values


def checked(column: Column, decimal: str) -> np.ndarray:
    """(N,) float64: cells as numbers written with this decimal sign; NaN only where there is no value.

    Raises:
        DataError: naming the first cell that is no number.
    """
    values = parse(column, decimal)
    bad = np.isnan(values) & column.present
    if bad.any():
        row, count = int(bad.argmax()), int(bad.sum())
        cell = column.words[row].as_py() if column.is_word else "the cell"
        more = f" (and {count - 1} more cell{'s' if count > 2 else ''})" if count > 1 else ""
        raise column.error(
            f'"{_cut(cell)}" is not a number{more}',
            f"correct it, leave it empty, or list it in data.missing_in.{column.name}",
            row=row,
        )
    return values


def _decimal_of(column: Column) -> tuple[str, list[Finding]]:
    """The decimal sign with which most cells are numbers, and what to say when they are not plain."""
    bad = np.isnan(column.numbers) & column.present
    if not bad.any() or not column.is_text:
        return "", []
    sign = "," if _has_decimal_comma(column) else max(".,", key=lambda s: int((~np.isnan(parse(column, s))).sum()))
    if np.isnan(parse(column, sign)[bad]).all():
        return "", []
    example = column.words[int(bad.argmax())].as_py()
    value = parse(column, sign)[int(bad.argmax())]
    return sign, [
        Finding(
            rule="number-format",
            severity="warning",
            title=f'"{column.name}": numbers are read with "{sign}" as decimal sign: "{_cut(example)}" is {value:g}',
            evidence={"column": column.name, "decimal": sign, "cells": int(bad.sum()), "example": example},
            remedy=Remedy("or keep them as words", {f"data.kinds.{column.name}": "category"}),
        )
    ]


def _has_decimal_comma(column: Column) -> bool:
    """Whether all values are numbers with a decimal comma, and some cannot be thousands such as `1,234`."""
    if not column.is_text:
        return False
    comma = pc.match_substring_regex(column.words, DECIMAL_COMMA)
    plain = pc.match_substring_regex(column.words, NUMBER)
    if not pc.all(pc.or_(comma, plain)).as_py():
        return False
    thousands = pc.match_substring_regex(column.words, r"^[+-]?[1-9]\d{0,2},\d{3}$")
    return bool(pc.any(pc.and_not(comma, thousands)).as_py())


def _normal_scores(values: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots and their scores: quantiles of the values, ties at the middle of their ranks."""
    if not len(values):
        return (), ()
    ordered = np.sort(values)
    count = int(np.clip(len(values) // ROWS_PER_QUANTILE, 10, QUANTILES))
    picked = np.unique(ordered[np.rint(np.linspace(0, len(ordered) - 1, count)).astype(np.int64)])
    low, high = np.searchsorted(ordered, picked, "left"), np.searchsorted(ordered, picked, "right")
    scores = ndtri((low + high) / 2 / len(ordered))
    return tuple(map(float, picked)), tuple(map(float, scores))


def _edges(scores: np.ndarray) -> tuple[float, ...]:
    """Edges of bins: quantiles of the rows, and quantiles of the distinct values.

    The latter give the tail of a column that is nearly always the same a resolution of its own; together they
    measured better on tables than either.
    """
    if not len(scores):
        return bin_edges(scores)
    at = np.linspace(0, 1, int(np.clip(len(scores) // ROWS_PER_BIN, 2, BINS)) + 1)
    edges = np.concatenate([np.quantile(scores, at), np.quantile(np.unique(scores), at)])
    return bin_edges(edges)


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation in float64, finite for any finite values; the latter is never 0."""
    if not len(values):
        return 0.0, 1.0
    scale = float(np.abs(values).max()) or 1.0
    small = values / scale if 1e-150 < scale < 1e150 else np.ldexp(values, -int(np.frexp(scale)[1]))
    unit = scale if 1e-150 < scale < 1e150 else math.ldexp(1.0, min(int(np.frexp(scale)[1]), 1023))
    mean, std = float(small.mean()) * unit, float(small.std()) * unit
    return mean, std if std > 0 else 1.0


def _clipped(values: np.ndarray) -> np.ndarray:
    """Infinities as the largest float64."""
    return np.asarray(np.clip(values, -LARGEST, LARGEST))


def _are(rows: np.ndarray) -> str:
    return "is" if rows.sum() == 1 else "are"


def _shown(value: float) -> str:
    return f"{value:.0f}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _cut(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
