"""The figures of the page: pure functions from plain numbers to markup, drawn in the page's own colours.

Colours are classes of the page's style sheet, so a figure looks right in light, dark and print. Sizes are units
of a view box about as wide as a phone, so letters stay readable there. Values that are missing or not finite
leave a gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sounding.report.svg import PERCENT, Scale, element, evenly, svg, thin
from sounding.report.words import ending, is_interval, is_number, number, percent, plural, shorten, visible

WIDTH = 400
LETTER = 6.6
"""Average width of a letter of the 12-unit type."""
MOST_POINTS = 400
"""Points of a line that are drawn; of longer ones the extremes are kept."""
MOST_PROBES = 120
"""Places of a chart that answer to the pointer."""
MOST_DOTS = 1500
MOST_ROWS, MOST_STEPS = 40, 40
"""Of a map over time."""
NAMES, DECADES = 150.0, 6
"""Room for the names of its rows; powers of ten that its shades tell apart."""
MOST_CLASSES = 100
"""A larger confusion matrix shows only the classes with the most mistakes."""


@dataclass(frozen=True)
class Line:
    """One line of a chart: its name, its values (None and NaN leave gaps), its class of colour."""

    name: str
    values: Sequence[Any]
    class_: str = "accent"

    def __str__(self) -> str:
        finite = [value for value in self.values if is_number(value)]
        if not finite:
            return f"{self.name}: no values."
        return (
            f"{self.name}: from {number(finite[0])} to {number(finite[-1])}, "
            f"lowest {number(min(finite))}, highest {number(max(finite))}."
        )


@dataclass(frozen=True)
class Event:
    """Something that happened at a position of a chart: its number, its severity, and what it was."""

    position: float
    number: int
    severity: str
    said: str


def line_chart(
    title: str,
    positions: Sequence[float],
    lines: Sequence[Line],
    *,
    x_label: str,
    mark: float | None = None,
    mark_label: str = "",
    logarithmic: bool = False,
    show: Callable[[Any], str] = number,
    ticks: Mapping[str, Any] | None = None,
    height: float = 250,
    events: Sequence[Event] = (),
) -> Markup:
    """Lines over common positions, with one position marked; a pointer held over it reads out the values.

    show:    how a value is written when it is read out.
    ticks:   how the values of the axis are written: keywords of `Scale.ticks`.
    events:  what happened meanwhile, in order: each is a numbered badge on a line of its own.
    """
    values = [value for line in lines for value in line.values if is_number(value)]
    top, bottom, right = 30.0, height - 40, WIDTH - 12.0
    y = Scale.around(values, bottom, top, logarithmic=logarithmic)
    y_ticks = y.ticks(**(ticks or {}))
    left = _margin(label for _, label in y_ticks)
    x = Scale.around(positions, left, right, pad=0)
    parts = [*_axes(x, y, y_ticks, whole=True), _axis_name(x, bottom, x_label)]
    if mark is not None:
        parts += [
            element("line", x1=x(mark), x2=x(mark), y1=top, y2=bottom, class_="mark"),
            _label(x(mark), top - 6, mark_label, left, right, "mark-label"),
        ]
    for line in lines:
        kept = thin(line.values, MOST_POINTS)
        points = [(x(positions[i]), y(line.values[i]) if is_number(line.values[i]) else None) for i in kept]
        parts.append(element("path", d=_path(points), class_=f"line {line.class_}"))
        here = [v for p, v in zip(positions, line.values, strict=True) if p == mark and is_number(v)]
        if mark is not None and here:
            parts.append(element("circle", cx=x(mark), cy=y(here[0]), r=4, class_=f"dot {line.class_}"))
    parts += [*_probes(positions, lines, x, y, x_label, show), *_events(events, x, top, bottom)]
    said = [*map(str, lines), *(f"At {x_label} {number(e.position)}, {e.severity}: {e.said}." for e in events)]
    return svg(title, " ".join(said), WIDTH, height, *parts)


def _events(events: Sequence[Event], x: Scale, top: float, bottom: float) -> list[Markup]:
    """A line for each event, and on it a badge with its number, below those that it would cover."""
    lines, badges = [], []
    taken: list[tuple[float, int]] = []
    for event in events:
        at = x(event.position)
        row = next(row for row in range(len(events)) if all(row != r or abs(at - other) > 17 for other, r in taken))
        taken.append((at, row))
        y = top + 10 + 18 * row
        lines.append(element("line", x1=at, x2=at, y1=top, y2=bottom, class_=f"event {event.severity}"))
        badges.append(
            element(
                "g",
                element("title", f"{event.severity}: {event.said}"),
                element("circle", cx=at, cy=y, r=8.0),
                element("text", event.number, x=at, y=y + 4, class_="middle"),
                class_=f"badge {event.severity}",
            )
        )
    return [*lines, *badges]


def spans_widely(lines: Sequence[Line]) -> bool:
    """Whether lines are read better on a logarithmic axis: all positive, and over more than a factor of thirty."""
    values = [value for line in lines for value in line.values if is_number(value)]
    return bool(values) and 0 < 30 * min(values) < max(values)


def _path(points: Iterable[tuple[float, float | None]]) -> str:
    """Path data through points; a missing height lifts the pen. A lone point becomes a dot (the caps are round)."""
    written, pen_down = [], False
    for px, py in points:
        if py is not None:
            written.append(f"{'L' if pen_down else 'M'}{px:.1f} {py:.1f}" + ("" if pen_down else "h0"))
        pen_down = py is not None
    return "".join(written)


def _probes(
    positions: Sequence[float],
    lines: Sequence[Line],
    x: Scale,
    y: Scale,
    x_label: str,
    show: Callable[[Any], str],
) -> list[Markup]:
    """Invisible strips that show, under the pointer, where it is and what the values are there."""
    probes = []
    kept = evenly(len(positions), MOST_PROBES)
    places = [x(positions[i]) for i in kept]
    for k, i in enumerate(kept):
        start = x.start if k == 0 else (places[k - 1] + places[k]) / 2
        end = x.end if k == len(kept) - 1 else (places[k] + places[k + 1]) / 2
        seen = [line for line in lines if is_number(line.values[i])]
        words = ", ".join([f"{x_label} {number(positions[i])}", *(f"{n.name} {show(n.values[i])}" for n in seen)])
        probes.append(
            element(
                "g",
                element(
                    "rect",
                    x=start,
                    y=y.end,
                    width=max(0.5, end - start),
                    height=y.start - y.end,
                    class_="strip",
                ),
                element("line", x1=places[k], x2=places[k], y1=y.end, y2=y.start, class_="hair"),
                *(element("circle", cx=places[k], cy=y(n.values[i]), r=3, class_=f"dot {n.class_}") for n in seen),
                element("rect", x=0, y=0, width=WIDTH, height=y.end - 1, class_="paper"),
                element("text", words, x=x.start, y=y.end - 12, class_="reading"),
                class_="probe",
            )
        )
    return probes


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


def calibration_chart(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Observed accuracy over stated confidence, bin by bin, against the diagonal where both agree."""
    kept = [b for b in bins if is_number(b.get("confidence")) and is_number(b.get("accuracy")) and b.get("count")]
    top, bottom, right, height = 26.0, 284.0, WIDTH - 12.0, 326.0
    y = Scale(0, 1, bottom, top)
    ticks = y.ticks(**PERCENT)
    left = _margin(label for _, label in ticks)
    x = Scale(0, 1, left, right)
    parts = [*_axes(x, y, ticks, x_ticks=ticks)]
    parts.append(element("line", x1=x(0), y1=y(0), x2=x(1), y2=y(1), class_="diagonal"))
    parts.append(_axis_name(x, bottom, "confidence the model states"))
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
    left = _margin(label for _, label in y_ticks)
    x = Scale(y.low, y.high, left, right)
    named = f" ({unit})" if unit else ""
    parts = [*_axes(x, y, y_ticks, x_ticks=y_ticks), _axis_name(x, bottom, f"true value{named}")]
    parts.append(element("line", x1=left, y1=bottom, x2=right, y2=top, class_="diagonal"))
    parts.append(element("text", f"predicted{named}", x=0, y=top - 14, class_="axis"))
    dots = "".join(f"M{x(t):.1f} {y(p):.1f}h0" for t, p in shown)
    parts.append(element("path", d=dots, class_="dots"))
    said = f"{plural(len(pairs), 'row')}; perfect predictions lie on the diagonal." + (
        f" {number(len(shown))} of them are drawn." if len(shown) < len(pairs) else ""
    )
    return svg("Predicted against true values", said, WIDTH, height, *parts)


