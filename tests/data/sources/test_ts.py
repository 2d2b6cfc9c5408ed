from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()
HEADER = "# about\n@problemName Vowels\n@univariate false\n@dimensions 2\n@classLabel true a b\n@data\n"


def write(folder: Path, text: str, name: str = "Vowels_TRAIN.ts") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["x.ts", "x.TS.gz"])
def test_dimensions_points_and_classes(tmp_path: Path, name: str) -> None:
    table = read_source(write(tmp_path, HEADER + "1,2.5:3,-4e1:b\n\n7:8:a\n", name), SETTINGS)
    assert table.data.to_pylist() == [
        {"series": [[1.0, 2.5], [3.0, -40.0]], "class": "b"},
        {"series": [[7.0], [8.0]], "class": "a"},
    ]
    assert table.target == ("class",)
    assert [table.where(row)[1] for row in (0, 1)] == [7, 9]


def test_one_dimension_is_a_list_of_numbers_and_a_question_mark_no_value(tmp_path: Path) -> None:
    table = read_source(write(tmp_path, "@classLabel false\n@data\n1,?,3\n"), SETTINGS)
    (row,) = table.data.to_pylist()
    assert table.target == ()
    assert row["series"][::2] == [1.0, 3.0]
    assert math.isnan(row["series"][1])


def test_a_value_may_be_the_target(tmp_path: Path) -> None:
    table = read_source(write(tmp_path, "@targetLabel true\n@data\n1,2:0.5\n"), SETTINGS)
    assert table.target == ("value",)
    assert table.data["value"].to_pylist() == ["0.5"]


def test_train_and_test_are_put_together(tmp_path: Path) -> None:
    train, test = (write(tmp_path, HEADER + f"1,2:3,4:{label}\n", f"{label}.ts") for label in "ab")
    table = read_source({"train": train, "test": test}, SETTINGS)
    assert dict(table.parts) == {"train": range(0, 1), "test": range(1, 2)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER + "1,2:3,x:a\n", r':7: "x" is no number \(dimension 2, point 2\)'),
        (HEADER + "1,2:3,4:c\n", r':7: "c" is no class that the header names'),
        (HEADER + "1,2:a\n", r":7: 1 dimensions, where the header says 2"),
        (HEADER.replace("2\n", "two\n") + "1:2:a\n", r":4: the number of dimensions is no number"),
        ("@timeStamps true\n@data\n(0,1):a\n", r":1: points with time stamps"),
        ("1,2:a\n", r":1: this stands before @data"),
        ("@classLabel true a\n@data\n1\n", r":3: there is no colon"),
        (HEADER, "there is no line after @data"),
        ("# nothing\n", "there is no line @data"),
    ],
)
def test_mistakes_are_named_by_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_source(write(tmp_path, text), SETTINGS)
