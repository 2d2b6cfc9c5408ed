"""Accuracy by the number of labels: what several benchmarks measure, and how they draw it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from sounding.report.svg import PERCENT, Scale, element

Line = list[tuple[int, float]]
"""Labels and accuracy, by rising labels."""
WIDTH, HEIGHT = 320, 260
"""Of a panel."""


def medians(measured: Iterable[tuple[str, int, float]], ways: Iterable[str]) -> dict[str, Line]:
    """For each way that was measured a line of medians, in the order of the ways.

    measured: way, labels and accuracy of each training.

    >>> medians([("new", 5, 0.5), ("new", 5, 0.9), ("new", 5, 0.8), ("new", 2, 0.4)], ["old", "new"])
    {'new': [(2, 0.4), (5, 0.8)]}
    """
    found: dict[str, dict[int, list[float]]] = {}
    for way, labels, accuracy in measured:
        found.setdefault(way, {}).setdefault(labels, []).append(accuracy)
    return {way: [(n, median(found[way][n])) for n in sorted(found[way])] for way in ways if way in found}


def figure(
    panels: Mapping[str, Mapping[str, Line]],
    *,
    named: Mapping[str, str],
    colours: Sequence[str],
    labels: str,
    title: str,
    floors: Mapping[str, float] | None = None,
) -> str:
    """An SVG with a panel for each of the data, labels on a scale of powers.

    panels:  by name a line for each way.
    named:   each way in words, in the order of the colours.
    labels:  what is counted, in words.
    floors:  of a panel, an accuracy that is drawn as a dashed line.
    """
    colour, drawn = dict(zip(named, colours, strict=False)), list[Any]()
    for at, (name, lines) in enumerate(panels.items()):
        points, floor = [point for line in lines.values() for point in line], (floors or {}).get(name)
        x = Scale.around([n for n, _ in points], at * WIDTH + 46, (at + 1) * WIDTH - 12, logarithmic=True)
        values = [accuracy for _, accuracy in points] + ([] if floor is None else [floor])
        y = Scale.around(values, HEIGHT - 40, 34)
        drawn.append(element("text", name, x=at * WIDTH + 46, y=20, font_weight="bold"))
        for value, label in y.ticks(**PERCENT):
            drawn.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), stroke="#e3e3e3"))
            drawn.append(element("text", label, x=x.start - 5, y=y(value) + 4, text_anchor="end"))
        for n in sorted({n for n, _ in points}):
            drawn.append(element("text", f"{n:,}", x=x(n), y=HEIGHT - 24, text_anchor="middle"))
        drawn.append(element("text", labels, x=(x.start + x.end) / 2, y=HEIGHT - 8, text_anchor="middle"))
        if floor is not None:
            ends = {"x1": x.start, "x2": x.end, "y1": y(floor), "y2": y(floor)}
            drawn.append(element("line", **ends, stroke="#777", stroke_dasharray="4 4"))
        for way, line in lines.items():
            path = " ".join(f"{x(n):.1f},{y(accuracy):.1f}" for n, accuracy in line)
            drawn.append(element("polyline", points=path, fill="none", stroke=colour[way], stroke_width=2))
            drawn += [element("circle", cx=x(n), cy=y(accuracy), r=3, fill=colour[way]) for n, accuracy in line]
    for at, (way, words) in enumerate(named.items()):
        drawn.append(element("text", words, x=46 + 170 * at, y=HEIGHT + 14, fill=colour[way]))
    box = f"0 0 {WIDTH * max(len(panels), 1)} {HEIGHT + 24}"
    head = {"xmlns": "http://www.w3.org/2000/svg", "viewBox": box, "font_family": "sans-serif", "font_size": 11}
    return str(element("svg", element("title", title), *drawn, **head))
