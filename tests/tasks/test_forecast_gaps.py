"""Values of a target that are missing: carried along for the network, never learned from, never measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest
import torch

from sounding import fit, load
from sounding.tasks.forecast_metrics import by_cell, measured, widening
from sounding.tasks.forecasting import Forecasting
from sounding.tasks.prepare import Prepared, prepare
from sounding.trust.forecasting import FORECASTS, smoothed
from sounding.trust.problem import Problem

SETTINGS = {
    "task": "forecasting",
    "data.time": "t",
    "data.group": "shop",
    "forecasting.horizon": 4,
    "forecasting.history": 12,
    "forecasting.season": 6,
    "training.plan": "reference",
}
POINTS = 90


def shops(share: float = 0.15) -> pa.Table:
    """Two series with a season and gaps, in no order."""
    draw = np.random.default_rng(0)
    time = np.arange(POINTS)
    parts = []
    for shop in range(2):
        sold = 10 * (shop + 1) + 3 * np.sin(time * 2 * np.pi / 6) + draw.normal(size=POINTS) * 0.2
        gaps = draw.random(POINTS) < share
        gaps[-1] = False
        parts.append(pa.table({"t": time, "shop": [f"s{shop}"] * POINTS, "sold": pa.array(sold, mask=gaps)}))
    table = pa.concat_tables(parts)
    return table.take(pa.array(draw.permutation(len(table))))


def task_of(case: Prepared) -> Forecasting:
    return cast("Forecasting", case.task)


@pytest.fixture
def case() -> Prepared:
    return prepare(shops(), {**SETTINGS, "target": ["sold"]})


def test_gaps_are_told_and_the_last_known_value_stands_there(case: Prepared) -> None:
    windows = task_of(case).windows
    (told,) = (finding for finding in case.findings if finding.rule == "gaps-in-target")
    assert told.severity == "warning"
    assert told.evidence["values"] == np.isnan(windows.values).sum() > 10
    for series in range(2):
        last = np.nan
        for place in range(POINTS * series, POINTS * (series + 1)):
            last = last if np.isnan(windows.values[place, 0]) else windows.values[place, 0]
            expected = task_of(case).mean[0] if np.isnan(last) else last
            assert windows.carried[place, 0] == expected
    rows = torch.from_numpy(case.split.train[:5])
    goals = windows.goals(rows)
    np.testing.assert_array_equal(np.isnan(goals.numpy()), np.isnan(windows.future(rows.numpy())))
    assert bool(windows.inputs(rows).isfinite().all())
    trained = windows.values[windows.ordered.places[case.split.train]]
    known = trained[np.isfinite(trained)]
    assert known.size < len(trained)


def test_what_is_not_known_is_not_learned_from(case: Prepared) -> None:
    torch.manual_seed(0)
    task = task_of(case)
    outputs = torch.randn(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 1, 4, dtype=torch.float64)
    whole = task.loss(outputs, target)
    target[0, 0, 1] = target[2, 0, 3] = torch.nan
    loss = task.loss(outputs, target)
    loss.backward()
    assert bool(torch.isfinite(loss))
    assert not torch.equal(loss, whole)
    assert outputs.grad is not None
    assert not outputs.grad[0, 0, 1].any()
    assert not outputs.grad[2, 0, 3].any()
    by_row = []
    for row in range(3):
        there = target[row, 0].isfinite()
        by_row.append(task.loss(outputs[row : row + 1, :, there], target[row : row + 1, :, there]))
    torch.testing.assert_close(loss, torch.stack(by_row).mean())
    found = task.validation_metrics(outputs.detach(), target)
    away = (outputs.detach()[..., 0] - target)[target.isfinite()]
    assert found["standardised_mse"] == pytest.approx(float(away.square().mean()))


def test_what_is_not_known_is_not_measured_on() -> None:
    draw = np.random.default_rng(0)
    values, truth = draw.normal(size=(6, 2, 3, 4)), draw.normal(size=(6, 2, 3))
    values.sort(-1)
    scale, deviation = draw.uniform(1, 2, (6, 2)), np.array([2.0, 3.0])
    truth[draw.random(truth.shape) < 0.3] = np.nan
    truth[0, :, 1] = np.nan  # of no target at all
    found = measured(by_cell(values, truth, scale, deviation, [0.1, 0.5, 0.9]))
    sums: dict[str, list[float]] = {name: [] for name in ("mae", "mase", "coverage")}
    for window in range(6):
        for step in range(3):
            own = [target for target in range(2) if np.isfinite(truth[window, target, step])]
            if own:
                away = [abs(values[window, one, step, 0] - truth[window, one, step]) for one in own]
                inside = [
                    values[window, o, step, 1] <= truth[window, o, step] <= values[window, o, step, 3] for o in own
                ]
                sums["mae"].append(float(np.mean(away)))
                sums["mase"].append(float(np.mean([a / scale[window, o] for a, o in zip(away, own, strict=True)])))
                sums["coverage"].append(float(np.mean(inside)))
    for name, each in sums.items():
        assert found[name] == pytest.approx(np.mean(each))
    assert np.isfinite(widening(values[..., 1:], truth, 0.8))


def test_simple_models_look_past_gaps(case: Prepared) -> None:
    problem = Problem(case.task, case.table, case.schema, case.split, case.encoded, case.target, 0)
    windows, rows = task_of(case).windows, case.split.test
    for name, model in FORECASTS.items():
        answer = model(problem)
        assert answer is not None, name
        assert np.isfinite(answer[0][rows]).all(), name
    last = FORECASTS["the last value"](problem)
    season = FORECASTS["the last season"](problem)
    assert last is not None
    assert season is not None
    for at, row in enumerate(rows):
        place = windows.ordered.places[row]
        before = windows.values[windows.ordered.starts[windows.ordered.series[place]] : place + 1, 0]
        assert last[0][rows][at, 0, 0, 0] == before[np.isfinite(before)][-1]
        for step in range(4):
            same = before[len(before) - 6 + step :: -6]
            assert season[0][rows][at, 0, step, 0] == same[np.isfinite(same)][0]


def test_smoothing_takes_what_it_said_for_what_is_missing() -> None:
    time = np.arange(60)
    values = 3 * np.sin(time * 2 * np.pi / 6)[:, None]  # of which there are no logarithms
    gaps = values.copy()
    gaps[[13, 30, 31, 52]] = np.nan
    whole, _ = smoothed(values, 60, 6)
    states, _ = smoothed(gaps, 60, 6)
    np.testing.assert_allclose(states.ahead(np.array([59]), 6), whole.ahead(np.array([59]), 6), atol=0.2)


def test_the_whole_way_with_gaps(tmp_path: Path) -> None:
    settings = {**SETTINGS, "training.epochs": 4, "training.watch": True, "evaluation.bootstrap": 20}
    run = fit(shops(), "sold", settings=settings, out=tmp_path / "run", say=None, progress=False)
    scores: dict[str, Any] = run.metrics["test"]
    assert all(np.isfinite(value) for value in scores.values())
    assert scores["mase"] < run.results["baseline"]["the last value"]["test"]["mase"]
    assert {f["rule"] for f in run.results["findings"] if f["severity"] == "error"} == set()
    json.dumps(run.results, allow_nan=False)
    assert (tmp_path / "run" / "report.html").stat().st_size > 0
    table, findings = load(tmp_path / "run").predict_table(shops())
    assert np.isfinite(np.asarray(table["sold"])).all()
    assert any(finding.rule == "gaps-in-target" for finding in findings)
