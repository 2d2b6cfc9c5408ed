"""The section on pictures whose pixels have classes."""

from __future__ import annotations

from typing import Any

from sounding.report import render
from sounding.report.segmented import segmented

DOT = "data:image/png;base64,iVBORw0KGgo="
RESULTS: dict[str, Any] = {
    "metrics": {"test": {"iou": 0.5, "iou_<sky>": 0.987654}},
    "figures": {
        "segmented": {
            "classes": ["<sky>", "road", "no class"],
            "colours": ["#102030", "url(http://x)", "#ffffff"],
            "pictures": [{"picture": DOT, "truth": DOT, "prediction": DOT, "mistakes": "http://x/y.png", "right": 0.9}],
        }
    },
}


def test_other_runs_have_none() -> None:
    assert segmented({}, "") is None
    assert segmented({"figures": {"segmented": {"pictures": []}}}, "") is None


def test_pictures_and_classes_are_shown_and_nothing_is_loaded() -> None:
    values = segmented(RESULTS, "")
    assert values is not None
    assert [name for name, _ in values["rows"][0]["shown"]] == ["picture", "true", "predicted"]
    assert [one["colour"] for one in values["classes"]] == ["#102030", "#808080", "#ffffff"]
    assert values["classes"][0]["iou"] == "0.988"
    page = render(RESULTS)
    assert "&lt;sky&gt;" in page
    assert "http://x" not in page
