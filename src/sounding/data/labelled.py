"""Rows without a target, left out where the recipe says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from sounding.data.table import Origin, Table
from sounding.finding import Finding
from sounding.recipe import DataRecipe


def drop_unlabelled(table: Table, target: Sequence[str], settings: DataRecipe) -> tuple[Table, list[Finding]]:
    """The table without rows that lack a target, if `missing_target` is "drop"; else the table as it is.

    Every row still knows its file and line, and the parts of the source keep their rows.
    """
    there = [name for name in target if name in table.columns]
    if settings.missing_target != "drop" or not there:
        return table, []
    kept = np.logical_and.reduce([table.column(name, settings).present for name in there])
    if kept.all():
        return table, []
    origins = table.origins or (Origin(table.name, len(table)),)
    starts = np.cumsum([0, *(origin.rows for origin in origins)])
    before = np.concatenate([[0], np.cumsum(kept)])
    count = int((~kept).sum())
    finding = Finding(
        rule="rows-without-target",
        severity="warning",
        title=f"{count} of {len(table)} rows have no target and are left out",
        evidence={"rows": count, "of": len(table), "first": int((~kept).argmax()), "target": there},
        meaning="If they differ from the others, the model has not seen their like.",
    )
    return replace(
        table,
        data=table.data.filter(pa.array(kept)),
        origins=tuple(
            _thinned(origin, kept[start : start + origin.rows])
            for origin, start in zip(origins, starts[:-1], strict=True)
        ),
        parts={name: range(int(before[rows.start]), int(before[rows.stop])) for name, rows in table.parts.items()},
    ), [finding]


def _thinned(origin: Origin, kept: np.ndarray) -> Origin:
    """A stretch of rows of which some are gone."""
    lines = origin.lines
    if lines is None and origin.first_line is not None:
        lines = origin.first_line + np.arange(origin.rows)
    return Origin(origin.file, int(kept.sum()), lines=None if lines is None else np.asarray(lines)[kept])
