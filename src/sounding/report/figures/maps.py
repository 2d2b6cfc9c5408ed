"""Maps of numbers as shades: what is mistaken for what, and how layers go over time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report.figures.axes import LETTER, WIDTH
from sounding.report.svg import Scale, element, evenly, svg
from sounding.report.words import ending, is_number, number, percent, shorten, visible

MOST_ROWS, MOST_STEPS = 40, 40
"""Of a map over time."""
NAMES, DECADES = 150.0, 6
"""Room for the names of its rows; powers of ten that its shades tell apart."""
MOST_CLASSES = 100
"""A larger confusion matrix shows only the classes with the most mistakes."""


def heat_map(labels: Sequence[Any], counts: Sequence[Sequence[Any]]) -> Markup:
    """A confusion matrix: rows are true classes, columns predicted ones, shades are shares of a row.

    counts:  (C, C) whole numbers. Cells of zero are not drawn; numbers are written where they fit.
    """
    names = [str(visible(label)) for label in labels]
    written = len(names) <= 12
    limit = 12 if len(names) <= 30 else 0
    shown = [shorten(name, limit) if limit else "" for name in names]
    widest = max((len(name) for name in shown), default=0) * LETTER
    left, top, right = max(34.0, 26 + widest), 22.0, WIDTH - 6.0
    cell = min(84.0, (right - left) / max(1, len(names)))
    flat = widest < cell - 4
    bottom = top + cell * len(names)
    tall = 18 if flat else 8 + 0.75 * widest
    size = max(7.0, min(12.0, cell * 0.9))
    parts: list[Markup] = [
        element("rect", x=left, y=top, width=cell * len(names), height=cell * len(names), class_="empty"),
        element("text", "true", x=left - 6, y=top - 8, class_="axis end"),
        element("text", "predicted →", x=left, y=top - 8, class_="axis"),
    ]
    gap = 1 if len(names) <= 40 else 0
    for row, line in enumerate(counts):
        total = sum(value for value in line if is_number(value)) or 1
        y = top + cell * row
        if limit:
            parts.append(
                element(
                    "text",
                    shown[row],
                    x=left - 6,
                    y=y + cell / 2 + size / 3,
                    class_="tick end",
                    font_size=size,
                )
            )
            at = left + cell * (row + 0.5)
            turn = None if flat else f"rotate(-42 {at:.1f} {bottom + 12:.1f})"
            kind = "tick middle" if flat else "tick end"
            parts.append(element("text", shown[row], x=at, y=bottom + 14, class_=kind, font_size=size, transform=turn))
        for column, value in enumerate(line):
            if not is_number(value) or value <= 0:
                continue
            share = value / total
            x = left + cell * column
            shade = 0.1 + 0.9 * math.sqrt(share)  # a few mistakes among many rows are still seen
            said = f"{names[row]} → {names[column]}: {number(value)} of {number(total)} ({percent(share)})"
            kind = "hit" if row == column else "miss"
            parts.append(
                element(
                    "rect",
                    element("title", said),
                    x=x + gap / 2,
                    y=y + gap / 2,
                    width=cell - gap,
                    height=cell - gap,
                    class_=kind,
                    fill_opacity=f"{shade:.2f}",
                )
            )
            if written:
                over = "over" if shade > 0.6 else "under"
                at_x, at_y = x + cell / 2, y + cell / 2 + 4
                parts.append(element("text", number(value), x=at_x, y=at_y, class_=f"count middle {over}"))
    right_ones = sum(line[i] for i, line in enumerate(counts) if is_number(line[i]))
    everything = sum(value for line in counts for value in line if is_number(value))
    said = f"{len(names)} classes; {number(right_ones)} of {number(everything)} on the diagonal, where both agree."
    return svg("Confusion matrix", said, WIDTH, bottom + (tall if limit else 6) + 6, *parts)


def time_map(
    title: str,
    rows: Sequence[tuple[str, Sequence[Any]]],
    columns: Sequence[Any],
    *,
    x_label: str,
    show: Callable[[Any], str] = number,
    logarithmic: bool = False,
    class_: str = "hit",
) -> Markup:
    """Values of many rows over time, each a cell whose shade tells its size; missing ones leave the paper bare.

    rows:         the name and the values of each; rows and columns beyond what can be seen are left out evenly.
    logarithmic:  shades follow the logarithm, and exact zeros have a colour of their own; else values are fractions.
    """
    rows = [rows[i] for i in evenly(len(rows), MOST_ROWS)]
    kept = evenly(len(columns), MOST_STEPS)
    positive = [v for _, values in rows for v in values if is_number(v) and v > 0]
    scale = _decades(positive) if logarithmic else Scale(0, 1, 0.06, 1)
    height, size = (18.0, 12.0) if len(rows) <= 14 else (12.0, 10.0)
    letter = LETTER * size / 12
    names = [ending(name, int(NAMES / letter)) for name, _ in rows]
    left, top, right = 10 + letter * max((len(name) for name in names), default=1), 30.0, WIDTH - 4.0
    bottom, width = top + height * len(rows), (right - left) / max(1, len(kept))
    parts: list[Markup] = []
    zeros = False
    for i, ((whole, values), name) in enumerate(zip(rows, names, strict=True)):
        y, cells = top + height * i, []
        for place, column in enumerate(kept):
            value: Any = values[column] if column < len(values) else None
            if not is_number(value):
                continue
            nothing = logarithmic and value <= 0
            zeros |= nothing
            cells.append(
                element(
                    "rect",
                    element("title", f"{whole}, {x_label} {number(columns[column])}: {show(value)}"),
                    x=left + width * place,
                    y=y,
                    width=width - 0.5,
                    height=height - 1,
                    fill_opacity=None if nothing else f"{scale(value):.2f}",
                    class_="nothing" if nothing else None,
                )
            )
        label = element("text", name, x=left - 6, y=y + height / 2 + 4, class_="tick end", font_size=size)
        parts += [label, element("g", *cells, class_=class_)]
    narrowest = (right - NAMES) / max(1, len(kept))  # by which steps are told does not hang on the names
    every = math.ceil((LETTER * max((len(number(c)) for c in columns), default=1) + 8) / narrowest)
    for place in range(0, len(kept), every):
        words = number(columns[kept[place]])
        parts.append(element("text", words, x=left + width * (place + 0.5), y=bottom + 14, class_="tick middle"))
    parts.append(element("text", x_label, x=(left + right) / 2, y=bottom + 31, class_="axis middle"))
    parts += _shades(scale, show, class_, right, zeros)
    said = " ".join(_told(name, values, show) for name, values in rows)
    return svg(title, said, WIDTH, bottom + 38, *parts)


def _decades(positive: Sequence[float]) -> Scale:
    """From shades to whole powers of ten, three to six of them: smaller differences are no cause for alarm."""
    low, high = (min(positive), max(positive)) if positive else (1.0, 1.0)
    last = math.ceil(math.log10(high))
    first = max(min(math.floor(math.log10(low)), last - 3), last - DECADES)
    return Scale(10.0**first, 10.0**last, 0.06, 1, logarithmic=True)


def _shades(scale: Scale, show: Callable[[Any], str], class_: str, right: float, zeros: bool) -> list[Markup]:
    """The key of a map: what the lightest and the darkest shade stand for."""
    low, high = (_power(scale.low), _power(scale.high)) if scale.logarithmic else (show(0.0), show(1.0))
    end, size = right - LETTER * len(high) - 9, 11.0
    start = end - 6 * size
    parts = [
        element("text", high, x=right, y=14, class_="tick end"),
        element("text", low, x=start - 6, y=14, class_="tick end"),
        element(
            "g",
            *(
                element(
                    "rect", x=start + size * i, y=5.0, width=size, height=size, fill_opacity=f"{0.06 + 0.188 * i:.2f}"
                )
                for i in range(6)
            ),
            class_=class_,
        ),
    ]
    if zeros:
        at = start - 6 - LETTER * (len(low) + 8)
        parts += [
            element("rect", x=at - size - 4, y=5.0, width=size, height=size, class_="nothing"),
            element("text", "zero", x=at, y=14, class_="tick"),
        ]
    return parts


def _power(value: float) -> str:
    return number(value, 1) if 1e-3 <= value <= 1e3 else f"1e{math.log10(value):.0f}".replace("-", "−")


def _told(name: str, values: Sequence[Any], show: Callable[[Any], str]) -> str:
    finite = [value for value in values if is_number(value)]
    return f"{name}: {show(finite[0])} at first, {show(finite[-1])} at last." if finite else f"{name}: no values."
