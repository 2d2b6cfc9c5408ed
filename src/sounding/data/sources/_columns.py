"""What the sources of typed columns share: which Arrow types are understood, and names that are not used twice."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import DataError, Problems
from sounding.kinds.boxes import are_boxes
from sounding.kinds.series import series_depth
from sounding.recipe import DataRecipe

_SHAPED = "arrow.fixed_shape_tensor"


def understood(data: pa.Table, settings: DataRecipe, file: object) -> pa.Table:
    """The table with plain string, binary and dictionary types.

    Raises:
        DataError: naming every column that is nested or of a foreign extension type, and names that are used twice.
    """
    check_names(data.column_names, settings, file)
    check_types(data.schema, file)
    columns = [_plain(column) for column in data.columns]
    return pa.table(columns, names=data.column_names)


def check_types(schema: pa.Schema, file: object) -> None:
    """Refuse nested columns and extension types other than pictures and recordings, before any cell is read."""
    problems = Problems()
    for field in schema:
        extension = (field.metadata or {}).get(b"ARROW:extension:name", b"").decode(errors="replace")
        if not extension and isinstance(field.type, pa.BaseExtensionType):
            extension = field.type.extension_name
        if extension and extension != _SHAPED:
            what = f"the extension type {extension} is refused"
            problems.add(DataError(what, "store the column as plain values", file=file, column=field.name))
        elif pa.types.is_nested(field.type) and not _is_held(field.type):
            what = f"cells of type {field.type} are not understood"
            problems.add(DataError(what, "spread them over plain columns", file=file, column=field.name))
    problems.raise_if_any()


def check_names(names: Sequence[str], settings: DataRecipe, file: object, line: int | None = None) -> None:
    """Refuse tables with too many columns and names that are used twice."""
    if len(names) > settings.max_columns:
        what = f"{len(names):,} columns are more than the limit of {settings.max_columns:,}"
        raise DataError(what, f"raise it with --set data.max_columns={len(names)}", file=file, line=line)
    first: dict[str, int] = {}
    problems = Problems()
    for position, name in enumerate(names, start=1):
        if name and name in first:  # columns without a name are the business of whoever reads them
            what = f'columns {first[name]} and {position} are both named "{name}"'
            problems.add(DataError(what, "rename one of them", file=file, line=line))
        first.setdefault(name, position)
    problems.raise_if_any()


def _is_held(kind: pa.DataType) -> bool:
    """Whether nested cells are files, series or boxes."""
    return _is_file(kind) or bool(series_depth(kind)) or are_boxes(kind)


def _is_file(kind: pa.DataType) -> bool:
    """Whether cells are structs that data sets on the Hugging Face hub hold pictures and recordings in.

    `{"bytes", "path"}`, or decoded recordings: `{"array", "sampling_rate"}`, with or without their path.
    """
    if not pa.types.is_struct(kind):
        return False
    names = {field.name for field in kind}
    return names == {"bytes", "path"} or names - {"path"} == {"array", "sampling_rate"}


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    if pa.types.is_run_end_encoded(kind):
        column = pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], kind.value_type)
        kind = column.type
    if pa.types.is_dictionary(kind) and pa.types.is_string_view(kind.value_type):
        coded = [(chunk.indices, chunk.dictionary.cast(pa.string())) for chunk in column.chunks]
        column = pa.chunked_array([pa.DictionaryArray.from_arrays(*pair) for pair in coded])
    elif pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
    elif pa.types.is_binary_view(kind):
        column = column.cast(pa.large_binary())
    return column
