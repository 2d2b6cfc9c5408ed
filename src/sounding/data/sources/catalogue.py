"""Names of the catalogue, such as `@digits`."""

from __future__ import annotations

from sounding.data.table import Table
from sounding.recipe import DataRecipe

UNDERSTANDS = "a name of the catalogue such as @digits (`sounding data` lists them)"


def claims(source: object) -> bool:
    """Whether it is a name that begins with @."""
    return isinstance(source, str) and source.startswith("@")


def read(source: object, settings: DataRecipe) -> Table:
    """The set of that name, fetched if it is not here yet."""
    from sounding.data.catalogue import read_entry  # which itself reads through the sources of this package

    return read_entry(str(source), settings)
