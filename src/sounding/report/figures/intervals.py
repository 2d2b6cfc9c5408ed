"""Measured values with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sounding.report.figures.axes import WIDTH
from sounding.report.svg import Scale, element, svg
from sounding.report.words import is_interval, is_number, number, shorten


@dataclass(frozen=True)
class Measured:
    """One row of an interval chart: a value, the interval around it, and how the value is written."""

    name: str
    value: Any
    interval: Any = None
    label: str = ""
    main: bool = False


def interval_chart(
    title: str,
    rows: Sequence[Measured],
    *,
    zero: bool = False,
    ticks: Mapping[str, Any] | None = None,
    x_label: str = "",
) -> Markup:
    """Values as dots with their intervals, one row each, the main row's interval shown under all of them.

    zero:   mark the place of no difference.
    ticks:  how the values of the axis are written: keywords of `Scale.ticks`.

    Rows too far away to share a scale with the others become arrows.
    """
    step, top, left, right = 46.0, 4.0, 2.0, WIDTH - 2.0
    bottom = top + step * len(rows)
    near = _near(rows, zero)
    ends = [end for row in near for end in _ends(row)]
    x = Scale.around([*ends, *([0.0] if zero else [])], left + 12, right - 12, pad=0.08)
    marks = x.ticks(4, **(ticks or {}))
    main = next((row.interval for row in rows if row.main and is_interval(row.interval)), None)
    parts: list[Markup] = []
    for i, row in enumerate(rows):
        name_y, dot_y = top + step * i + 13, top + step * i + 30
        above, below = dot_y - 7, dot_y + 7
        class_ = "accent" if row.main else "plain"
        parts.append(element("text", shorten(row.name, 38), x=left, y=name_y, class_=f"name {class_}"))
        parts.append(element("text", row.label, x=right, y=name_y, class_=f"value end {class_}"))
        parts.append(element("line", x1=left, x2=right, y1=dot_y, y2=dot_y, class_="grid"))
        if main:
            low, high = map(x, main)
            parts.append(element("rect", x=low, y=above, width=high - low, height=14, class_="band"))
        for value, _ in marks:
            parts.append(element("line", x1=x(value), x2=x(value), y1=dot_y - 3, y2=dot_y + 3, class_="grid"))
        if zero:
            parts.append(element("line", x1=x(0), x2=x(0), y1=above, y2=below, class_="zero"))
        parts += _measured(row, x, dot_y, class_, row in near)
    for value, label in marks:
        parts.append(element("text", label, x=x(value), y=bottom + 14, class_="tick middle"))
    if x_label:
        parts.append(element("text", x_label, x=WIDTH / 2, y=bottom + 33, class_="axis middle"))
    words = " ".join(f"{row.name}: {row.label or number(row.value)}." for row in rows)
    return svg(title, words, WIDTH, bottom + (40 if x_label else 22), *parts)


def _measured(row: Measured, x: Scale, y: float, class_: str, near: bool) -> list[Markup]:
    """A row's dot on its whisker, or an arrow that points to where it lies."""
    if not is_number(row.value):
        return []
    if not near:
        tip, back = (x.start - 12, 10) if row.value < x.low else (x.end + 12, -10)
        return [element("path", d=f"M{tip:.0f} {y:.0f}l{back} -6v12z", class_=f"dot {class_}")]
    parts = []
    if is_interval(row.interval):
        low, high = map(x, row.interval)
        parts.append(element("line", x1=low, x2=high, y1=y, y2=y, class_=f"whisker {class_}"))
    return [
        *parts,
        element("circle", cx=x(row.value), cy=y, r=6.5 if row.main else 5.5, class_=f"dot {class_}"),
    ]


def _ends(row: Measured) -> list[Any]:
    return [row.value, *(row.interval if is_interval(row.interval) else [])]


def _near(rows: Sequence[Measured], zero: bool) -> list[Measured]:
    """The rows that share a scale: a row that alone would stretch it threefold is left out."""
    near = [row for row in rows if is_number(row.value)]
    centre = next((row.value for row in near if row.main), 0.0)

    def span(some: Sequence[Measured]) -> float:
        ends = [end for row in some for end in _ends(row)] + ([0.0] if zero else [])
        return float(max(ends) - min(ends))

    while len(near) > 2 - zero:
        farthest = max(near, key=lambda row: abs(row.value - centre))
        rest = [row for row in near if row is not farthest]
        if farthest.main or not rest or span(near) <= 3 * span(rest):
            break
        near = rest
    return near
