"""Data frames: pandas, Polars, PyArrow, and whatever else hands over an Arrow stream. Types stay as they are."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa

from sounding.data.sources._columns import understood
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.finding import Finding, Remedy
from sounding.recipe import DataRecipe

UNDERSTANDS = "a pandas, Polars or PyArrow table"


def claims(source: object) -> bool:
    """Whether it is a table with columns that Arrow can take over."""
    if isinstance(source, type):
        return False
    return hasattr(source, "__arrow_c_stream__") or _is_pandas(source) or isinstance(source, pa.RecordBatch)


def read(source: object, settings: DataRecipe) -> Table:
    """The table; an index that means something becomes a column.

    Raises:
        DataError: naming a column that is nested or mixes types.
    """
    findings: list[Finding] = []
    if _is_pandas(source):
        data = _from_pandas(source, settings, findings)
    elif isinstance(source, pa.RecordBatch):
        data = pa.Table.from_batches([source])
    else:
        data = _from_stream(source)
    if not data.num_rows:
        raise DataError("the table has 0 rows", "give at least one row")
    name = type(source).__name__
    data = understood(data, settings, name)
    return Table(data, name, (Origin(name, len(data)),), notes=(name,), findings=tuple(findings))


def _from_stream(source: Any) -> pa.Table:
    try:
        if isinstance(source, pa.Table):
            return source
        chunks = pa.chunked_array(source)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise DataError(
            f"the table cannot be read: {str(error).splitlines()[0]}", "give it as a PyArrow table"
        ) from None
    if pa.types.is_struct(chunks.type):
        return pa.Table.from_batches(
            [pa.RecordBatch.from_struct_array(chunk) for chunk in chunks.chunks],
            pa.schema(chunks.type.fields),
        )
    return pa.table({getattr(source, "name", None) or "x": chunks})  # a single column, such as a Polars series


def _is_pandas(source: object) -> bool:
    pandas = sys.modules.get("pandas")  # whoever holds a frame has imported it
    return pandas is not None and isinstance(source, pandas.DataFrame | pandas.Series)


def _from_pandas(source: Any, settings: DataRecipe, findings: list[Finding]) -> pa.Table:
    import pandas as pd

    if isinstance(source, pd.Series):
        source = source.to_frame("x" if source.name is None else source.name)
    names = [".".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in source.columns]
    columns = [_series(source.iloc[:, position], name) for position, name in enumerate(names)]
    for level, values in _index_columns(source.index):
        name = level if level not in names else f"{level}_index"
        if level == "index" and pd.api.types.is_integer_dtype(values) and "index" not in settings.keep:
            findings.append(_index_left_out(values))
            continue
        names.append(name)
        columns.append(_series(pd.Series(values), name))
    return pa.table(columns, names=names)


def _index_columns(index: Any) -> list[tuple[str, Any]]:
    """The levels of an index that are more than the numbers of the rows."""
    import pandas as pd

    if isinstance(index, pd.RangeIndex) and index.name is None and (index.start, index.step) == (0, 1):
        return []
    columns = []
    for level, name in enumerate(index.names):
        default = "index" if index.nlevels == 1 else f"index_{level}"
        columns.append((default if name is None else str(name), index.get_level_values(level)))
    return columns


def _index_left_out(values: Any) -> Finding:
    return Finding(
        rule="unnamed-column",
        severity="warning",
        title="the index of the data frame has no name and holds whole numbers: left out",
        evidence={"first": [int(value) for value in values[:3]]},
        meaning="It most likely numbers the rows, and tells nothing about new ones.",
        remedy=Remedy("keep it, or give it a name, if it has a meaning", {"data.keep": ["index"]}),
    )


def _series(series: Any, name: str) -> pa.Array:
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        what = f"cells cannot be read: {str(error).splitlines()[0]}"
        raise DataError(what, "give the column one type", file="DataFrame", column=name) from None
