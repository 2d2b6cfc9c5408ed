from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from sounding.data.sources import read_source
from sounding.data.table import Table
from sounding.errors import DataError
from sounding.kinds import Image
from sounding.recipe import DataRecipe

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (5, 3, 6, 7), dtype=np.uint8)


def read(source: object) -> Table:
    return read_source(source, DataRecipe())


def pictures(table: Table) -> np.ndarray:
    return np.asarray(table.column("image", DataRecipe()).cells.to_numpy_ndarray())


@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def test_x_and_y(wrap: object) -> None:
    x, y = RANDOM.normal(size=(4, 2)).astype(np.float32), np.array([1, 0, 1, 2])
    table = read((wrap(x), wrap(y)))  # type: ignore[operator]
    assert table.columns == ["x0", "x1", "target"]
    assert (np.stack([table.data["x0"], table.data["x1"]], axis=1) == x).all()
    assert table.data["target"].to_pylist() == [1, 0, 1, 2]
    assert table.target == ("target",)


def test_several_targets() -> None:
    table = read((np.zeros((2, 1)), np.array([[1, 0], [0, 1]])))
    assert table.target == ("target_0", "target_1")
    assert table.data["target_1"].to_pylist() == [0, 1]


@pytest.mark.parametrize(
    "source",
    [PICTURES, PICTURES.transpose(0, 2, 3, 1), torch.as_tensor(PICTURES)],
    ids=["channels-first", "channels-last", "tensor"],
)
def test_pictures_in_colour(source: object) -> None:
    assert (pictures(read((source, np.arange(5)))) == PICTURES.transpose(0, 2, 3, 1)).all()


def test_grey_pictures_and_a_lone_array() -> None:
    assert (pictures(read(PICTURES[:, 0])) == PICTURES[:, 0]).all()


def test_a_single_channel_may_come_first() -> None:
    column = read(np.ascontiguousarray(PICTURES[:, :1])).column("image", DataRecipe())
    kind, _ = Image.fit(column, np.arange(len(column)), DataRecipe())
    assert (kind.encode(column)[0] == PICTURES[:, :1]).all()


def test_a_dictionary_of_columns() -> None:
    source = {
        "age": np.array([1.5, np.nan]),
        "word": np.array(["a", "b"]),
        "z": np.zeros((2, 2)),
        "image": PICTURES[:2],
    }
    table = read(source)
    assert table.columns == ["age", "word", "z_0", "z_1", "image"]
    assert table.data["word"].to_pylist() == ["a", "b"]


def test_masked_cells_are_missing() -> None:
    assert read({"a": np.ma.array([1, 2], mask=[False, True])}).data["a"].to_pylist() == [1, None]


def test_half_precision_tensors_keep_their_values() -> None:
    values = torch.tensor([0.5, -1.25], dtype=torch.bfloat16)
    assert read({"a": values}).data["a"].to_pylist() == [0.5, -1.25]


def test_a_frame_with_targets_beside_it() -> None:
    table = read((pd.DataFrame({"a": [1, 2]}), pd.Series([0, 1], name="y")))
    assert table.columns == ["a", "y"]
    assert table.target == ("y",)
    assert read((pd.DataFrame({"a": [1, 2]}), [0, 1])).target == ("target",)


def test_parts() -> None:
    part = (np.zeros((2, 1)), np.array([0, 1]))
    table = read({"train": part, "test": part, "val": part})
    assert dict(table.parts) == {"train": range(0, 2), "validation": range(2, 4), "test": range(4, 6)}
    assert table.target == ("target",)


def test_rows_as_dictionaries() -> None:
    table = read([{"a": 1, "b": "x"}, {"a": 2.5}])
    assert table.data.to_pydict() == {"a": [1.0, 2.5], "b": ["x", None]}


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ((np.zeros((3, 2)), np.zeros(2)), "x has 3 rows and y has 2"),
        ({"a": [[1], [1, 2]]}, "lists of several lengths"),
        ({"a": np.zeros(3), "b": np.zeros(2)}, '"a" has 3 rows and "b" has 2'),
        (PICTURES / 255, "pictures of type float64; give uint8"),
        (PICTURES.transpose(0, 2, 1, 3), "do not tell their channels; give 1, 3, 4 or more"),
        (np.zeros((2, 2, 2, 2, 2)), "5 dimensions"),
        (np.array(3), "0 dimensions"),
        (np.zeros((0, 2)), "0 rows"),
        (np.array([1 + 2j]), "complex128"),
        ({"a": np.array([1, "x", None], dtype=object)}, "are no column"),
        ([{"a": [1]}], "nested"),
    ],
)
def test_what_cannot_be_a_table_is_refused(source: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(source)
