"""Rows without a target, left out where the recipe says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sounding.data.table import Table
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
    count = int((~kept).sum())
    finding = Finding(
        rule="rows-without-target",
        severity="warning",
        title=f"{count} of {len(table)} rows have no target and are left out",
        evidence={"rows": count, "of": len(table), "first": int((~kept).argmax()), "target": there},
        meaning="If they differ from the others, the model has not seen their like.",
    )
    return table.filter(kept), [finding]
