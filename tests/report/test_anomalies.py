"""The section on strange rows: what it says and draws."""

from __future__ import annotations

from typing import Any

from sounding.report.anomalies import anomalies, score_chart, series_chart

DRAWN: dict[str, Any] = {
    "edges": [0.1, 1.0, 10.0, 100.0],
    "counts": {"anomalies": [0, 1, 3], "normal rows": [50, 40, 2]},
    "threshold": 10.0,
    "false_alarms": 0.05,
    "calibrated_on": 100,
    "fewest": 19,
    "rates": [0.02, 0.1],
    "called": 5,
    "rows": 96,
    "strangest": [
        {"row": 3, "place": 17, "file": "a.csv", "line": 19, "score": 9.5, "p_value": 0.0099, "truth": "anomaly"}
        | {"columns": [["speed", 4.0], ["<b>", 1.0]], "cells": {"speed": "311", "<b>": "5"}}
    ],
}


def section(**changed: Any) -> dict[str, Any]:
    values = anomalies({"figures": {"anomalies": {**DRAWN, **changed}}}, "")
    assert values is not None
    return values


def test_other_runs_have_none() -> None:
    assert anomalies({"figures": {"scatter": {}}}, "") is None
    assert anomalies({}, "") is None


def test_the_alarms_and_how_sure_they_are() -> None:
    values = section()
    assert values["threshold"]
    assert values["key"] == [("second", "4 anomalies"), ("accent", "92 normal rows")]
    assert "75" in values["chart"]  # of 100 anomalies so many are above the threshold
    assert not section(threshold=None)["threshold"]


def test_a_row_says_where_it_is_and_which_columns_are_strange() -> None:
    (row,) = section()["strangest"]
    assert row["place"] == "a.csv:19"
    assert row["columns"] == [("speed", "311", 1.0), ("<b>", "5", 0.25)]
    (window,) = section(strangest=[{"row": 0, "place": 0, "points": [10, 19]}])["strangest"]
    assert window["place"] == "points 10 to 19"


def test_the_drawing_of_a_window_marks_the_points_that_differ() -> None:
    drawn = series_chart("heart", [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.01], 1.0)
    assert drawn.count("<rect") == 1
    assert "the strangest is point 2" in drawn


def test_scores_of_one_bin_are_drawn() -> None:
    assert "<path" in score_chart([1.0, 10.0], {"rows": [3]}, None)
