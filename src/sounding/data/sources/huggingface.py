"""Data sets of the Hugging Face library `datasets`, in memory or on disk; streams are not read."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sounding.data.sources._columns import understood
from sounding.data.table import Origin, Table
from sounding.errors import DataError, Problems
from sounding.recipe import DataRecipe

UNDERSTANDS = "a Hugging Face Dataset or DatasetDict"


def claims(source: object) -> bool:
    """Whether it is a `datasets.Dataset`; a `DatasetDict` is a dictionary of parts."""
    datasets = sys.modules.get("datasets")  # whoever holds one has imported it
    return datasets is not None and isinstance(source, datasets.Dataset)


def read(source: Any, settings: DataRecipe) -> Table:
    """The table; classes come as their names, pictures and recordings as bytes or paths.

    A single column of classes is the target.

    Raises:
        DataError: naming the columns whose features are neither values, classes, pictures nor recordings.
    """
    problems = Problems()
    for name, feature in source.features.items():
        kind = type(feature).__name__
        if kind not in ("Value", "ClassLabel", "Image", "Audio"):
            what = f"the feature {kind} is not understood"
            problems.add(DataError(what, "leave the column out or spread it", file="Dataset", column=name))
    problems.raise_if_any()
    if not len(source):
        raise DataError("the data set has 0 rows", "give at least one row")
    data = source.with_format("arrow")[:]
    classes = {name: feature.names for name, feature in source.features.items() if hasattr(feature, "names")}
    for name, names in classes.items():
        position = data.column_names.index(name)
        data = data.set_column(position, name, _named(data.column(name), names))
    data = understood(data.replace_schema_metadata(None), settings, "Dataset")
    target = tuple(classes) if len(classes) == 1 else ()
    return Table(data, "Dataset", (Origin("Dataset", len(data)),), target=target, notes=("Hugging Face data set",))


def _named(codes: pa.ChunkedArray, names: list[str]) -> pa.Array:
    """Class names for codes; -1, which stands for "not labelled" there, has none."""
    codes = codes.combine_chunks().cast(pa.int32())
    known = pc.if_else(pc.greater_equal(codes, 0), codes, pa.scalar(None, pa.int32()))
    return pa.DictionaryArray.from_arrays(known, pa.array(names, pa.string()))
