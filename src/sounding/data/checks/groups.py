"""Rows that belong together (one patient, one speaker) on both sides of the split."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pyarrow.compute as pc

from sounding.data.checks.examined import Examined
from sounding.data.schema import Field
from sounding.finding import Finding, Remedy

ENTITY = (
    "patient|subject|person|user|customer|client|member|household|family|speaker|author|student|animal|device|machine|"
    "sensor|session|site|hospital|donor|participant|player|account"
)
NAMES = re.compile(
    rf"(?i:(.*[_\W])?({ENTITY})([_\W]?(id|nr|no|number|code|name|key))?|group([_\W]?id)?|.*[_\W](id|uuid|guid))|.*[a-z](Id|ID)"
)
"""What columns are called that name an entity of several rows; in the plural they are counts."""
FEWEST_GROUPS = 10
MOST_ROWS_PER_GROUP = 1000
SHARED = 0.5
"""Share of the test rows whose group is in training, from which on it matters."""


def check(examined: Examined) -> Iterator[Finding]:
    """Columns that name groups of rows, where most test rows have relatives among the training rows."""
    if not len(examined.split.test) or any(field.role in ("group", "time") for field in examined.schema.fields):
        return
    for field in examined.schema.fields:
        if field.role in ("input", "ignored") and not field.side and NAMES.fullmatch(field.name):
            yield from _shared(examined, field)


def _shared(examined: Examined, field: Field) -> Iterator[Finding]:
    column = field.column(examined.table)
    if not column.is_word or (column.is_number and (column.numbers[column.present] % 1).any()):
        return
    encoded = pc.dictionary_encode(column.words, null_encoding="encode")
    groups, rows = len(encoded.dictionary), len(column)
    if not (max(FEWEST_GROUPS, rows / MOST_ROWS_PER_GROUP) <= groups < 0.9 * rows):
        return
    codes = np.asarray(encoded.indices)
    trained = np.zeros(groups, dtype=bool)
    trained[codes[examined.split.train]] = True
    share = float(trained[codes[examined.split.test]].mean())
    if share < SHARED:
        return
    yield Finding(
        rule="group-leak",
        severity="warning",
        title=f'"{field.name}" seems to name groups ({groups} in {rows} rows), and {share:.0%} of the test rows '
        "belong to groups that are trained on",
        evidence={"column": field.name, "groups": groups, "rows": rows, "share_of_test_rows": share},
        meaning="If new rows will come from new groups, the test result is too good: the network may know the group.",
        remedy=Remedy("split by whole groups", {"data.group": field.name}),
    )
