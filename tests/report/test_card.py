import json
from typing import Any

from sounding.report import card


def test_a_card_says_data_metrics_with_intervals_findings_and_limits(tumours: dict[str, Any]) -> None:
    written = card(tumours)
    measured = written["metrics"]["test"]["accuracy"]
    assert measured["value"] == tumours["metrics"]["test"]["accuracy"]
    assert measured["interval_95"] == tumours["intervals"]["test"]["accuracy"]
    assert written["model"]["network"] == "tabm"
    assert len(written["data"]["columns"]) == 31
    assert written["intended_use"] == ""  # only the user knows
    assert [finding["rule"] for finding in written["findings"]] == [
        "related-columns",
        "few-rows",
        "target-leak",
    ]
    assert any("worst perimeter" in limit for limit in written["limits"])
    assert not any("few" in limit for limit in written["limits"])  # a warning is a finding, no limit


def test_a_card_is_strict_json_whatever_was_measured() -> None:
    written = card({"metrics": {"test": {"log_loss": float("nan"), "accuracy": 0.5}}, "data": {"rows": {"test": 3}}})
    text = json.dumps(written, allow_nan=False)
    assert json.loads(text)["metrics"]["test"] == {"log_loss": {"value": None}, "accuracy": {"value": 0.5}}


def test_a_card_of_nothing_says_what_is_not_known() -> None:
    limits = " ".join(card({})["limits"])
    assert "No interval" in limits
    assert "No simple model" in limits
