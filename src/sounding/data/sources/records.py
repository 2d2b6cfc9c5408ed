"""Lists of dictionaries, one for each row."""

from __future__ import annotations

from sounding.data.sources._records import from_records
from sounding.data.table import Origin, Table
from sounding.recipe import DataRecipe

UNDERSTANDS = "a list of dictionaries"


def claims(source: object) -> bool:
    """Whether it is a list of dictionaries."""
    return isinstance(source, list) and bool(source) and all(isinstance(row, dict) for row in source)


def read(source: object, settings: DataRecipe) -> Table:
    """The table; a key that is absent from a row is a missing value there."""
    assert isinstance(source, list)
    records = [{str(key): value for key, value in row.items()} for row in source]
    return from_records(records, settings, name="rows", origin=Origin("rows", len(records)))
