"""Axes, grids and names: what several figures are drawn in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from markupsafe import Markup

from sounding.report.svg import Scale, element

WIDTH = 400
LETTER = 6.6
"""Average width of a letter of the 12-unit type."""


def margin(labels: Iterable[str]) -> float:
    """Room left of the axis for the longest of its labels."""
    return 14 + LETTER * max((len(label) for label in labels), default=1)


def axes(
    x: Scale,
    y: Scale,
    y_ticks: Sequence[tuple[float, str]],
    *,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    whole: bool = False,
) -> list[Markup]:
    """Grid lines with their values; `whole` keeps only whole numbers on the horizontal axis."""
    parts = []
    for value, label in y_ticks:
        parts.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"))
        parts.append(element("text", label, x=x.start - 8, y=y(value) + 4, class_="tick end"))
    for value, label in x.ticks(6) if x_ticks is None else x_ticks:
        if whole and value != int(value):
            continue
        label = label.removesuffix(".0") if whole else label
        parts.append(element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4, class_="stub"))
        parts.append(centred_label(x(value), y.start + 17, label, 0, WIDTH, "tick"))
    parts.append(element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="baseline"))
    return parts


def axis_name(x: Scale, bottom: float, name: str) -> Markup:
    """What is on the horizontal axis, below its numbers."""
    return element("text", name, x=(x.start + x.end) / 2, y=bottom + 34, class_="axis middle")


def centred_label(x: float, y: float, words: str, left: float, right: float, class_: str) -> Markup:
    """A label centred on a place, or pushed inwards where it would leave the drawing."""
    half = len(words) * LETTER / 2
    anchor, at = ("", left) if x - half < left else ("end", right) if x + half > right else ("middle", x)
    return element("text", words, x=at, y=y, class_=f"{class_} {anchor}".strip())
