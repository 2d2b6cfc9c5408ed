"""What the sources that bring their own split share: how its parts are called, and how they become one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from sounding.data.table import Table

Thing = TypeVar("Thing")

PARTS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}
"""The parts of a split in their order, and the names under which they are found."""


def part_named(name: str) -> str | None:
    """The part that a folder, a file or a key stands for, if any.

    >>> part_named("Val"), part_named("cats")
    ('validation', None)
    """
    return next((part for part, names in PARTS.items() if name.casefold() in names), None)


def in_parts(things: Sequence[Thing], parts: Sequence[str | None]) -> list[tuple[Thing, str | None]]:
    """Things with their parts in the order of the parts; without, if one has none or none of them is for training."""
    if not all(parts) or "train" not in parts:
        return [(thing, None) for thing in things]
    return sorted(zip(things, parts, strict=True), key=lambda pair: list(PARTS).index(pair[1] or ""))


def by_part(tables: Sequence[Table], parts: Sequence[str | None], *, name: str, root: Path | None = None) -> Table:
    """One table of several; with the parts that they belong to, if all of them have one and one of these is `train`.

    All tables have the same columns. Rows keep the order of the parts, then of the tables.
    """
    ranges: dict[str, range] = {}
    start = 0
    ordered = []
    for table, part in in_parts(tables, parts):
        ordered.append(table)
        end = start + len(table)
        if part:
            ranges[part] = range(ranges[part].start if part in ranges else start, end)
        start = end
    data = pa.concat_tables([table.data.select(ordered[0].columns) for table in ordered], promote_options="permissive")
    return replace(
        ordered[0],
        data=data,
        name=name,
        origins=tuple(origin for table in ordered for origin in table.origins),
        root=root,
        parts=ranges,
        notes=tuple(dict.fromkeys(note for table in ordered for note in table.notes)),
        findings=tuple(finding for table in ordered for finding in table.findings),
    )
