from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from sounding.errors import DataError
from sounding.kinds import Date
from sounding.kinds.date import _parse
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()


def seconds(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cell", "layout", "expected"),
    [
        ("2024-02-29", "YYYY-MM-DD", seconds(2024, 2, 29)),
        ("1969-12-31 23:59", "YYYY-MM-DD", seconds(1969, 12, 31, 23, 59)),
        ("2024-02-29T10:11:12.5Z", "YYYY-MM-DD", seconds(2024, 2, 29, 10, 11, 12)),
        ("2024-02-29 10:11:12+02:30", "YYYY-MM-DD", seconds(2024, 2, 29, 7, 41, 12)),
        ("2024-02-29 10:11:12-0100", "YYYY-MM-DD", seconds(2024, 2, 29, 11, 11, 12)),
        ("1949-02", "YYYY-MM", seconds(1949, 2, 1)),
        ("31.12.1999", "DD.MM.YYYY", seconds(1999, 12, 31)),
        ("3 Mar 2021", "D Month YYYY", seconds(2021, 3, 3)),
        ("December 12, 2020", "Month D, YYYY", seconds(2020, 12, 12)),
        ("2023-02-29", "YYYY-MM-DD", np.nan),
        ("2023-13-01", "YYYY-MM-DD", np.nan),
        ("2023-00-01", "YYYY-MM-DD", np.nan),
        ("2023-01-01 25:00", "YYYY-MM-DD", np.nan),
        ("3 Foo 2021", "D Month YYYY", np.nan),
        ("soon", "YYYY-MM-DD", np.nan),
    ],
)
def test_parses_as_the_standard_library_does(make_column, cell, layout, expected):
    assert np.array_equal(_parse(make_column([cell]).words, layout), [expected], equal_nan=True)


def test_slashed_dates_are_read_only_if_one_cell_settles_the_order(make_column):
    assert Date.recognise(make_column(["13/04/2020", "05/06/2021"])).reason == "dates from 2020-04-13 to 2021-06-05"
    assert Date.recognise(make_column(["04/13/2020", "05/06/2021"])).reason == "dates from 2020-04-13 to 2021-05-06"
    doubtful = make_column(["03/04/2020", "05/06/2021"])
    assert Date.recognise(doubtful) is None
    assert Date.near_miss(doubtful).rule == "ambiguous-dates"
    assert Date.near_miss(make_column(["a", "b"])) is None
    with pytest.raises(DataError, match="cannot be told apart"):
        Date.fit(doubtful, np.arange(2), SETTINGS)


def test_features_are_trend_and_the_cycles_that_training_rows_show(make_column, every):
    days = [date.fromordinal(735_000 + n) for n in range(730)]
    column = make_column(days)
    kind, _ = Date.fit(column, every(column), SETTINGS)
    assert kind.cycles == ("year", "week")
    encoded, _ = kind.encode(column)
    assert encoded.shape == (730, 5)
    assert encoded[:, 0].mean() == pytest.approx(0, abs=1e-5)
    assert encoded[:, 0].std() == pytest.approx(1, abs=1e-5)
    for sine, cosine in ((1, 2), (3, 4)):
        assert np.allclose(encoded[:, sine] ** 2 + encoded[:, cosine] ** 2, 1, atol=1e-6)
    assert np.allclose(encoded[0, 3:5], encoded[7, 3:5], atol=1e-6)
    assert np.abs(encoded[0, 3:5] - encoded[1, 3:5]).max() > 0.1
    block = kind.block("when")
    assert len(block.features) == len(block.bins) == 5


def test_text_and_typed_cells_are_the_same(make_column, every):
    moments = [datetime(2020, 1, day, 3 * day % 24) for day in range(1, 20)]
    typed = make_column(moments)
    written = make_column([moment.isoformat() for moment in moments])
    ours, theirs = (Date.fit(column, every(column), SETTINGS)[0].encode(column)[0] for column in (typed, written))
    assert np.array_equal(ours, theirs)


def test_missing_dates_are_marked_and_others_are_errors(make_column, every):
    column = make_column(["2020-01-01", "NA", "2020-01-03"])
    kind, _ = Date.fit(column, every(column), SETTINGS)
    encoded, _ = kind.encode(column)
    assert encoded[1].tolist() == [0, 1]
    assert encoded[[0, 2], -1].tolist() == [0, 0]
    with pytest.raises(DataError, match=r'x.csv:2 .*"soon" is not a date; write it as YYYY-MM-DD'):
        kind.encode(make_column(["soon"]))


def test_dates_far_beyond_training_stay_bounded(make_column, every):
    column = make_column(["2020-01-01", "2020-01-02"])
    kind, _ = Date.fit(column, every(column), SETTINGS)
    assert np.abs(kind.encode(make_column(["9999-12-31", "0001-01-01"]))[0]).max() <= 6
