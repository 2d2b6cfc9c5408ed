"""Dictionaries whose keys are the parts of a split: `{"train": ..., "test": ...}`, each value a source of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from sounding.data.sources._parts import PARTS, part_named
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.finding import Finding
from sounding.recipe import DataRecipe

UNDERSTANDS = 'a dictionary of parts, {"train": ..., "validation": ..., "test": ...}'


def claims(source: object) -> bool:
    """Whether it is a dictionary with a key for the training rows, and a source of whole rows there."""
    if not isinstance(source, Mapping):
        return False
    return any(part_named(str(key)) == "train" and not _is_column(value) for key, value in source.items())


def read(source: object, settings: DataRecipe) -> Table:
    """The training rows, with the other parts below; keys that are no part are left out with a finding."""
    from sounding.data.sources import read_source

    assert isinstance(source, Mapping)
    values, keys = dict[str | None, object](), dict[str, str]()
    for key, value in source.items():
        part = part_named(str(key))
        if part in keys:
            raise DataError(f'"{keys[part]}" and "{key}" are both the {part} part', "leave one out, or join them")
        if part:
            keys[part] = str(key)
        values[part] = value
    table = read_source(values["train"], settings)
    for part in PARTS:
        if part != "train" and part in values:
            table = table.with_part(part, read_source(values[part], settings))
    aside = [str(key) for key in source if part_named(str(key)) is None]
    if aside:
        left_out = Finding(
            rule="parts-aside",
            severity="warning",
            title=f"{', '.join(aside)}: no part of a split, left out",
            evidence={"keys": aside, "understood": list(PARTS)},
        )
        table = replace(table, findings=(*table.findings, left_out))
    return table


def _is_column(value: object) -> bool:
    """Whether a value is one column of a dictionary of columns, rather than a source."""
    shape = getattr(value, "shape", None)
    return (shape is not None and len(shape) == 1) or (
        isinstance(value, list) and not all(isinstance(v, dict) for v in value)
    )
