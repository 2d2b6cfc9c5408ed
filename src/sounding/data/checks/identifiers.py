"""Columns that name the row: a network can only learn them by heart."""

from __future__ import annotations

import re

import numpy as np
import pyarrow.compute as pc

from sounding.data.schema import Field, Schema
from sounding.data.table import Table
from sounding.finding import Finding, Remedy
from sounding.kinds import Column
from sounding.recipe import DataRecipe

FEWEST_WORDS, FEWEST_NUMBERS = 20, 100
"""With fewer rows, all values may well differ by chance."""
NAMES = re.compile(r"(?i:(.*[_\W])?(id|uuid|guid|key|index|idx|number|nr|row|rowid|rownum)\d*)|.*[a-z](Id|ID|UUID)")
"""What columns of identifiers are called."""


def identifiers(
    table: Table, schema: Schema, train_rows: np.ndarray, settings: DataRecipe, source_rows: int = 0
) -> tuple[Schema, list[Finding]]:
    """The schema without the inputs that have another value in every row, and a warning for each.

    Words: all different, and single words. Whole numbers: all different, and called like an identifier or counting
    the rows without large gaps. Columns in `data.keep` or `data.kinds` stay.

    source_rows: of which the table is a sample, where it is one: a counter then has gaps.
    """
    reasons, findings = {}, []
    gaps = max(source_rows / max(len(table), 1), 1.0)
    for field in schema.inputs:
        if field.name in settings.keep or field.name in settings.kinds:
            continue
        column = field.column(table)
        why = _why(field, column, train_rows, gaps)
        if why:
            reasons[field.name] = why
            findings.append(
                Finding(
                    rule="identifier-column",
                    severity="warning",
                    title=f'"{field.name}" is left out: {why}',
                    evidence={"column": field.name, "rows": len(train_rows)},
                    meaning="A value that occurs once teaches nothing about other rows, and in sorted data it gives "
                    "the target away.",
                    remedy=Remedy("use it all the same", {"data.keep": [*settings.keep, field.name]}),
                )
            )
    return schema.ignoring(reasons), findings


def _why(field: Field, column: Column, train_rows: np.ndarray, gaps: float) -> str:
    """Why a column is an identifier; empty when it is none."""
    if field.kind in ("category", "text") and column.is_word:
        words = column.words.take(train_rows).drop_null()
        if len(words) < FEWEST_WORDS or len(words) < 0.5 * len(train_rows):
            return ""
        if pc.count_distinct(words[:1000]).as_py() < min(len(words), 1000):  # most columns are done here
            return ""
        if pc.count_distinct(words).as_py() < len(words):
            return ""
        several = pc.mean(pc.match_substring_regex(words, r"\s")).as_py()
        if several > 0.05 and not NAMES.fullmatch(field.name):
            return ""
        return "it has another value in every row, as an identifier does"
    if field.kind == "number":
        values = column.numbers[train_rows]
        values = values[np.isfinite(values)]
        if len(values) < FEWEST_NUMBERS or len(values) < 0.5 * len(train_rows) or (values[:1000] % 1).any():
            return ""
        distinct = np.unique(values)
        if len(distinct) < len(values) or (values % 1).any():
            return ""
        counts_rows = distinct[-1] - distinct[0] + 1 <= 2 * len(values) * gaps
        if counts_rows or NAMES.fullmatch(field.name):
            return "it has another whole number in every row, as an identifier does"
    return ""
