"""Forecasts: which rows train, what a network sees, how far off it is, and the whole way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
import torch

from sounding import fit, load, resume
from sounding.errors import DataError, RecipeError
from sounding.tasks.forecast_metrics import by_cell, measured, resampled, seasonal_scale
from sounding.tasks.forecasting import Forecasting, Forecasts
from sounding.tasks.prepare import Prepared, prepare

SEASON = 6
SETTINGS = {
    "task": "forecasting",
    "data.time": "t",
    "data.group": "shop",
    "forecasting.horizon": 4,
    "forecasting.history": 12,
    "training.plan": "reference",
}


def shops(count: int = 3, points: int = 80, seed: int = 0) -> pa.Table:
    """Series of several lengths with a season, a trend, and a holiday that is known ahead and lifts what is sold."""
    draw = np.random.default_rng(seed)
    parts = []
    for shop in range(count):
        time = np.arange(points - 5 * shop)
        holiday = (draw.random(len(time)) < 0.2).astype(float)
        sold = 10 * (shop + 1) + np.sin(time * 2 * np.pi / SEASON) * 3 + 0.05 * time + 4 * holiday
        columns = {"t": time, "shop": [f"s{shop}"] * len(time), "sold": sold + draw.normal(size=len(time)) * 0.2}
        parts.append(pa.table({**columns, "holiday": holiday, "rain": draw.normal(size=len(time))}))
    table = pa.concat_tables(parts)
    return table.take(pa.array(draw.permutation(len(table))))


def prepared(table: pa.Table | None = None, target: str = "sold", **settings: Any) -> Prepared:
    return prepare(shops() if table is None else table, {**SETTINGS, "target": [target], **settings})


def of(case: Prepared) -> Forecasting:
    assert isinstance(case.task, Forecasting)
    return case.task


def test_no_window_reaches_into_a_later_part() -> None:
    case = prepared()
    windows, split = of(case).windows, case.split
    times = np.asarray(case.table.data["t"])
    ahead = {part: times[windows.ordered.rows[windows.future_places(rows)]] for part, rows in split.parts.items()}
    assert ahead["train"].max() < ahead["validation"].min()
    assert ahead["validation"].max() < ahead["test"].min()
    assert times[split.validation].min() < ahead["validation"].min()  # it looks back into what trains
    assert not set(split.train) & set(split.validation)


def test_every_possible_window_is_an_example() -> None:
    """By brute force: each row of each shop, with all rows before and after it in a list."""
    case = prepared()
    data = case.table.data.to_pydict()
    cut = {part: set() for part in case.split.parts}
    bounds = {part: (int(t.min()), int(t.max())) for part, t in _ahead(case).items()}
    for row, (time, shop) in enumerate(zip(data["t"], data["shop"], strict=True)):
        times = {t for t, s in zip(data["t"], data["shop"], strict=True) if s == shop}
        if {time - back for back in range(12)} <= times and {time + step for step in range(1, 5)} <= times:
            for part, (low, high) in bounds.items():
                if low <= time + 1 and time + 4 <= high:
                    cut[part].add(row)
    assert {part: set(rows) for part, rows in case.split.parts.items()} == cut


def _ahead(case: Prepared) -> dict[str, np.ndarray]:
    windows = of(case).windows
    times = np.asarray(case.table.data["t"])
    return {part: times[windows.ordered.rows[windows.future_places(rows)]] for part, rows in case.split.parts.items()}


def test_a_stride_spaces_what_measures_and_not_what_trains() -> None:
    every, spaced = prepared(), prepared(**{"forecasting.stride": 3})
    assert np.array_equal(spaced.split.train, every.split.train)
    times, shops_of = (np.array(every.table.data[name].to_pylist()) for name in ("t", "shop"))
    for shop in set(shops_of):
        rows = every.split.test[shops_of[every.split.test] == shop]
        kept = spaced.split.test[shops_of[spaced.split.test] == shop]
        assert sorted(times[kept]) == sorted(times[rows])[::3]
    assert every.recipe.forecasting.stride == 1


def test_a_batch_is_what_a_slow_look_up_finds() -> None:
    case = prepared(**{"forecasting.known": ["holiday"]})
    task, data = of(case), case.table.data.to_pydict()
    batch = next(case.batches(case.split.train[:7], training=True).epoch(0))
    (inputs,), goals = batch.inputs, batch.target
    assert goals is not None
    assert inputs.shape == (7, 3, 12)
    numbers = {name: case.encoded.blocks["numbers"][:, at] for at, name in enumerate(["holiday", "rain"])}
    for row, window, goal in zip(case.split.train[batch.rows], inputs.numpy(), goals.numpy(), strict=True):
        shop, now = data["shop"][row], data["t"][row]
        place = {t: at for at, (t, s) in enumerate(zip(data["t"], data["shop"], strict=True)) if s == shop}
        past, ahead = [place[now - back] for back in range(11, -1, -1)], [place[now + step] for step in range(1, 5)]
        sold = (np.array(data["sold"]) - task.mean[0]) / task.deviation[0]
        np.testing.assert_allclose(window[0], sold[past], rtol=1e-5)
        np.testing.assert_allclose(window[1], numbers["rain"][past])
        np.testing.assert_allclose(window[2, -4:], numbers["holiday"][ahead])  # known: as far as the forecast goes
        np.testing.assert_allclose(goal[0], sold[ahead], rtol=1e-5)


def test_windows_are_not_copied() -> None:
    case = prepared()
    assert case.batches(case.split.train, training=True).inputs[0].ndim == 1
    assert of(case).windows.channels.shape == (3, len(case.table))


def test_statistics_and_scales_come_from_training_rows() -> None:
    table = shops(1)
    late = np.asarray(table["t"]) >= 64  # what validates and measures
    changed = table.set_column(2, "sold", pa.array(np.where(late, 1000.0, np.asarray(table["sold"]))))
    one, other = (of(prepared(each, **{"forecasting.season": SEASON})) for each in (table, changed))
    assert (one.mean, one.deviation) == (other.mean, other.deviation)
    assert one.scales["s0"] == other.scales["s0"]
    values = np.asarray(table.sort_by("t")["sold"])[:64]
    assert one.scales["s0"][0] == pytest.approx(np.abs(values[SEASON:] - values[:-SEASON]).mean())


def test_season_horizon_and_history_are_found() -> None:
    case = prepared(**{"forecasting.horizon": 0, "forecasting.history": 0})
    rules = case.recipe.forecasting
    assert (rules.season, rules.horizon, rules.history) == (SEASON, SEASON, 21)


def test_all_columns_of_numbers_can_be_forecast() -> None:
    case = prepared(target="*", **{"forecasting.known": ["holiday"]})
    assert list(of(case).numbers) == ["sold", "rain"]
    assert case.recipe.target == ["sold", "rain"]


def test_metrics_by_hand() -> None:
    truth = np.array([[[10.0, 20.0]], [[30.0, 40.0]]])
    values = np.array([[[[12.0, 9.0, 13.0], [16.0, 15.0, 19.0]]], [[[30.0, 29.0, 31.0], [44.0, 39.0, 45.0]]]])
    found = measured(by_cell(values, truth, np.full((2, 1), 2.0), np.array([4.0]), [0.1, 0.9]))
    assert found["mae"] == (2 + 4 + 0 + 4) / 4
    assert found["rmse"] == pytest.approx(np.sqrt((4 + 16 + 16) / 4))
    assert found["mase"] == found["mae"] / 2
    assert found["smape"] == pytest.approx(100 * np.mean([2 * 2 / 22, 2 * 4 / 36, 0, 2 * 4 / 84]))
    assert found["standardised_mse"] == (4 + 16 + 16) / 4 / 16
    assert found["coverage"] == 3 / 4
    weighted = measured(by_cell(values, truth, np.full((2, 1), 2.0), np.array([4.0]), []), np.array([[0.0, 1.0]]))
    assert weighted["mae"].tolist() == [2.0]
    assert "coverage" not in weighted


def test_a_target_without_a_scale_is_left_out_of_mase() -> None:
    assert np.isnan(seasonal_scale(np.ones((5, 1)), 2)).all()
    values, truth = np.zeros((1, 2, 1, 1)), np.array([[[3.0], [8.0]]])
    assert measured(by_cell(values, truth, np.array([[2.0, np.nan]]), np.ones(2), []))["mase"] == 1.5


def test_intervals_cover_the_error_of_a_correlated_series() -> None:
    """How often the interval of the mean error holds the true one, where neighbours err alike."""
    held, rows, horizon = 0, 150, 5
    places = np.arange(rows)[:, None] + np.arange(horizon)
    for seed in range(60):
        draw = np.random.default_rng(seed)
        errors = np.convolve(draw.normal(size=rows + horizon + 3), np.ones(4) / 2, "valid")[: rows + horizon]
        found = resampled({"mae": errors[places]}, places, horizon, 300, draw)["mae"]
        held += np.quantile(found, 0.025) <= 0 <= np.quantile(found, 0.975)
    assert held / 60 > 0.8  # single windows as the unit hold it about half as often


def test_series_that_are_copies_tell_no_more_than_one() -> None:
    one = shops(1)
    copies = [one.set_column(1, "shop", pa.array([f"s{at}"] * len(one))) for at in range(50)]
    widths = []
    for table in (one, pa.concat_tables(copies)):
        case = prepared(table, **{"data.test": 0.4})
        rows = case.split.test
        values = np.full((len(rows), 1, 4, 1 + 3), of(case).mean[0])
        found = of(case).resampled(Forecasts(values, rows), rows, samples=400, seed=0, names=["mae"])["mae"]
        widths.append(np.quantile(found, 0.975) - np.quantile(found, 0.025))
    assert 0.7 < widths[1] / widths[0] < 1.4


def test_quantiles_are_learnt_by_their_loss() -> None:
    case = prepared(**{"forecasting.quantiles": [0.2, 0.7]})
    draw = torch.randn(4000, 1, 4)
    outputs = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([outputs], 0.02)
    for _ in range(400):
        loss = case.task.loss(outputs.expand(4000, 1, 4, 3), draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    expected = [draw.mean(), *torch.quantile(draw.flatten(), torch.tensor([0.2, 0.7]))]
    assert outputs.tolist() == pytest.approx([float(one) for one in expected], abs=0.03)


def test_quantiles_that_cross_are_put_in_order() -> None:
    task = of(prepared())
    values = task.decode(torch.tensor([0.0, 3.0, 2.0, 1.0]).expand(1, 1, 4, 4)).values
    assert (np.diff(values[..., 1:], axis=-1) > 0).all()
    assert values[0, 0, 0, 0] == pytest.approx(task.mean[0])


def test_the_whole_way(tmp_path: Path) -> None:
    table = shops()
    settings = {**SETTINGS, "forecasting.known": ["holiday"], "training.epochs": 60, "training.optimizer.lr": 5e-3}
    run = fit(table, "sold", settings=settings, out=tmp_path / "run", say=None, progress=False)
    metrics, baseline = run.metrics["test"], run.results["baseline"]
    assert set(baseline) == {"the last value", "the last season", "exponential smoothing"}
    assert metrics["mase"] < 0.8 * min(scores["test"]["mase"] for scores in baseline.values())  # it knows the holidays
    assert 0.5 < metrics["coverage"] <= 1
    assert run.results["verdict"]["winner"] == "network"
    assert load(run.path).evaluate(table).metrics["mase"] < 1

    known = table.filter(pa.compute.less(table["t"], 60))
    beyond = table.filter(pa.compute.greater_equal(table["t"], 60))
    empty = beyond.set_column(2, "sold", pa.nulls(len(beyond), pa.float64()))
    asked = pa.concat_tables([known, empty])
    columns, _ = run.predict_table(asked)
    assert columns.column_names == ["shop", "t", "step", "sold", "sold_0.1", "sold_0.5", "sold_0.9"]
    assert len(columns) == 3 * 4
    assert columns["t"].to_pylist() == [60, 61, 62, 63] * 3
    truth = {(r["shop"], r["t"]): r["sold"] for r in beyond.to_pylist()}
    said = columns.to_pylist()
    assert np.mean([abs(r["sold"] - truth[r["shop"], r["t"]]) for r in said]) < 1.5
    assert all(r["sold_0.1"] <= r["sold_0.5"] <= r["sold_0.9"] for r in said)
    with pytest.raises(DataError, match="holiday must be known for 4 steps after the last target of series s0"):
        run.predict_table(known)
    shown = run.results["figures"]["forecasts"]["shown"]
    assert len(shown) == 4
    assert len(shown[0]["mean"]) == 4
    json.dumps(run.results, allow_nan=False)


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    pa.csv.write_csv(shops(), tmp_path / "shops.csv")
    settings = {**SETTINGS, "training.epochs": 3}
    quiet: dict[str, Any] = {"say": None, "progress": False}
    whole = fit(tmp_path / "shops.csv", "sold", settings=settings, out=tmp_path / "whole", **quiet)
    again = fit(tmp_path / "shops.csv", "sold", settings=settings, out=tmp_path / "again", **quiet)
    (tmp_path / "again" / "results.json").unlink()
    resumed = resume(again.path, **quiet)
    assert resumed.metrics == whole.metrics


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"forecasting.quantiles": [0.9, 0.1]}, "give rising numbers between 0 and 1"),
        ({"forecasting.horizon": -1}, "forecasting.horizon is -1"),
        ({"forecasting.known": ["holidays"]}, 'forecasting.known names "holidays".*holiday'),
        ({"forecasting.known": ["holiday"], "forecasting.history": 2}, "shorter than the horizon of 4"),
        ({"network.name": "resnet"}, "linear_forecaster"),
        ({"data.window": 20}, "set forecasting.history instead"),
    ],
)
def test_settings_that_cannot_be_met(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        prepared(**settings)


def test_data_that_cannot_be_forecast() -> None:
    with pytest.raises(DataError, match=r"no window fits into the train rows: the longest series has .* 40 before"):
        prepared(shops(points=40), **{"forecasting.history": 40})
    table = shops(1).append_column("note", pa.array([f"it was a day like no other, number {n}" for n in range(80)]))
    with pytest.raises(DataError, match='"note" is text'):
        prepared(table)
    late = pa.array(
        [None if t < 75 else v for t, v in zip(*(shops(1)[n].to_pylist() for n in ("t", "sold")), strict=True)]
    )
    with pytest.raises(DataError, match=r"there is no value in the training rows"):
        prepared(shops(1).set_column(2, "sold", late))


def test_numbers_with_a_decimal_comma_are_forecast_as_such() -> None:
    plain = shops(1, 120)
    values = np.round(plain["sold"].to_numpy(), 2)
    comma = plain.set_column(2, "sold", pa.array([f"{value:.2f}".replace(".", ",") for value in values]))
    settings = {"forecasting.season": 0, "forecasting.horizon": 0, "forecasting.history": 0}
    expected, case = (prepared(table, **settings) for table in (plain.set_column(2, "sold", pa.array(values)), comma))
    assert case.recipe.forecasting == expected.recipe.forecasting
    assert case.recipe.forecasting.season % SEASON == 0
    np.testing.assert_array_equal(of(case).windows.values, of(expected).windows.values)
    assert [finding.rule for finding in case.findings] == ["number-format"]


def test_a_target_that_is_no_number_is_refused_wherever_it_stands() -> None:
    table = shops(1).sort_by("t")
    words = [str(value) for value in table["sold"].to_pylist()]
    words[-1] = "closed"
    with pytest.raises(DataError, match='"closed" is not a number'):
        prepared(table.set_column(2, "sold", pa.array(words)), **{"data.kinds.sold": "number"})


def test_gaps_in_time_are_told() -> None:
    table = shops(1)
    case = prepared(table.filter(pa.compute.not_equal(table["t"], 20)))
    assert [finding.rule for finding in case.findings] == ["gaps-in-time"]


def test_columns_of_words_go_along() -> None:
    table = shops(1)
    weather = pa.array(["sun" if rain > 0 else "rain" for rain in table["rain"].to_pylist()])
    case = prepared(table.append_column("weather", weather))
    (block,) = case.blocks
    assert block.channels == 1 + 2 + case.schema["weather"].fitted.block("weather").cardinalities[0]  # type: ignore[union-attr]
    assert of(case).windows.channels[3:].sum(0).tolist() == [1.0] * 80
