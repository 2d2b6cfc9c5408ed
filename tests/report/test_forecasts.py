"""The section on forecasts: what it says and draws."""

from __future__ import annotations

from typing import Any

from sounding.report.forecasts import forecast_chart, forecasts

ONE: dict[str, Any] = {
    "series": "<Lima>",
    "target": "sold",
    "from": "2024-05-01",
    "past": [None, 3.0, 4.0],
    "future": [5.0, 6.0],
    "mean": [5.5, 5.5],
    "low": [4.0, 6.5],
    "high": [6.0, 7.0],
}
DRAWN = {"shown": [ONE], "by_step": {"error": [0.1, 0.2], "coverage": [1.0, 0.0]}, "nominal": 0.8, "windows": 12}


def test_other_runs_have_none() -> None:
    assert forecasts({"figures": {"scatter": {}}}, "") is None
    assert forecasts({}, "") is None


def test_forecasts_are_named_and_errors_drawn_by_step() -> None:
    values = forecasts({"figures": {"forecasts": DRAWN}}, "")
    assert values is not None
    assert (values["windows"], values["interval"][:2]) == ("12 windows", "80")
    (one,) = values["shown"]
    assert (one["name"], one["from"]) == ("sold of <Lima>", "2024-05-01")
    assert [name[:5] for name, _ in values["charts"]] == ["Mean ", "Share"]


def test_the_drawing_counts_what_came_within_the_interval() -> None:
    chart = forecast_chart(ONE)
    assert "1 of them came within the interval" in chart
    assert chart.count("<path") == 3
    assert "interval-area" not in forecast_chart({**ONE, "low": [], "high": []})


def test_a_single_step_has_no_chart_by_step() -> None:
    single = {**DRAWN, "by_step": {"error": [0.1], "coverage": [1.0]}, "shown": [{**ONE, "mean": [5.0]}]}
    values = forecasts({"figures": {"forecasts": single}}, "")
    assert values is not None
    assert values["charts"] == []
