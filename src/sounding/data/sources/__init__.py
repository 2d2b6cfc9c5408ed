"""Where data come from: one file per source, asked in order; `read_source` makes a table of whatever is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from sounding.data.sources import (
    arrays,
    arrow,
    audio_folder,
    catalogue,
    coco,
    csv,
    frames,
    huggingface,
    idx,
    image_folder,
    jsonl,
    mask_folder,
    parallel,
    parquet,
    parts,
    records,
    text,
    ts,
    voc,
    yolo,
)
from sounding.data.sources._files import existing
from sounding.data.stream import Stream, in_memory
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

WORKING = 6
"""Bytes that reading, encoding and checking take for each byte of a table in memory."""


class Source(Protocol):
    """What a module of this package offers; `UNDERSTANDS` says in a few words what it reads.

    One whose tables are for one task says so in `TASK`.
    """

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
    coco,
    jsonl,
    ts,
    idx,
    voc,
    mask_folder,
    yolo,
    image_folder,
    audio_folder,
    parallel,
    parts,
    text,
    huggingface,
    frames,
    records,
    arrays,
)
"""Asked in this order; adding a source is one file and one line here."""


class ChunkedSource(Source, Protocol):
    """A source that can be read in parts."""

    def extent(self, source: object, settings: DataRecipe) -> tuple[int, int]:
        """About how many rows there are, and how many bytes one takes in memory."""

    def chunks(self, source: object, settings: DataRecipe, rows: int) -> Iterator[Table]:
        """The rows of the table, so many at a time at most."""


CHUNKED: tuple[ChunkedSource, ...] = (csv, parquet, arrow)


def read_source(source: object, settings: DataRecipe, task: str = "auto") -> Table:
    """A table from a file, a folder, a catalogue name such as `@digits`, arrays, a data frame or a dataset.

    task: what it is read for, where several sources understand a folder: masks and boxes of the same pictures.

    Raises:
        DataError: if the source is nothing that is understood, or something in it is wrong.

    >>> table = read_source({"age": [31, 52], "city": ["Lima", "Oslo"]}, DataRecipe())
    >>> len(table), table.columns
    (2, ['age', 'city'])
    """
    if isinstance(source, str | os.PathLike) and not str(source).startswith("@"):
        source = existing(_path(source))
    if text.is_text(source, settings):
        return text.read(source, settings)
    if able := _able(source):
        one = next((one for one in able if _task_of(one) == task), able[0])
        table = one.read(source, settings)
        others = ", ".join(f"--task {_task_of(other)}" for other in able if other is not one)
        return (
            replace(table, notes=(*table.notes, f"read for {_task_of(one)}; {others} fits, too")) if others else table
        )
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


def _able(source: object) -> list[Source]:
    """The first source that understands it; if it is for one task, those for others after it."""
    able = list[Source]()
    for one in SOURCES:
        if (not able or _task_of(one) not in {"", *map(_task_of, able)}) and one.claims(source):
            able.append(one)
            if not _task_of(one):
                break
    return able


def _task_of(source: Source) -> str:
    """The task that all tables of a source are for, if there is one: its `TASK`."""
    return getattr(source, "TASK", "")


def open_source(source: object, settings: DataRecipe, task: str = "auto") -> Table | Stream:
    """The table of a source, or a stream of its chunks where it does not fit into the memory there is.

    task: see `read_source`.

    `data.rows_in_memory` overrules what the memory says.

    Raises:
        DataError: as `read_source`.
    """
    if isinstance(source, str | os.PathLike) and not str(source).startswith("@"):
        source = existing(_path(source))
    if (chunked := next((one for one in CHUNKED if one.claims(source)), None)) is not None:
        stream = _chunks_of(chunked, source, settings)
        if stream is not None:
            return stream if stream.is_large(settings) else read_source(source, settings, task)
    table = read_source(source, settings, task)
    stream = in_memory(table, WORKING).measured(settings)
    return stream if stream.is_large(settings) else table


def _chunks_of(one: ChunkedSource, source: object, settings: DataRecipe) -> Stream | None:
    """A stream of a source; none where it is damaged, for reading it as a whole says how."""
    try:
        rows, row_bytes = one.extent(source, settings)
        stream = Stream(lambda size: one.chunks(source, settings, size), rows, row_bytes, WORKING * row_bytes)
        return stream.measured(settings)
    except DataError:
        return None


def _path(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source)
    if "://" in text:
        raise DataError(f"{text} is an address, not a file", "download it first, then give the file")
    if not text or text == "-":
        raise DataError(
            "there is no file name" if not text else "standard input is a stream", "give the path of a file"
        )
    return Path(text)
