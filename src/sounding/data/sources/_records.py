"""How dictionaries become columns: the union of their keys, each column of one type."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import pyarrow as pa

from sounding.data.sources._columns import check_names
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding
from sounding.recipe import DataRecipe

_KINDS = {bool: "true or false", int: "number", float: "number", str: "text"}


def from_records(records: Sequence[Mapping[str, Any]], settings: DataRecipe, *, name: str, origin: Origin) -> Table:
    """A table of dictionaries; keys that are absent are missing values, counted in a finding.

    A column that mixes types becomes text, each value as JSON writes it; that is a finding too.

    Raises:
        DataError: naming line and column of a nested value, all of them at once.
    """
    present = Counter(chain.from_iterable(records))
    names = list(present)
    check_names(names, settings, origin.file)
    table = Table(pa.table({}), name, (origin,))
    problems, findings, columns = Problems(), [], []
    absent = {}
    for key in names:
        cells = [record.get(key) for record in records]
        kinds: Counter[str] = Counter()
        for kind, count in Counter(map(type, cells)).items():
            if kind is not type(None):
                kinds[_KINDS.get(kind, "nested")] += count
        if "nested" in kinds:
            row = next(row for row, cell in enumerate(cells) if cell is not None and type(cell) not in _KINDS)
            what = f"a nested value ({json.dumps(cells[row])[:60]})"
            _, line = table.where(row)
            problems.add(DataError(what, "spread it over plain keys", file=origin.file, line=line, column=key))
            continue
        if len(kinds) > 1:
            findings.append(_mixed(key, cells, kinds, table))
        columns.append(_column(cells, mixed=len(kinds) > 1))
        if present[key] < len(records):
            absent[key] = len(records) - present[key]
    problems.raise_if_any()
    if absent:
        findings.append(
            Finding(
                rule="absent-keys",
                severity="info",
                title=f"{len(absent)} of {len(names)} keys are absent from some rows: missing values there",
                evidence={"file": origin.file, "rows": len(records), "absent": absent},
            )
        )
    return Table(pa.table(columns, names=names), name, (origin,), findings=tuple(findings))


def _column(cells: list[Any], *, mixed: bool) -> pa.Array:
    if mixed:
        return pa.array([_as_text(cell) for cell in cells], pa.string())
    try:
        return pa.array(cells)
    except (pa.ArrowInvalid, OverflowError):  # whole numbers beyond 64 bits, or beyond 2^53 among fractions
        return pa.array([_as_text(cell) for cell in cells], pa.string())


def _as_text(cell: Any) -> str | None:
    return cell if cell is None or isinstance(cell, str) else json.dumps(cell)


def _mixed(key: str, cells: Sequence[Any], kinds: Counter[str], table: Table) -> Finding:
    examples: dict[str, tuple[int, Any]] = {}
    for row, cell in enumerate(cells):
        if cell is not None:
            examples.setdefault(_KINDS[type(cell)], (table.where(row)[1] or row + 1, cell))
    counts = ", ".join(f"{count:,} of {kind}" for kind, count in kinds.most_common())
    return Finding(
        rule="mixed-types",
        severity="warning",
        title=f"{key} mixes types ({counts}): read as text",
        evidence={
            "column": key,
            "counts": dict(kinds),
            "examples": [{"line": line, "value": value} for line, value in examples.values()],
        },
    )