def histogram(title: str, edges: Sequence[Any], counts: Sequence[Any], *, x_label: str, zero: bool = False) -> Markup:
    """How often values fall between edges; `zero` draws a line at zero."""
    height, top, bottom, right = 250.0, 12.0, 208.0, WIDTH - 12.0
    y = Scale(0, max((c for c in counts if is_number(c)), default=0) * 1.05 or 1, bottom, top)
    y_ticks = [(value, label) for value, label in y.ticks(4) if value == int(value)]
    left = _margin(label for _, label in y_ticks)
    x = Scale.around(edges, left, right, pad=0)
    parts = [*_axes(x, y, y_ticks), _axis_name(x, bottom, x_label)]
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


def _margin(labels: Iterable[str]) -> float:
    """Room left of the axis for the longest of its labels."""
    return 14 + LETTER * max((len(label) for label in labels), default=1)


def _axes(
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
        parts.append(element("line", x1=x(value), x2=x(value), y1=y.start, y2=y.start + 4, class_="stub"))
        parts.append(_label(x(value), y.start + 17, label, 0, WIDTH, "tick"))
    parts.append(element("line", x1=x.start, x2=x.end, y1=y.start, y2=y.start, class_="baseline"))
    return parts


def _axis_name(x: Scale, bottom: float, name: str) -> Markup:
    return element("text", name, x=(x.start + x.end) / 2, y=bottom + 34, class_="axis middle")


def _label(x: float, y: float, words: str, left: float, right: float, class_: str) -> Markup:
    """A label centred on a place, or pushed inwards where it would leave the drawing."""
    half = len(words) * LETTER / 2
    anchor, at = ("", left) if x - half < left else ("end", right) if x + half > right else ("middle", x)
    return element("text", words, x=at, y=y, class_=f"{class_} {anchor}".strip())
