"""What every source becomes: rows are examples, columns are named, and each row knows where it came from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from sounding.errors import DataError, Problems, nearest
from sounding.finding import Finding
from sounding.kinds.kind import Column
from sounding.recipe import DataRecipe


@dataclass(frozen=True)
class Origin:
    """Where a stretch of rows came from."""

    file: str
    rows: int
    first_line: int | None = None
    """Line of the first row, where the format has lines."""
    lines: np.ndarray | None = None
    """Line of each row, where rows do not simply follow each other."""


@dataclass(frozen=True)
class Table:
    """Rows and named columns.

    A cell is a number, a word, a text, a picture or a recording: a path (text), encoded bytes, a struct of both
    (`{"bytes", "path"}`), or a fixed-shape tensor of uint8, (height, width) or (height, width, channels); or a list of
    boxes in a picture, `{"label", "left", "top", "right", "bottom"}` each.
    """

    data: pa.Table
    name: str
    """What messages call it: `adult.csv`."""
    origins: tuple[Origin, ...] = ()
    root: Path | None = None
    """The folder to which paths of pictures and recordings are relative, and which they may not leave."""
    parts: Mapping[str, range] = field(default_factory=dict)
    """The split that the source brings, if any: `{"train": range(0, 60000), "test": range(60000, 70000)}`."""
    target: tuple[str, ...] = ()
    """The columns to predict, where the source knows (a folder of class folders, a catalogue set)."""
    task: str = ""
    """The name of the task that the rows are made for, where the source leaves no doubt of it."""
    aside: tuple[str, ...] = ()
    """Columns that are no inputs unless `data.keep` or another setting names them: they only describe the rows."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By column what its values are called, where the source knows: `{"mask": {"0": "sky", "11": ""}}`."""
    notes: tuple[str, ...] = ()
    """What was recognised while reading, one line each: `separator ";", encoding UTF-8`."""
    findings: tuple[Finding, ...] = ()
    """Oddities that were handled while reading."""
    stands_for: str = ""
    """The fingerprint of all rows of the source, where these are a sample of them."""

    def __len__(self) -> int:
        return int(self.data.num_rows)

    @property
    def columns(self) -> list[str]:
        """The names of the columns, in order."""
        return list(self.data.column_names)

    def column(self, name: str, settings: DataRecipe) -> Column:
        """One column, with the strings that mean "no value" in it.

        Raises:
            DataError: if there is no such column, naming the nearest.
        """
        if name not in self.columns:
            raise DataError(f'there is no column "{name}"', nearest(name, self.columns), file=self.name)
        cells = _one_array(self.data.column(name))
        missing = frozenset(settings.missing_in.get(name, settings.missing))
        return Column(name, cells, missing, self.root, self.where, self.labels.get(name, {}))

    def where(self, row: int) -> tuple[str | None, int | None]:
        """File and line of a row; the line is none for formats without lines."""
        for origin in self.origins:
            if row < origin.rows:
                if origin.lines is not None:
                    return origin.file, int(origin.lines[row])
                return origin.file, None if origin.first_line is None else origin.first_line + row
            row -= origin.rows
        return self.name, None

    def filter(self, kept: np.ndarray) -> Table:
        """Some rows, given as (N,) bool; each still knows its file and line, and the parts keep their rows."""
        origins = self.origins or (Origin(self.name, len(self)),)
        starts = np.cumsum([0, *(origin.rows for origin in origins)])
        before = np.concatenate([[0], np.cumsum(kept)])
        return replace(
            self,
            data=self.data.filter(pa.array(kept)),
            origins=tuple(
                _thinned(origin, kept[start : start + origin.rows])
                for origin, start in zip(origins, starts[:-1], strict=True)
            ),
            parts={name: range(int(before[rows.start]), int(before[rows.stop])) for name, rows in self.parts.items()},
        )

    def slice(self, low: int, high: int) -> Table:
        """The rows [low, high), without a copy."""
        origins, start = [], 0
        for origin in self.origins or (Origin(self.name, len(self)),):
            begin, end = max(low - start, 0), min(high - start, origin.rows)
            if begin < end:
                first_line = None if origin.first_line is None else origin.first_line + begin
                lines = None if origin.lines is None else origin.lines[begin:end]
                origins.append(Origin(origin.file, end - begin, first_line, lines))
            start += origin.rows
        rows = {name: (max(rows.start, low) - low, min(rows.stop, high) - low) for name, rows in self.parts.items()}
        parts = {name: range(*bounds) for name, bounds in rows.items() if bounds[0] < bounds[1]}
        return replace(self, data=self.data.slice(low, high - low), origins=tuple(origins), parts=parts)

    def with_part(self, name: str, other: Table) -> Table:
        """This table with the rows of another added below, as a part of the split.

        Raises:
            DataError: naming every column that the other table lacks, or that holds another type there.
        """
        lacking = [column for column in self.columns if column not in other.columns]
        if lacking:
            named = ", ".join(f'"{column}"' for column in lacking)
            raise DataError(
                f"the column{'s' if len(lacking) > 1 else ''} {named} of {self.name} are not here",
                "give both files the same columns",
                file=other.name,
            )
        data = _stacked(self, other)
        parts = dict(self.parts) or {"train": range(len(self))}
        parts[name] = range(len(self), len(data))
        origins = self.origins or (Origin(self.name, len(self)),)
        return replace(
            self,
            data=data,
            origins=(*origins, *(other.origins or (Origin(other.name, len(other)),))),
            parts=parts,
            stands_for=_both(self.stands_for, other.fingerprint()) if self.stands_for else "",
            notes=tuple(dict.fromkeys((*self.notes, *other.notes))),
            findings=(*self.findings, *other.findings),
        )

    def fingerprint(self) -> str:
        """SHA-256 of names, types and every cell: equal for equal data, however it was stored."""
        if self.stands_for:
            return self.stands_for
        digest = hashlib.sha256()
        sink = pa.PythonFile(_Digest(digest), mode="w")
        with pa.ipc.new_stream(sink, self.data.schema.remove_metadata()) as stream:
            stream.write_table(self.data.combine_chunks().replace_schema_metadata(None), max_chunksize=1 << 16)
        return digest.hexdigest()


