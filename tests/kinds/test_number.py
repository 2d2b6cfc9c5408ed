from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import norm, rankdata
from sklearn.preprocessing import QuantileTransformer

from sounding.errors import DataError
from sounding.kinds import Number
from sounding.kinds.number import parse
from sounding.recipe import DataRecipe

SETTINGS = DataRecipe()


def fit(column, rows=None):
    return Number.fit(column, np.arange(len(column)) if rows is None else rows, SETTINGS)[0]


def test_training_values_become_the_normal_scores_of_their_ranks(make_column):
    values = np.random.default_rng(0).lognormal(size=60_000)
    column = make_column(values)
    encoded, findings = fit(column).encode(column)
    expected = norm.ppf((rankdata(values) - 0.5) / len(values))
    assert encoded.shape == (60_000, 1)
    assert encoded.dtype == np.float32
    assert findings == []
    inside = np.abs(expected) < 3
    assert np.abs(encoded[:, 0] - expected)[inside].max() < 0.05


def test_agrees_with_scikit_learn_where_that_does_not_clip(make_column):
    values = np.random.default_rng(1).normal(size=5000) ** 3
    new = np.quantile(values, np.linspace(0.02, 0.98, 50))
    theirs = QuantileTransformer(n_quantiles=166, output_distribution="normal", subsample=10**9).fit(values[:, None])
    ours, _ = fit(make_column(values)).encode(make_column(new))
    assert np.abs(ours[:, 0] - theirs.transform(new[:, None])[:, 0]).max() < 0.05


def test_ties_share_their_middle_rank(make_column):
    column = make_column([0] * 90 + [5] * 10)
    encoded, _ = fit(column).encode(column)
    assert encoded[0, 0] == pytest.approx(norm.ppf(0.45))
    assert encoded[-1, 0] == pytest.approx(norm.ppf(0.95))


def test_the_map_rises_and_goes_on_beyond_the_training_values_for_one_unit(make_column):
    kind = fit(make_column(np.random.default_rng(2).normal(size=1000)))
    new = np.sort(np.concatenate([np.linspace(-100, 100, 2001), [-np.inf, np.inf, -1e308, 1e308]]))
    encoded = kind.encode(make_column(new))[0][:, 0]
    assert (np.diff(encoded) >= 0).all()
    assert encoded[0] == pytest.approx(kind.scores[0] - 1)
    assert encoded[-1] == pytest.approx(kind.scores[-1] + 1)
    assert kind.encode(make_column([kind.knots[-1] + 0.1]))[0][0, 0] > kind.scores[-1]


@pytest.mark.parametrize(
    "values",
    [
        [1e300, -1e300, 1e308, -1e308, 0.0],
        [5e-324, 1e-323, 1.5e-323, 0.0],
        [np.inf, -np.inf, 1.0, 2.0],
        [1e300, 5e-324, 1.0, -1.0],
        [1.7e308, -1.7e308],
    ],
)
def test_extreme_magnitudes_are_finite_and_keep_their_order(make_column, values):
    column = make_column([*values, None])
    kind = fit(column)
    encoded = kind.encode(column)[0]
    assert np.isfinite(encoded).all()
    order = np.argsort(values)
    assert (np.diff(encoded[:-1, 0][order]) >= 0).all()
    assert encoded[:-1, 0].max() > encoded[:-1, 0].min()
    assert np.isfinite([kind.mean, kind.std]).all()
    assert kind.std > 0
    assert Number.from_json(json.loads(json.dumps(kind.to_json(), allow_nan=False))) == kind


def test_missing_values_are_the_median_and_marked_only_if_training_rows_lack_them(make_column):
    column = make_column(["1", "2", "3", "NA", "4", "5"])
    marked = fit(column)
    assert marked.encode(column)[0][3].tolist() == [0, 1]
    assert marked.block("x").features == ("x", "x is missing")
    assert marked.block("x").bins[1] == (0.0, 1.0)
    plain = fit(column, rows=np.array([0, 1, 2]))
    assert plain.encode(column)[0][3].tolist() == [0]
    assert plain.block("x").features == ("x",)


def test_bins_rise_in_the_encoded_space_and_resolve_a_rare_tail(make_column):
    values = np.concatenate([np.zeros(9500), np.random.default_rng(3).uniform(1, 2, 500)])
    kind = fit(make_column(values))
    edges = np.array(kind.block("x").bins[0], dtype=np.float32)
    assert (np.diff(edges) > 0).all()
    assert edges[0] == pytest.approx(kind.scores[0], abs=1e-6)
    assert edges[-1] == pytest.approx(kind.scores[-1], abs=1e-6)
    assert (edges > 0.5).sum() > 50  # quantiles of rows alone would leave 3 in the tail


def test_learns_from_training_rows_only(make_column):
    values = np.arange(100.0)
    altered = values.copy()
    altered[50:] = 1e6
    rows = np.arange(50)
    assert fit(make_column(values), rows) == fit(make_column(altered), rows)


def test_target_is_standardised_by_training_rows_and_comes_back(make_column):
    values = np.random.default_rng(4).lognormal(sigma=10, size=1000)
    column = make_column(values)
    kind, _ = Number.fit_target(column, np.arange(500), SETTINGS)
    encoded = kind.encode_target(column)
    assert encoded[:500].mean() == pytest.approx(0, abs=1e-9)
    assert encoded[:500].std() == pytest.approx(1)
    assert np.allclose(kind.decode_target(encoded), values, rtol=1e-9, atol=values[:500].std() * 1e-12)
    assert kind.mean == pytest.approx(values[:500].mean())


@pytest.mark.parametrize(
    ("cells", "sign", "expected"),
    [
        (["$1,000", "2,500.50", "-3"], ".", [1000, 2500.5, -3]),
        (["12 %", "7.5%", "100%"], ".", [12, 7.5, 100]),
        (["1.000,5", "2,5", "3 €"], ",", [1000.5, 2.5, 3]),
        (["EUR 12", "13 USD", "1'000"], ".", [12, 13, 1000]),
        (["1,2,3", "12,34", "abc"], ".", [np.nan, np.nan, np.nan]),
    ],
)
def test_numbers_as_people_write_them(make_column, cells, sign, expected):
    assert np.array_equal(parse(make_column(cells), sign), expected, equal_nan=True)


def test_recognises_what_it_should_and_nothing_else(make_column):
    assert Number.recognise(make_column(["17", "-2.5", "1e3", "?", " 4 "])).reason == "numbers from -2.5 to 1000"
    assert Number.recognise(make_column([1, 2, None])).reason == "numbers from 1 to 2"
    assert Number.recognise(make_column(pa.array([True, False]))) is None
    assert Number.recognise(make_column(["1", "x"])) is None
    assert Number.recognise(make_column(["01234", "1"])) is None
    assert Number.recognise(make_column(["0.5", "0", "-0.1"])) is not None
    assert Number.recognise(make_column(["", ""])) is None


def test_cells_that_are_no_numbers_are_named_with_file_and_line(make_column):
    kind = fit(make_column(["1", "2"]))
    with pytest.raises(DataError) as caught:
        kind.encode(make_column(["1", "abc", "def"]))
    assert str(caught.value).startswith('x.csv:3 (column "x"): "abc" is not a number (and 1 more cell)')
