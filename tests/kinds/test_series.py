"""Series: lists of numbers on one or several channels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from sounding.data.sources import read_source
from sounding.errors import DataError
from sounding.kinds import Column, Series, recognise
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()


def column(cells: pa.Array) -> Column:
    return Column("x", cells, frozenset(), None, lambda row: ("x.parquet", row + 1))


def test_channels_are_standardised_by_the_training_rows() -> None:
    values = np.random.default_rng(0).normal([[[5.0], [-2.0]]], [[[3.0], [0.5]]], (20, 2, 7))
    kind, _ = Series.fit(column(pa.array(values.tolist())), np.arange(12), SETTINGS)
    encoded, findings = kind.encode(column(pa.array(values.tolist())))
    assert (kind.channels, kind.length, findings) == (2, 7, [])
    train = values[:12].transpose(1, 0, 2).reshape(2, -1)
    expected = (values - train.mean(1)[:, None]) / train.std(1)[:, None]
    np.testing.assert_allclose(encoded, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.int32()), pa.large_list(pa.float32()), pa.list_(pa.float64(), 3)], ids=str
)
def test_lists_of_any_type_are_series(kind: pa.DataType) -> None:
    cells = pa.array([[1, 2, 3], [4, 5, 9]], kind)
    assert recognise(column(cells))[0] == "series"
    fitted, _ = Series.fit(column(cells), np.arange(2), SETTINGS)
    assert fitted.mean == (4.0,)
    assert fitted.encode(column(cells.slice(1, 1)))[0].shape == (1, 1, 3)
    assert fitted.describe() == "series of 3 points"
    assert fitted.show(column(cells), 1) == "4 5 9"


def test_gaps_are_the_mean_and_told() -> None:
    cells = pa.array([[1.0, None, 3.0], [float("nan"), 2.0, 2.0], [1.0, 2.0, 3.0]])
    kind, _ = Series.fit(column(cells), np.arange(3), SETTINGS)
    encoded, (finding,) = kind.encode(column(cells))
    assert encoded[0, 0, 1] == encoded[1, 0, 0] == 0
    assert kind.mean == pytest.approx((2.0,))
    assert finding.evidence["points"] == 2


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([[[1.0], [2.0]], [[1.0]]], r"x.parquet:2 .*a series on 1 channels among those on 2"),
        ([[[1.0], [2.0]], [[1.0], [2.0, 3.0]]], r"x.parquet:2 .*channels of 1, 2 points"),
        ([[[1.0, 2.0]], None], r"x.parquet:2 .*1 of 2 rows have no series"),
        ([[[1.0]], [[]]], r"x.parquet:2 .*a series without points"),
    ],
)
def test_other_shapes_are_refused_by_row(cells: list[object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Series.fit(column(pa.array(cells, pa.list_(pa.list_(pa.float64())))), np.arange(2), SETTINGS)


def test_lengths_that_vary_are_padded_and_a_channel_says_where_points_are() -> None:
    cells = pa.array([[[1.0, 2.0, 3.0], [0.0, 4.0, 8.0]], [[3.0], [4.0]], [[1.0, 9.0], [None, 4.0]]])
    kind, findings = Series.fit(column(cells), np.arange(2), SETTINGS)
    assert (kind.shortest, kind.length, findings) == (1, 3, [])
    assert kind.describe() == "series of 1 to 3 points on 2 channels"
    assert kind.block("x").varying
    assert kind.mean == pytest.approx((9 / 4, 16 / 4))  # of the points that there are, in the training rows
    encoded, (finding,) = kind.encode(column(cells))
    assert encoded.shape == (3, 3, 3)
    assert encoded[:, 2].tolist() == [[1, 1, 1], [1, 0, 0], [1, 1, 0]]
    assert (encoded[1, :, 1:] == 0).all()
    assert finding.evidence["points"] == 1  # a gap within a series is told, what is behind its end is none


def test_longer_series_than_in_training_are_read_to_their_end() -> None:
    kind, _ = Series.fit(column(pa.array([[1.0, 2.0], [3.0]])), np.arange(2), SETTINGS)
    encoded, (finding,) = kind.encode(column(pa.array([[1.0], [1.0, 2.0, 3.0, 4.0]])))
    assert encoded.shape == (2, 2, 4)
    assert (finding.rule, finding.evidence["longest"]) == ("longer-series", 4)


def test_another_length_is_refused_where_all_training_rows_have_one() -> None:
    cells = pa.array([[1.0, 2.0], [1.0, 2.0], [1.0]])
    kind, _ = Series.fit(column(cells), np.arange(2), SETTINGS)
    with pytest.raises(DataError, match=r"x.parquet:3 .*a series of 1 points, where all training rows have 2"):
        kind.encode(column(cells))


def test_lists_of_words_are_no_series() -> None:
    with pytest.raises(DataError, match="not understood"):
        recognise(column(pa.array([["a"], ["b"]])))


def test_a_frame_may_hold_series() -> None:
    table = read_source(pa.table({"curve": [[1.0, 2.0], [3.0, 4.0]], "y": ["a", "b"]}), SETTINGS)
    assert recognise(table.column("curve", SETTINGS))[0] == "series"
