"""Series as small drawings of lines, beside what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import words
from sounding.report.svg import Scale, element, svg

WIDTH, HEIGHT = 220.0, 64.0
CLASSES = ("", "second", "third")


def small_lines(lines: Sequence[Sequence[Any]], said: str) -> Markup | None:
    """Up to three lines over one another on one scale, each from its own first point on; none where nothing is drawn.

    said: what they are, in words.
    """
    drawn = [line for line in lines[: len(CLASSES)] if any(map(words.is_number, line))]
    if not drawn:
        return None
    y = Scale.around([value for line in drawn for value in line], HEIGHT - 2, 2)
    x = Scale(0.0, float(max(max(map(len, drawn)) - 1, 1)), 1, WIDTH - 1)
    paths = []
    for class_, line in zip(CLASSES, drawn, strict=False):
        points = [f"{x(at):.1f} {y(value):.1f}" for at, value in enumerate(line) if words.is_number(value)]
        paths.append(element("path", d="M" + "L".join(points), class_=f"line {class_}".rstrip()))
    return svg("Series", said, WIDTH, HEIGHT, *paths, class_="figure sparkline")
