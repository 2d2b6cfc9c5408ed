"""The section on recommendations: what it says and draws."""

from __future__ import annotations

from typing import Any

from sounding.report.recommended import recommended

USER: dict[str, Any] = {
    "user": "u7",
    "before": ["Alien", "<b>"],
    "count": 14,
    "then": 3,
    "items": [{"item": "Brazil", "score": 4.25, "met": True}, {"item": "Tron", "score": 3.0, "met": False}],
}
SCORES = {"recall_at_1": 0.1, "recall_at_10": 0.4, "recall_at_50": 0.8, "ndcg_at_10": 0.3}


def results(**changed: Any) -> dict[str, Any]:
    simple = {"the most popular items": {"test": {name: value / 2 for name, value in SCORES.items()}, "seconds": 1.0}}
    return {"figures": {"recommended": [USER]}, "metrics": {"test": SCORES}, "baseline": simple, **changed}


def test_other_runs_have_none() -> None:
    assert recommended({"figures": {"scatter": {}}, "metrics": {"test": {"recall": 0.3}}}, "") is None
    assert recommended({}, "") is None


def test_the_recall_of_the_network_and_of_simple_models() -> None:
    values = recommended(results(), "")
    assert values is not None
    assert [(line.name, list(line.values)) for line in values["lines"]] == [
        ("this network", [0.1, 0.4, 0.8]),
        ("the most popular items", [0.05, 0.2, 0.4]),
    ]
    assert values["chart"].count('class="line') == 2


def test_a_user_with_what_came_before_and_what_is_recommended() -> None:
    values = recommended(results(metrics={"test": {"rmse": 0.9}}, baseline={}), "")
    assert values is not None
    assert values["chart"] is None
    (user,) = values["users"]
    assert user["more"] == "and 12 more"
    assert user["then"] == "3 test rows"
    assert user["advised"] == [("Brazil", "4.25", True), ("Tron", "3", False)]


def test_how_popular_the_items_are() -> None:
    told = {"items": [0.1, 1.0], "met": [0.4, 1.0], "advised": [0.7, 1.0], "covered": 0.25, "lists": 40}
    values = recommended(results(figures={"recommended": [USER], "popularity": told}), "")
    assert values is not None
    assert values["popularity"].count('class="line') == 2
    assert values["lists"] == "40 users"
    assert "popularity" not in (recommended(results(), "") or {})
