from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sounding.data import table as tables
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

PICTURES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


def table(name: str = "a.csv", **columns: object) -> Table:
    return Table(pa.table(columns), name)


def test_an_unknown_column_names_the_nearest() -> None:
    with pytest.raises(DataError, match='no column "agee"; did you mean "age"'):
        table(age=[1], city=["x"]).column("agee", DataRecipe())


def test_a_column_knows_what_means_no_value_and_where_it_is() -> None:
    one = Table(pa.table({"a": ["1", "NA"], "b": ["NA", ""]}), "a.csv", (Origin("a.csv", 2, 2),), root=Path("x"))
    settings = DataRecipe(missing_in={"b": [""]})
    assert one.column("a", settings).words.to_pylist() == ["1", None]
    assert one.column("b", settings).words.to_pylist() == ["NA", None]
    assert one.column("a", settings).where(1) == ("a.csv", 3)
    assert one.column("a", settings).root == Path("x")


def test_where_goes_through_the_origins() -> None:
    origins = (Origin("a", 2, 2), Origin("b", 3, lines=np.array([2, 5, 9])), Origin("c", 1))
    one = Table(pa.table({"x": range(6)}), "all", origins)
    assert [one.where(row) for row in range(6)] == [
        ("a", 2),
        ("a", 3),
        ("b", 2),
        ("b", 5),
        ("b", 9),
        ("c", None),
    ]
    assert one.where(6) == ("all", None)


@pytest.mark.parametrize(
    "column",
    [
        pa.chunked_array([pa.array(["a"]), pa.array(["b"])]),
        pa.chunked_array([], pa.string()),
        pa.chunked_array([], pa.dictionary(pa.int32(), pa.string())),
        pa.chunked_array([pa.FixedShapeTensorArray.from_numpy_ndarray(PICTURES)] * 2),
        pa.chunked_array([], pa.fixed_shape_tensor(pa.uint8(), [3, 4])),
    ],
    ids=["text", "empty", "empty-codes", "pictures", "empty-pictures"],
)
def test_a_column_is_one_array(column: pa.ChunkedArray) -> None:
    cells = table(a=column).column("a", DataRecipe()).cells
    assert isinstance(cells, pa.Array)
    assert cells.type == column.type
    assert len(cells) == len(column)


def test_text_beyond_two_gigabytes_gets_wide_offsets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_NARROW", 4)
    column = pa.chunked_array([pa.array(["abc"]), pa.array(["def"])])
    cells = table(a=column).column("a", DataRecipe()).cells
    assert cells.type == pa.large_string()
    assert cells.to_pylist() == ["abc", "def"]


def test_a_part_is_added_below() -> None:
    above = Table(pa.table({"a": [1, 2], "b": ["x", "y"]}), "train.csv", (Origin("train.csv", 2, 2),), target=("b",))
    below = Table(pa.table({"b": ["z"], "c": [0], "a": [3]}), "test.csv", (Origin("test.csv", 1, 2),))
    both = above.with_part("test", below)
    assert both.data.to_pydict() == {"a": [1, 2, 3], "b": ["x", "y", "z"]}
    assert dict(both.parts) == {"train": range(0, 2), "test": range(2, 3)}
    assert both.where(2) == ("test.csv", 2)
    assert both.target == ("b",)
    three = both.with_part("validation", below)
    assert dict(three.parts) == {"train": range(0, 2), "test": range(2, 3), "validation": range(3, 4)}


@pytest.mark.parametrize(
    ("above", "below", "expected"),
    [
        (pa.array([1]), pa.array([0.5]), [1.0, 0.5]),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]), ["a", "b"]),
        (pa.array(["a"]).dictionary_encode(), pa.array(["b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a"]), pa.array(["b"], pa.large_string()), ["a", "b"]),
        (pa.array([None], pa.null()), pa.array(["b"]), [None, "b"]),
    ],
)
def test_parts_of_related_types_meet(above: pa.Array, below: pa.Array, expected: list[object]) -> None:
    both = table(a=above).with_part("test", table(a=below))
    assert both.data["a"].to_pylist() == expected
    both.column("a", DataRecipe())


def test_pictures_meet() -> None:
    one = table(image=pa.FixedShapeTensorArray.from_numpy_ndarray(PICTURES))
    cells = one.with_part("test", one).column("image", DataRecipe()).cells
    assert (cells.to_numpy_ndarray() == np.concatenate([PICTURES, PICTURES])).all()


def test_parts_that_do_not_fit_are_refused_with_every_column() -> None:
    above = table("train.csv", a=[1], b=["x"], c=[1], d=[1])
    with pytest.raises(DataError, match=r'test.csv: the columns "c", "d" of train.csv are not here'):
        above.with_part("test", table("test.csv", a=[1], b=["x"]))
    with pytest.raises(DataError) as caught:
        above.with_part("test", table("test.csv", a=["1"], b=[1], c=[1], d=[1]))
    assert 'column "a"): string here, but int64 in train.csv' in str(caught.value)
    assert 'column "b"): int64 here, but string in train.csv' in str(caught.value)


@given(st.lists(st.one_of(st.none(), st.integers(-9, 9)), min_size=1, max_size=20), st.integers(0, 20))
def test_the_fingerprint_does_not_depend_on_how_cells_are_stored(cells: list[int | None], cut: int) -> None:
    whole = pa.array(cells, pa.int64())
    chunks = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)])
    padded = pa.array([7, *cells], pa.int64()).slice(1)
    values = np.array([cell or 0 for cell in cells])
    masked = pa.array(values, mask=np.array([cell is None for cell in cells]))
    prints = {table(a=column).fingerprint() for column in (whole, chunks, padded, masked)}
    assert len(prints) == 1


def test_the_fingerprint_sees_every_cell_name_and_type() -> None:
    variants = [
        table(a=[1, 2], b=["x", "y"]),
        table(a=[1, 3], b=["x", "y"]),
        table(a=[1, None], b=["x", "y"]),
        table(a=[2, 1], b=["x", "y"]),
        table(a=[1, 2], c=["x", "y"]),
        table(b=["x", "y"], a=[1, 2]),
        table(a=[1.0, 2.0], b=["x", "y"]),
        table(a=[1, 2], b=["xy", ""]),
    ]
    assert len({one.fingerprint() for one in variants}) == len(variants)
    assert table("other", a=[1, 2], b=["x", "y"]).fingerprint() == variants[0].fingerprint()
