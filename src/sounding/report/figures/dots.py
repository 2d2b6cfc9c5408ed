"""Dots against the line on which they should lie: how sure answers are, and numbers against the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report.figures.axes import WIDTH, axes, axis_name, margin
from sounding.report.svg import PERCENT, Scale, element, evenly, svg
from sounding.report.words import is_number, number, percent, plural

MOST_DOTS = 1500


def calibration_chart(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Observed accuracy over stated confidence, bin by bin, against the diagonal where both agree."""
    kept = [b for b in bins if is_number(b.get("confidence")) and is_number(b.get("accuracy")) and b.get("count")]
    top, bottom, right, height = 26.0, 284.0, WIDTH - 12.0, 326.0
    y = Scale(0, 1, bottom, top)
    ticks = y.ticks(**PERCENT)
    left = margin(label for _, label in ticks)
    x = Scale(0, 1, left, right)
    parts = [*axes(x, y, ticks, x_ticks=ticks)]
    parts.append(element("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="diagonal"))
    parts.append(axis_name(x, bottom, "confidence the model states"))
    parts.append(element("text", "share it gets right", x=0, y=top - 14, class_="axis"))
    largest = max((b["count"] for b in kept), default=1)
    points = [(x(b["confidence"]), y(b["accuracy"])) for b in kept]
    for bin_, (px, py) in zip(kept, points, strict=True):
        parts.append(element("line", x1=px, x2=px, y1=y(bin_["confidence"]), y2=py, class_="miss-line"))
    for bin_, (px, py) in zip(kept, points, strict=True):
        rows = plural(bin_["count"], "row")
        said = f"{percent(bin_['confidence'])} sure, right in {percent(bin_['accuracy'])} of {rows}"
        radius = 3 + 6 * math.sqrt(bin_["count"] / largest)
        parts.append(element("circle", element("title", said), cx=px, cy=py, r=radius, class_="dot accent"))
    said = " ".join(f"{percent(b['confidence'])} stated, {percent(b['accuracy'])} right." for b in kept)
    return svg("Stated confidence against observed accuracy", said, WIDTH, height, *parts)


def scatter_chart(truth: Sequence[Any], prediction: Sequence[Any], *, unit: str = "") -> Markup:
    """Predicted over true values, with the diagonal of perfect predictions; both axes share one scale."""
    pairs = [(t, p) for t, p in zip(truth, prediction, strict=False) if is_number(t) and is_number(p)]
    shown = [pairs[i] for i in evenly(len(pairs), MOST_DOTS)]
    top, bottom, right, height = 26.0, 334.0, WIDTH - 12.0, 376.0
    y = Scale.around([value for pair in pairs for value in pair], bottom, top)
    y_ticks = y.ticks()
    left = margin(label for _, label in y_ticks)
    x = Scale(y.low, y.high, left, right)
    named = f" ({unit})" if unit else ""
    parts = [*axes(x, y, y_ticks, x_ticks=y_ticks), axis_name(x, bottom, f"true value{named}")]
    parts.append(element("line", x1=left, y1=bottom, x2=right, y2=top, class_="diagonal"))
    parts.append(element("text", f"predicted{named}", x=0, y=top - 14, class_="axis"))
    dots = "".join(f"M{x(t):.1f} {y(p):.1f}h0" for t, p in shown)
    parts.append(element("path", d=dots, class_="dots"))
    said = f"{plural(len(pairs), 'row')}; perfect predictions lie on the diagonal." + (
        f" {number(len(shown))} of them are drawn." if len(shown) < len(pairs) else ""
    )
    return svg("Predicted against true values", said, WIDTH, height, *parts)
