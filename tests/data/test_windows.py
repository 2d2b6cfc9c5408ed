"""Long tables cut into windows: against a slow loop."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sounding.data.schema import Schema
from sounding.data.sources import read_source
from sounding.data.split import make_split
from sounding.data.table import Table
from sounding.data.windows import cut, of_windows, point_means, starts
from sounding.errors import DataError
from sounding.recipe import DataRecipe


def settings(**values: object) -> DataRecipe:
    return DataRecipe(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("points", [10, 11, 37, 100])
@pytest.mark.parametrize(("window", "stride"), [(10, 1), (10, 3), (4, 4), (7, 9)])
def test_every_point_up_to_the_last_is_reached(points: int, window: int, stride: int) -> None:
    first = starts(points, window, stride)
    assert first[0] == 0
    assert first[-1] == points - window
    assert (np.diff(first) > 0).all()
    assert (np.diff(first) <= stride).all()


def test_windows_hold_the_rows_that_follow_each_other() -> None:
    a, b = np.arange(9.0), np.arange(9.0) ** 2
    table = Table(pa.table({"a": a, "b": b, "y": [0, 0, 0, 0, 1, 0, 0, 0, 0]}), "long.csv")
    cuts = cut(table, settings(window=4, stride=2), ["y"])
    assert cuts.columns == ["a, b", "y", "first_point"]
    assert cuts.data["first_point"].to_pylist() == [0, 2, 4, 5]
    expected = [[a[at : at + 4].tolist(), b[at : at + 4].tolist()] for at in (0, 2, 4, 5)]
    assert cuts.data["a, b"].to_pylist() == expected
    assert cuts.data["y"].to_pylist() == [0, 1, 1, 0]
    assert cuts.where(2) == ("long.csv", None)


def test_a_window_has_the_rarest_of_its_words() -> None:
    words = ["calm"] * 6 + ["storm"] + ["rain"] * 2
    cuts = cut(Table(pa.table({"a": np.arange(9.0), "w": words}), "t"), settings(window=3, stride=3), ["w"])
    assert cuts.data["w"].to_pylist() == ["calm", "calm", "storm"]


def test_rows_are_put_in_the_order_of_time_and_keep_their_lines() -> None:
    data = b"when,a\n2024-01-03,3\n2024-01-01,1\n2024-01-02,2\n2024-01-04,4\n"
    from sounding.data.sources import csv

    table = csv.parse(data, DataRecipe(), file="days.csv")
    cuts = cut(table, settings(window=2, stride=2, time="when"))
    assert cuts.data["a"].to_pylist() == [[1.0, 2.0], [3.0, 4.0]]
    assert cuts.data["first_point"].to_pylist() == [0, 2]
    assert cuts.where(1) == ("days.csv", 2)


def test_columns_that_are_no_numbers_are_left_out_and_named() -> None:
    table = Table(pa.table({"a": np.arange(5.0), "w": list("vwxyz"), "skip": np.arange(5.0)}), "t")
    cuts = cut(table, settings(window=2, ignore=["skip"]))
    assert cuts.columns[0] == "a"
    assert [finding.evidence["columns"] for finding in cuts.findings] == [["w"]]
    with pytest.raises(DataError, match=r"fewer than data\.window = 6"):
        cut(table, settings(window=6))
    with pytest.raises(DataError, match="no column of numbers"):
        cut(Table(pa.table({"w": list("vwxyz")}), "t"), settings(window=2))


def test_numbers_with_a_decimal_comma_are_read_as_such() -> None:
    written = ["10,25", "11,5", "12", "9,75", "8,125"]
    table = Table(pa.table({"a": written, "y": written}), "t")
    cuts = cut(table, settings(window=2, stride=1), ["y"])
    assert cuts.data["a"].to_pylist() == [[10.25, 11.5], [11.5, 12.0], [12.0, 9.75], [9.75, 8.125]]
    assert cuts.data["y"].to_pylist() == [11.5, 12.0, 12.0, 9.75]
    assert [finding.rule for finding in cuts.findings] == ["number-format"]


def test_a_cell_that_is_no_number_is_refused_by_its_line() -> None:
    from sounding.data.sources import csv

    table = csv.parse(b"a,b\n1,1\nbroken,2\n3,3\n", DataRecipe(), file="long.csv")
    with pytest.raises(DataError, match=r"(?s)long\.csv.*3.*a.*\"broken\" is not a number"):
        cut(table, settings(window=2, kinds={"a": "number"}))


def test_no_point_is_in_two_parts() -> None:
    asked = settings(window=8, stride=3, validation=0.2, test=0.2)
    table = cut(read_source(pa.table({"a": np.random.default_rng(0).normal(size=200)}), asked), asked)
    asked = of_windows(asked)
    split, notes = make_split(table, Schema.infer(table, asked, []), asked, 0)
    first = np.array(table.data["first_point"])
    held = {name: {int(p) for at in first[rows] for p in range(at, at + 8)} for name, rows in split.parts.items()}
    assert all(held.values())
    assert not held["train"] & held["validation"]
    assert not held["validation"] & held["test"]
    assert max(held["train"]) < min(held["validation"]) < min(held["test"])
    assert "4 windows before them" in notes[-1]
    with pytest.raises(DataError, match="too few"):
        make_split(table.slice(0, 6), Schema.infer(table, asked, []), asked, 0)


def test_no_window_holds_points_of_two_series() -> None:
    machines = ["b", "a", "b", "a", "a", "b", "b", "b", "a", "b"]
    times = [3, 1, 1, 2, 4, 2, 4, 6, 3, 5]
    values = [float(10 * "ab".index(name) + time) for name, time in zip(machines, times, strict=True)]
    table = Table(pa.table({"machine": machines, "t": times, "v": values}), "t.csv")
    asked = settings(window=3, stride=2, group="machine", time="t")
    cuts = cut(table, asked)
    assert cuts.data["v"].to_pylist() == [[1, 2, 3], [2, 3, 4], [11, 12, 13], [13, 14, 15], [14, 15, 16]]
    assert cuts.data["machine"].to_pylist() == ["a", "a", "b", "b", "b"]
    assert cuts.data["first_point"].to_pylist() == [0, 1, 4, 6, 7]
    with pytest.raises(DataError, match=r"4 points in the series a, fewer than data\.window = 5"):
        cut(table, settings(window=5, group="machine"))
    with pytest.raises(DataError, match=r"at the time of another row.*data\.group=COLUMN"):
        cut(table, settings(window=3, time="t"))


@pytest.mark.parametrize("points", range(30, 41))
def test_the_last_window_is_nearer_and_shares_no_point_either(points: int) -> None:
    asked = settings(window=5, stride=3, validation=0.0, test=0.01)
    table = cut(Table(pa.table({"a": np.arange(float(points))}), "t"), asked)
    asked = of_windows(asked)
    split, _ = make_split(table, Schema.infer(table, asked, []), asked, 0)
    first = np.array(table.data["first_point"])
    assert len(split.test) == 1
    assert first[split.train].max() + 5 <= first[split.test[0]]
    left_out = np.delete(first, np.concatenate([split.train, split.test]))
    assert (left_out + 5 > first[split.test[0]]).all()


def test_whole_series_measure() -> None:
    asked = settings(window=8, group="machine", validation=0.2, test=0.2)
    columns = {"machine": np.repeat(list("abcdef"), 30), "v": np.random.default_rng(0).normal(size=180)}
    table = cut(read_source(pa.table(columns), asked), asked)
    asked = of_windows(asked)
    schema = Schema.infer(table, asked, [])
    assert [field.name for field in schema.inputs] == ["v"]
    split, _ = make_split(table, schema, asked, 0)
    names = np.array(table.data["machine"].to_pylist())
    held = [set(names[rows]) for rows in split.parts.values()]
    assert all(held)
    assert sum(map(len, held)) == 6


def test_means_of_points_are_those_of_a_loop() -> None:
    draw = np.random.default_rng(1)
    first, values = starts(23, 5, 2), draw.normal(size=(10, 2, 5))
    means = point_means(values, first, 23)
    for point in range(23):
        held = [values[w, :, point - at] for w, at in enumerate(first) if at <= point < at + 5]
        np.testing.assert_allclose(means[:, point], np.mean(held, 0))
