from __future__ import annotations

import datetime
from decimal import Decimal

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sounding.data.sources import read_source
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

CELLS = {
    "n": [1, 2],
    "x": [0.5, None],
    "word": ["a", "b"],
    "day": [datetime.date(2024, 1, 2), None],
    "flag": [True, False],
    "price": [Decimal("1.10"), Decimal("2.20")],
}


def read(source: object, **values: list[str]) -> Table:
    return read_source(source, DataRecipe(**values))  # type: ignore[arg-type]


class Capsule:
    """What hands over an Arrow stream and is nothing else."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.table.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize(
    "source",
    [
        pa.table(CELLS),
        pa.record_batch(CELLS),
        pd.DataFrame(CELLS),
        pa.table(CELLS).to_pandas(types_mapper=pd.ArrowDtype),
        pl.DataFrame(CELLS),
        Capsule(pa.table(CELLS)),
    ],
    ids=["pyarrow", "batch", "pandas", "pandas-arrow", "polars", "stream"],
)
def test_cells_are_those_that_were_given(source: object) -> None:
    table = read(source)
    assert table.data.to_pydict() == CELLS
    assert all("view" not in str(kind) for kind in table.data.schema.types)


def test_categories_of_any_frame_are_words() -> None:
    for source in (
        pd.DataFrame({"a": pd.Categorical(["x", None, "y"])}),
        pl.DataFrame({"a": pl.Series(["x", None, "y"], dtype=pl.Categorical)}),
        pl.DataFrame({"a": pl.Series(["x", None, "y"], dtype=pl.Enum(["x", "y"]))}),
    ):
        column = read(source).column("a", DataRecipe())
        assert column.words.to_pylist() == ["x", None, "y"]


def test_a_series_is_a_column() -> None:
    assert read(pd.Series([1, 2], name="a")).data.to_pydict() == {"a": [1, 2]}
    assert read(pl.Series("a", [1, 2])).data.to_pydict() == {"a": [1, 2]}


def test_an_index_that_means_something_becomes_a_column() -> None:
    named = pd.DataFrame({"a": [1, 2]}, index=pd.Index(["p", "q"], name="person"))
    assert read(named).data.to_pydict() == {"a": [1, 2], "person": ["p", "q"]}
    unnamed = pd.DataFrame({"a": [1, 2]}, index=["p", "q"])
    assert read(unnamed).columns == ["a", "index"]
    collision = pd.DataFrame({"index": [1, 2]}, index=["p", "q"])
    assert read(collision).columns == ["index", "index_index"]
    levels = pd.DataFrame({"a": [1, 2]}, index=pd.MultiIndex.from_tuples([("p", 1), ("q", 2)], names=["person", None]))
    assert read(levels).data.to_pydict() == {"a": [1, 2], "person": ["p", "q"], "index_1": [1, 2]}


def test_an_index_that_numbers_rows_is_left_out_and_said() -> None:
    shuffled = pd.DataFrame({"a": [1, 2, 3]}).iloc[[2, 0]]
    table = read(shuffled)
    assert table.data.to_pydict() == {"a": [3, 1]}
    assert [finding.rule for finding in table.findings] == ["unnamed-column"]
    assert read(shuffled, keep=["index"]).data["index"].to_pylist() == [2, 0]
    assert not read(pd.DataFrame({"a": [1]})).findings


def test_names_that_are_no_text_become_text() -> None:
    assert read(pd.DataFrame([[1, 2]])).columns == ["0", "1"]
    assert read(pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]))).columns == [
        "a.1",
        "a.2",
    ]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "both named"),
        (pl.DataFrame({"a": [["x"], ["y"]]}), "list"),
        (pd.DataFrame({"a": [1, "x"]}), "give the column one type"),
        (pd.DataFrame({"a": []}), "0 rows"),
        (pl.DataFrame({"a": [1]}).lazy(), "not understood"),
        (
            object(),
            "a source of type builtins.object is not understood; give one of these: a name of the catalogue",
        ),
        (3, "type builtins.int"),
    ],
)
def test_what_cannot_be_a_table_is_refused(source: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(source)
