"""Bars: histograms, shares, and small ones beside a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sounding.report.figures.axes import WIDTH, axes, axis_name, margin
from sounding.report.svg import Scale, element, svg
from sounding.report.words import is_number, number, percent


def histogram(title: str, edges: Sequence[Any], counts: Sequence[Any], *, x_label: str, zero: bool = False) -> Markup:
    """How often values fall between edges; `zero` draws a line at zero."""
    height, top, bottom, right = 250.0, 12.0, 208.0, WIDTH - 12.0
    y = Scale(0, max((c for c in counts if is_number(c)), default=0) * 1.05 or 1, bottom, top)
    y_ticks = [(value, label) for value, label in y.ticks(4) if value == int(value)]
    left = margin(label for _, label in y_ticks)
    x = Scale.around(edges, left, right, pad=0)
    parts = [*axes(x, y, y_ticks), axis_name(x, bottom, x_label)]
    parts += _bars(edges, counts, x, y, gap=1)
    if zero:
        parts.append(element("line", x1=x(0), x2=x(0), y1=top, y2=bottom, class_="diagonal"))
    return svg(title, _spread(edges, counts), WIDTH, height, *parts)


def sparkline(edges: Sequence[Any], counts: Sequence[Any]) -> Markup:
    """A histogram the size of a few words."""
    width, height = 220.0, 44.0
    x = Scale.around(edges, 0, width, pad=0)
    y = Scale(0, max((c for c in counts if is_number(c)), default=0) or 1, height, 0)
    base = element("line", x1=0, x2=width, y1=height, y2=height, class_="baseline")
    bars = _bars(edges, counts, x, y, gap=1)
    return svg("Histogram", _spread(edges, counts), width, height + 1, *bars, base, class_="figure sparkline")


def bar(share: Any, class_: str = "bar") -> Markup:
    """A bar whose length is a share of the space there is; decoration of a number that is written beside it."""
    length = min(1.0, max(0.0, share)) if is_number(share) else 0.0
    full = element("rect", width="100%", height="100%", class_="rail")
    part = element("rect", width=f"{100 * length:.1f}%", height="100%", class_=class_)
    return element("svg", full, part, class_="share", aria_hidden="true")


def stacked_bar(title: str, parts: Sequence[tuple[str, Any]]) -> Markup:
    """Parts of a whole side by side, each named by its tooltip."""
    known = [(name, value) for name, value in parts if is_number(value) and value > 0]
    total = sum(value for _, value in known) or 1
    shapes, start = [], 0.0
    for i, (name, value) in enumerate(known):
        length = 100 * value / total
        said = element("title", f"{name}: {number(value)} ({percent(value / total)})")
        shapes.append(
            element(
                "rect",
                said,
                x=f"{start:.2f}%",
                width=f"{length:.2f}%",
                height="100%",
                class_=f"part{i % 3 + 1}",
            )
        )
        start += length
    words = ", ".join(f"{name} {number(value)}" for name, value in known)
    return element("svg", element("title", title), element("desc", words), *shapes, role="img", class_="share stacked")


def _bars(edges: Sequence[Any], counts: Sequence[Any], x: Scale, y: Scale, *, gap: float) -> list[Markup]:
    bars = []
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=False):
        if not (is_number(low) and is_number(high) and is_number(count)) or count <= 0:
            continue
        said = element("title", f"{number(low)} to {number(high)}: {number(count)}")
        height = max(1.0, y.start - y(count))  # a single row among thousands is still seen
        width = max(0.5, x(high) - x(low) - gap)
        bars.append(element("rect", said, x=x(low), y=y.start - height, width=width, height=height, class_="bar"))
    return bars


def _spread(edges: Sequence[Any], counts: Sequence[Any]) -> str:
    known = [(count, i) for i, count in enumerate(counts) if is_number(count)]
    if not known or len(edges) < 2:
        return "No values."
    most, i = max(known, key=lambda pair: pair[0])
    where = f"between {number(edges[i])} and {number(edges[i + 1])}" if i + 1 < len(edges) else "at the end"
    return f"From {number(edges[0])} to {number(edges[-1])}; most, {number(most)}, {where}."
