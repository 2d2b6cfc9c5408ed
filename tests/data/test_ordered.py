"""Long tables by series and time."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest

from sounding.data.ordered import find_season, in_order, parts_in_time, times_after
from sounding.data.table import Origin, Table
from sounding.errors import DataError
from sounding.recipe import DataRecipe

BOTH = DataRecipe(time="t", group="g")


def table(**columns: object) -> Table:
    data = pa.table(columns)
    return Table(data, "long.csv", (Origin("long.csv", len(data), first_line=2),))


def test_rows_are_ordered_by_series_and_time() -> None:
    ordered = in_order(table(t=[3, 1, 2, 2, 1], g=["b", "a", "a", "b", "b"]), BOTH)
    assert ordered.rows.tolist() == [1, 2, 4, 3, 0]
    assert ordered.names == ("a", "b")
    assert ordered.starts.tolist() == [0, 2, 5]
    assert ordered.series.tolist() == [0, 0, 1, 1, 1]
    assert np.array_equal(ordered.rows[ordered.places], np.arange(5))


def test_without_names_rows_stay_as_they_come() -> None:
    ordered = in_order(table(x=[5, 1, 3]), DataRecipe())
    assert ordered.rows.tolist() == [0, 1, 2]
    assert ordered.names == ("",)


def test_two_rows_at_one_time_are_refused_by_line() -> None:
    with pytest.raises(DataError, match=r"long.csv:4 .*1 rows are at the time of another.*data.group"):
        in_order(table(t=[1, 2, 2], g=["a", "a", "b"]), DataRecipe(time="t"))
    with pytest.raises(DataError, match=r"long.csv:3 .*no time"):
        in_order(table(t=[1, None, 2]), DataRecipe(time="t"))
    with pytest.raises(DataError, match=r"long.csv:3 .*no series"):
        in_order(table(t=[1, 2, 3], g=["a", None, "a"]), BOTH)


def test_gaps_are_found_and_months_are_none() -> None:
    assert in_order(table(t=["2020-01-31", "2020-02-29", "2020-03-31"]), DataRecipe(time="t")).findings == ()
    (finding,) = in_order(table(t=[1, 2, 3, 5, 6]), DataRecipe(time="t")).findings
    assert (finding.evidence["steps"], finding.evidence["line"]) == (1, 5)


@pytest.mark.parametrize(
    ("times", "after"),
    [
        (["1960-11", "1960-12"], ["1961-01-01", "1961-02-01"]),
        (["2020-01-15", "2020-04-15", "2020-07-15"], ["2020-10-15", "2021-01-15"]),
        (["2023-10-31", "2023-11-30", "2023-12-31"], ["2024-01-31", "2024-02-29"]),
        (["2023-04-30", "2023-06-30"], ["2023-08-31", "2023-10-31"]),
        (["2022-11-30", "2022-12-30"], ["2023-01-30", "2023-02-28"]),
        (["2020-02-27", "2020-02-28"], ["2020-02-29", "2020-03-01"]),
        (["2020-01-01 22:00", "2020-01-01 23:00"], ["2020-01-02T00:00:00", "2020-01-02T01:00:00"]),
        ([datetime(2020, 1, 1), datetime(2020, 1, 2)], ["2020-01-03", "2020-01-04"]),
        ([2.0, 2.5, 3.0], ["3.5", "4.0"]),
    ],
)
def test_times_go_on_as_they_did(times: list[object], after: list[str]) -> None:
    ordered = in_order(table(t=times), DataRecipe(time="t"))
    assert [str(time) for time in times_after(ordered, np.array([len(times) - 1]), 2)[0]] == after


def test_the_latest_times_of_all_series_measure() -> None:
    times, names = list(range(10)) * 2, ["a"] * 10 + ["b"] * 10
    long = table(t=times, g=names)
    part, notes = parts_in_time(long, in_order(long, BOTH), {"validation": 0.2, "test": 0.3}, 1)
    assert part.tolist() == ([0] * 5 + [1] * 2 + [2] * 3) * 2
    assert notes == ["by time, the latest 3 for test and the latest before these 2 for validation"]


def test_a_part_holds_a_forecast() -> None:
    long = table(t=list(range(20)))
    part, _ = parts_in_time(long, in_order(long, DataRecipe(time="t")), {"validation": 0.1, "test": 0.1}, 6)
    assert np.bincount(part).tolist() == [8, 6, 6]
    with pytest.raises(DataError, match="8 times to train with"):
        parts_in_time(long, in_order(long, DataRecipe(time="t")), {"validation": 0.4, "test": 0.6}, 6)


def test_parts_of_the_source_have_to_come_later() -> None:
    long = Table(pa.table({"t": [1, 2, 3, 4]}), "long.csv", parts={"train": range(0, 2), "test": range(2, 4)})
    ordered = in_order(long, DataRecipe(time="t"))
    assert parts_in_time(long, ordered, {"test": 0.5}, 1)[0].tolist() == [0, 0, 2, 2]
    early = Table(pa.table({"t": [3, 4, 1, 2]}), "long.csv", parts={"train": range(0, 2), "test": range(2, 4)})
    with pytest.raises(DataError, match="comes later than one that is to measure"):
        parts_in_time(early, in_order(early, DataRecipe(time="t")), {}, 1)


@pytest.mark.parametrize("season", [4, 7, 24])
def test_a_season_is_found_under_trend_and_noise(season: int) -> None:
    draw = np.random.default_rng(0)
    shape, time = draw.normal(size=season), np.arange(20 * season)
    values = shape[time % season] + 0.05 * time + draw.normal(size=len(time)) * 0.3
    assert find_season(values[:, None], np.array([0, len(time)])) == season


def test_a_smooth_season_is_found_under_much_noise() -> None:
    time = np.arange(4000)
    values = 3 * np.sin(time * 2 * np.pi / 24) + np.random.default_rng(2).normal(size=4000) * 0.5
    assert find_season(values[:, None], np.array([0, 4000])) == 24
    assert find_season(np.tile([1.0, 2.0], 100)[:, None], np.array([0, 200])) == 2


def test_noise_has_no_season() -> None:
    values = np.random.default_rng(1).normal(size=(400, 2))
    assert find_season(values, np.array([0, 200, 400])) == 1
    assert find_season(np.cumsum(values, 0), np.array([0, 400])) == 1
    assert find_season(np.ones((50, 1)), np.array([0, 50])) == 1
