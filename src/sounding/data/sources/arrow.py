"""Arrow files: Feather and IPC, as files and as streams. Types stay as they are."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from sounding.data.sources._columns import check_names, check_types, understood
from sounding.data.sources._files import GZIP, content, read_bytes, suffix, unchanged
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

UNDERSTANDS = "an Arrow file (.arrow .feather .ipc, also .gz)"

SUFFIXES = {".arrow", ".arrows", ".feather", ".ipc"}


def claims(source: object) -> bool:
    """Whether it is a file with an ending that Arrow files have."""
    return isinstance(source, Path) and suffix(source) in SUFFIXES and not source.is_dir()


def read(source: object, settings: DataRecipe) -> Table:
    """The table."""
    assert isinstance(source, Path)
    data = read_bytes(source)
    found = content(data)
    if found not in ("", "Arrow"):
        what = f"the content is {found}, not Arrow"
        raise DataError(what, "give the file the ending of its content", file=source)
    try:
        reader = (pa.ipc.open_file if found == "Arrow" else pa.ipc.open_stream)(pa.BufferReader(data))
        check_names(reader.schema.names, settings, source)
        check_types(reader.schema, source)
        rows = reader.read_all()
        rows.validate(full=True)  # offsets that point outside would be read as they are
    except (pa.ArrowException, OSError) as error:
        raise _damaged(source, error) from None
    if not rows.num_rows:
        raise DataError("the file has columns but 0 rows", "give a file with rows", file=source)
    rows = understood(rows, settings, source)
    return Table(rows, source.name, (Origin(str(source), len(rows)),), root=source.parent, notes=("Arrow",))


def chunks(source: object, settings: DataRecipe, rows: int) -> Iterator[Table]:
    """The rows of `read`, so many at a time at most; a record batch of the file is read whole."""
    assert isinstance(source, Path)
    with unchanged(source):
        for batch in _batches(source, settings):
            for at in range(0, len(batch), rows):
                some = understood(pa.Table.from_batches([batch.slice(at, rows)]), settings, source)
                origin = Origin(str(source), len(some))
                yield Table(some, source.name, (origin,), root=source.parent, notes=("Arrow",))


def extent(source: object, settings: DataRecipe) -> tuple[int, int]:
    """About how many rows there are, and how many bytes one takes in memory, told from the first record batch."""
    assert isinstance(source, Path)
    first = next((batch for batch in _batches(source, settings) if len(batch)), None)
    if first is None:
        raise DataError("the file has columns but 0 rows", "give a file with rows", file=source)
    row_bytes = max(1, -(-first.nbytes // len(first)))
    return max(len(first), source.stat().st_size // row_bytes), row_bytes


def _batches(source: Path, settings: DataRecipe) -> Iterator[pa.RecordBatch]:
    try:
        with source.open("rb") as opened:
            head = opened.read(1 << 10)
        found = "" if head.startswith(GZIP) else content(head)
        if found not in ("", "Arrow"):
            read(source, settings)  # says what it is
        with gzip.open(source) if head.startswith(GZIP) else source.open("rb") as file:
            if found == "Arrow":
                reader = pa.ipc.open_file(file)
                check_names(reader.schema.names, settings, source)
                check_types(reader.schema, source)
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            else:
                batches = iter(pa.ipc.open_stream(file))
            for batch in batches:
                batch.validate(full=True)
                yield batch
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _damaged(source, error) from None


def _damaged(source: Path, error: Exception) -> DataError:
    if isinstance(error, MemoryError):
        return DataError("there is not enough memory to read it", "lower data.rows_in_memory", file=source)
    what = f"the Arrow file is damaged: {str(error).splitlines()[0]}"
    return DataError(what, "write or download it again", file=source)
