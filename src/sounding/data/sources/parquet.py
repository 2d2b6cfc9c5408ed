"""Parquet files, and folders of them. Types stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sounding.data.sources._columns import check_names, check_types, understood
from sounding.data.sources._files import content, read_bytes, suffix, unchanged
from sounding.data.sources._parts import by_part, in_parts, part_named
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems
from sounding.finding import Finding, Remedy
from sounding.recipe import DataRecipe

UNDERSTANDS = "a Parquet file or a folder of them (.parquet)"

SUFFIXES = {".parquet", ".pq"}

_PLAUSIBLE_ROWS_PER_BYTE = 10_000
"""Even a single repeated value takes about twenty bytes for each page of 20,000 rows."""

_INDEX = "__index_level_"

FEW_ROWS = 1000
"""From which is told how many bytes a row takes."""


def claims(source: object) -> bool:
    """Whether it is a Parquet file, or a folder with Parquet files in it."""
    if not isinstance(source, Path):
        return False
    return bool(_parts_in(source)) if source.is_dir() else suffix(source) in SUFFIXES


def read(source: object, settings: DataRecipe) -> Table:
    """The table; files named `train-...`, `validation-...`, `test-...` in a folder become its parts."""
    assert isinstance(source, Path)
    if not source.is_dir():
        return _read_file(source, settings)
    files = _parts_in(source)
    _check_same_columns(files)
    names = [part_named(file.name.split(".")[0].split("-")[0].split("_")[0]) for file in files]
    tables = [_read_file(file, settings) for file in files]
    return by_part(tables, names, name=source.name or str(source), root=source)


def chunks(source: object, settings: DataRecipe, rows: int) -> Iterator[Table]:
    """The rows of `read`, so many at a time; each chunk says of which part of the split its rows are."""
    assert isinstance(source, Path)
    files = _parts_in(source) if source.is_dir() else [source]
    _check_same_columns(files)
    names = [part_named(file.name.split(".")[0].split("-")[0].split("_")[0]) for file in files]
    for file, part in in_parts(files, names if source.is_dir() else [None]):
        with unchanged(file):
            for at, data in _batches(file, settings, rows):
                table, findings = _without_index(data, settings)
                yield Table(
                    table,
                    source.name or str(source),
                    (Origin(str(file), len(data)),),
                    root=source if source.is_dir() else source.parent,
                    parts={part: range(len(data))} if part else {},
                    notes=("Parquet",),
                    findings=() if at else findings,
                )


def extent(source: object, settings: DataRecipe) -> tuple[int, int]:
    """How many rows there are, and about how many bytes one takes in memory."""
    assert isinstance(source, Path)
    files = _parts_in(source) if source.is_dir() else [source]
    total = 0
    for file in files:
        try:
            with _open(file) as parquet:
                _check_counts(parquet.metadata, file)
                total += parquet.metadata.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(file, error) from None
    _, first = next(_batches(files[0], settings, FEW_ROWS))
    return total, -(-first.nbytes // len(first))


def _batches(file: Path, settings: DataRecipe, rows: int) -> Iterator[tuple[int, pa.Table]]:
    """So many rows at a time, of a file whose row groups are read in small pieces."""
    at = 0
    try:
        with _open(file, buffer_size=1 << 20, pre_buffer=False) as parquet:
            check_names(parquet.schema_arrow.names, settings, file)
            check_types(parquet.schema_arrow, file)
            _check_counts(parquet.metadata, file)
            for batch in parquet.iter_batches(batch_size=rows, use_threads=False):
                yield at, understood(pa.Table.from_batches([batch]), settings, file)
                at += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> DataError:
    if isinstance(error, MemoryError):
        return DataError("there is not enough memory to read it", "lower data.rows_in_memory", file=file)
    what = f"the Parquet file is damaged: {str(error).splitlines()[0]}"
    return DataError(what, "write or download it again", file=file)


def _parts_in(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if suffix(file) in SUFFIXES and not file.name.startswith(("_", ".")))
    return sorted(file for file in files if file.is_file())


def _read_file(file: Path, settings: DataRecipe) -> Table:
    with unchanged(file):
        data = _read_rows(file, settings)
    data, findings = _without_index(data, settings)
    origin = Origin(str(file), data.num_rows)
    return Table(data, file.name, (origin,), root=file.parent, notes=("Parquet",), findings=findings)


def _without_index(data: pa.Table, settings: DataRecipe) -> tuple[pa.Table, tuple[Finding, ...]]:
    findings = []
    index = [name for name in data.column_names if name.startswith(_INDEX) and name not in settings.keep]
    if index and len(index) < data.num_columns:
        data = data.drop_columns(index)
        findings.append(
            Finding(
                rule="unnamed-column",
                severity="warning",
                title=f"{', '.join(index)}: the index of a data frame, left out",
                evidence={"columns": index},
                meaning="An index without a name mostly numbers the rows, and tells nothing about new ones.",
                remedy=Remedy("keep it if it has a meaning", {"data.keep": index}),
            )
        )
    return data, tuple(findings)


def _read_rows(file: Path, settings: DataRecipe) -> pa.Table:
    try:
        with _open(file) as parquet:
            check_names(parquet.schema_arrow.names, settings, file)
            check_types(parquet.schema_arrow, file)
            _check_counts(parquet.metadata, file)
            return understood(parquet.read(), settings, file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None


def _open(file: Path, **options: int) -> pq.ParquetFile:
    with file.open("rb") as opened:
        head = opened.read(1 << 10)
    if not head:
        raise DataError("the file is empty", "give a file with rows", file=file)
    if head.startswith(b"PAR1"):
        return pq.ParquetFile(file, **options)
    data = read_bytes(file)  # a gzip archive, or no Parquet at all
    if not data.startswith(b"PAR1"):
        what = f"the content is {content(data) or 'something else'}, not Parquet"
        raise DataError(what, "give the file the ending of its content", file=file)
    return pq.ParquetFile(pa.BufferReader(data))


def _check_counts(metadata: pq.FileMetaData, file: Path) -> None:
    """Refuse a footer that promises more rows than the file can hold, before memory is set aside for them."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    size = file.stat().st_size
    if (
        sum(group.num_rows for group in groups) != metadata.num_rows
        or metadata.num_rows > size * _PLAUSIBLE_ROWS_PER_BYTE
    ):
        what = f"the footer claims {metadata.num_rows:,} rows, which a file of {size:,} bytes does not hold"
        raise DataError(what, "the file is damaged: write or download it again", file=file)
    if not metadata.num_rows:
        raise DataError("the file has columns but 0 rows", "give a file with rows", file=file)


def _check_same_columns(files: list[Path]) -> None:
    """Refuse parts that differ, naming both files and the column."""
    problems = Problems()
    first = _schema(files[0])
    for file in files[1:]:
        schema = _schema(file)
        for name in [*first.names, *(name for name in schema.names if name not in first.names)]:
            kinds = [str(one.field(name).type) if name in one.names else "absent" for one in (first, schema)]
            if kinds[0] != kinds[1]:
                what = f"{kinds[1]} here, but {kinds[0]} in {files[0].name}"
                problems.add(DataError(what, "give all parts the same columns", file=file, column=name))
    problems.raise_if_any()


def _schema(file: Path) -> pa.Schema:
    try:
        with _open(file) as parquet:
            return parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from None
