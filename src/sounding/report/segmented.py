"""The section on pictures whose pixels have classes: as they are, as they should be, as they were said to be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sounding.report import words

COLUMNS = (("picture", "picture"), ("true", "truth"), ("predicted", "prediction"), ("mistakes", "mistakes"))
COLOUR = re.compile("#[0-9a-f]{6}")


def segmented(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of runs that give a class to every pixel."""
    figures = results.get("figures")
    drawn = figures.get("segmented") if isinstance(figures, Mapping) else None
    if not isinstance(drawn, Mapping) or not drawn.get("pictures"):
        return None
    rows = [
        {
            "right": words.percent(one.get("right")),
            "shown": [(name, one[key]) for name, key in COLUMNS if words.is_picture(one.get(key))],
        }
        for one in drawn["pictures"]
    ]
    scores = results.get("metrics", {}).get("test", {})
    classes = [
        {
            "name": words.as_text(name),
            "colour": colour if COLOUR.fullmatch(str(colour)) else "#808080",
            "iou": words.number(scores.get(f"iou_{name}")),
        }
        for name, colour in zip(drawn.get("classes", []), drawn.get("colours", []), strict=False)
    ]
    return {"rows": rows, "classes": classes}
