"""What the page shows of pictures in the style of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sounding.report import figures, words
from sounding.report.figures import Line


def painted(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Pictures, the style that was wanted and what came of both; and how the losses of one painting fell."""
    drawn = results.get("figures")
    known = drawn.get("painted") if isinstance(drawn, Mapping) else None
    if not isinstance(known, Mapping) or not words.is_picture(known.get("style")):
        return None
    losses = [one for one in known.get("losses") or [] if words.is_number(one.get("step"))]
    names = (
        ("loss", "", "loss"),
        ("style", "second", "distance to the style"),
        ("content", "third", "distance to the content"),
    )
    lines = [Line(title, [one.get(name) for one in losses], colour or "accent") for name, colour, title in names]
    chart = None
    if losses:
        steps = [one["step"] for one in losses]
        chart = figures.line_chart("Distances while it was painted", steps, lines, x_label="step")
    return {
        "style": known["style"],
        "pairs": [one for one in known.get("pairs") or [] if isinstance(one, Mapping)],
        "told": str(known.get("told") or ""),
        "chart": chart,
        "lines": lines if chart else [],
        "first": losses[0] if losses else None,
        "last": losses[-1] if losses else None,
    }