def _both(one: str, other: str) -> str:
    return hashlib.sha256(f"{one} {other}".encode()).hexdigest()


def _thinned(origin: Origin, kept: np.ndarray) -> Origin:
    """A stretch of rows of which some are gone."""
    lines = origin.lines
    if lines is None and origin.first_line is not None:
        lines = origin.first_line + np.arange(origin.rows)
    return Origin(origin.file, int(kept.sum()), lines=None if lines is None else np.asarray(lines)[kept])


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """The chunks of a column as one array; text and bytes beyond 2 GB need the types with 64-bit offsets."""
    if column.num_chunks == 1:
        return column.chunk(0)
    if not column.num_chunks:
        if isinstance(column.type, pa.BaseExtensionType):
            return pa.ExtensionArray.from_storage(column.type, pa.array([], column.type.storage_type))
        return pa.array([], column.type)
    if column.nbytes >= _NARROW:
        if pa.types.is_string(column.type):
            column = column.cast(pa.large_string())
        elif pa.types.is_binary(column.type):
            column = column.cast(pa.large_binary())
    return column.combine_chunks()


def _stacked(above: Table, below: Table) -> pa.Table:
    """The rows of both; a column of coded words meets one of plain words as words, whole numbers fractions as such."""
    problems = Problems()
    columns = []
    for name in above.columns:
        pair = [above.data.column(name), below.data.column(name)]
        if pair[0].type != pair[1].type:
            pair = [one.cast(one.type.value_type) if pa.types.is_dictionary(one.type) else one for one in pair]
        tables = [pa.table({name: one}) for one in pair]
        try:
            columns.append(pa.concat_tables(tables, promote_options="permissive").unify_dictionaries().column(name))
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            what = f"{pair[1].type} here, but {pair[0].type} in {above.name}"
            problems.add(DataError(what, "give both files the same types", file=below.name, column=name))
    problems.raise_if_any()
    return pa.table(columns, names=above.columns)


_NARROW = 2**31
"""Bytes that text with 32-bit offsets cannot hold."""


class _Digest:
    """A file that only hashes what is written to it."""

    closed = False

    def __init__(self, digest: hashlib._Hash) -> None:
        self.digest = digest

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""
