"""Rows without a target, left out where the recipe says so; and names for labels that there are none of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sounding.data.schema import Schema
from sounding.data.table import Table
from sounding.errors import RecipeError, printable
from sounding.finding import Finding
from sounding.kinds import Target
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


def refuse_unknown_labels(table: Table, schema: Schema, settings: DataRecipe) -> None:
    """Nothing that `data.labels` says is passed over.

    Raises:
        RecipeError: for a value that no target can hold.
    """
    unknown = set(settings.labels)
    for field in schema.targets:
        if isinstance(field.fitted, Target):
            unknown &= field.fitted.unnamed(field.column(table), settings.labels)
    if unknown:
        targets = ", ".join(f'"{field.name}" ({field.kind})' for field in schema.targets) or "none"
        named = ", ".join(f'"{printable(one)}"' for one in sorted(unknown)[:3]) + ", ..." * (len(unknown) > 3)
        raise RecipeError(
            f"data.labels names {named}, which the target does not hold: {targets}",
            "on the left give values as the data have them, on the right what they are to be read as",
        )
