"""The section on boxes in pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image

from sounding.report import words
from sounding.report.detections import boxes_chart, detections


def picture() -> str:
    file = io.BytesIO()
    Image.new("RGB", (40, 30)).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def drawn() -> dict[str, Any]:
    recall = [step / 100 for step in range(101)]
    curve = {"recall": recall, "at_50": [1.0] * 101, "at_75": [0.5] * 101, "ap50": 1.0, "ap75": 0.5, "ap": 0.75}
    return {
        "classes": ["<cell>", "plate"],
        "size": [40, 30],
        "pictures": [
            {
                "picture": picture(),
                "true": [[0, 1, 2, 11, 12], [1, 20, 3, 30, 13]],
                "found": [[0, 0.91, 1.5, 2, 10, 12]],
                "mistakes": 1,
            }
        ],
        "curves": [{**curve, "label": "plate", "there": 3}, {**curve, "label": "<cell>", "there": 9}],
        "counts": [
            {"label": "<cell>", "true": [3, 6], "found": [4, 6], "low": [2, 5], "high": [5, 8], "threshold": 0.4},
            {"label": "plate", "true": [1, 2], "found": [1, 0], "low": [None, None], "high": [None, None]},
        ],
        "coverage": 0.9,
    }


def values() -> dict[str, Any]:
    found = detections({"figures": {"detection": drawn()}}, "")
    assert found is not None
    return found


def test_other_runs_have_none() -> None:
    assert detections({"figures": {"scatter": {}}}, "") is None
    assert detections({}, "") is None


def test_each_box_is_drawn_and_told() -> None:
    chart = boxes_chart(drawn()["pictures"][0], ["<cell>", "plate"], [40, 30])
    assert chart.count('class="box true') == 2
    assert chart.count('class="box found g0"') == 1
    assert "found: &lt;cell&gt; 91" in chart
    assert 'x="20" y="3" width="10" height="10"' in chart
    assert "<cell>" not in chart


def test_what_is_no_picture_is_not_drawn() -> None:
    results = drawn()
    results["pictures"].append({"picture": "javascript:alert(1)", "true": [], "found": [], "mistakes": 0})
    found = detections({"figures": {"detection": results}}, "")
    assert found is not None
    assert len(found["pictures"]) == 1
    assert found["pictures"][0][1] == "1 mistake"


def test_counts_say_how_far_they_are_off_and_how_often_the_interval_holds() -> None:
    cell, plate = values()["counts"]
    assert (cell["true"], cell["found"], cell["off"], cell["covered"][:3]) == ("9", "10", "0.50", "100")
    assert cell["width"] == "3"
    assert plate["covered"] == plate["width"] == words.MISSING
    assert [name for name, _ in values()["charts"]] == ["<cell>"]  # never more than 3 of the other


def test_the_class_with_the_most_boxes_comes_first() -> None:
    found = values()
    assert [one["name"] for one in found["classes"]] == ["<cell>", "plate"]
    assert found["lines"] == [("accent", "<cell>"), ("second", "plate")]
    assert [said for said, _ in found["precision"]] == ["at an overlap of 0.5", "at an overlap of 0.75"]
