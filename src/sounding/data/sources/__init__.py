"""Where data come from: one file per source, asked in order; `read_source` makes a table of whatever is given."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from sounding.data.sources import (
    arrays,
    arrow,
    catalogue,
    csv,
    frames,
    huggingface,
    idx,
    image_folder,
    jsonl,
    parquet,
    parts,
    records,
)
from sounding.data.sources._files import existing
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe


class Source(Protocol):
    """What a module of this package offers; `UNDERSTANDS` says in a few words what it reads."""

    UNDERSTANDS: str

    def claims(self, source: object) -> bool:
        """Whether this is the one to read it: told from the name or the type, cheaply."""

    def read(self, source: object, settings: DataRecipe) -> Table:
        """The table.

        Raises:
            DataError: naming file, line and column where they are known.
        """


SOURCES: tuple[Source, ...] = (
    catalogue,
    csv,
    parquet,
    arrow,
    jsonl,
    idx,
    image_folder,
    parts,
    huggingface,
    frames,
    records,
    arrays,
)
"""Asked in this order; adding a source is one file and one line here."""


def read_source(source: object, settings: DataRecipe) -> Table:
    """A table from a file, a folder, a catalogue name such as `@digits`, arrays, a data frame or a dataset.

    Raises:
        DataError: if the source is nothing that is understood, or something in it is wrong.

    >>> table = read_source({"age": [31, 52], "city": ["Lima", "Oslo"]}, DataRecipe())
    >>> len(table), table.columns
    (2, ['age', 'city'])
    """
    if isinstance(source, str | os.PathLike) and not str(source).startswith("@"):
        source = existing(_path(source))
    for one in SOURCES:
        if one.claims(source):
            return one.read(source, settings)
    understood = "; ".join(one.UNDERSTANDS for one in SOURCES)
    if isinstance(source, Path):
        what = (
            "this folder holds nothing that is understood" if source.is_dir() else "this kind of file is not understood"
        )
        tables = (
            [path.name for path in sorted(source.iterdir()) if any(one.claims(path) for one in SOURCES)]
            if source.is_dir()
            else []
        )
        remedy = f"give a file in it: {', '.join(tables[:5])}" if tables else f"give one of these: {understood}"
        raise DataError(what, remedy, file=source)
    name = f"{type(source).__module__}.{type(source).__qualname__}"
    raise DataError(f"a source of type {name} is not understood", f"give one of these: {understood}")


def _path(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source)
    if "://" in text:
        raise DataError(f"{text} is an address, not a file", "download it first, then give the file")
    if not text or text == "-":
        raise DataError(
            "there is no file name" if not text else "standard input is a stream", "give the path of a file"
        )
    return Path(text)
