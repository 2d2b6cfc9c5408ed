"""Lines over a common axis, with what happened on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sounding.report.figures.axes import WIDTH, axes, axis_name, centred_label, margin
from sounding.report.svg import Scale, element, evenly, svg, thin
from sounding.report.words import is_number, number

MOST_POINTS = 400
"""Points of a line that are drawn; of longer ones the extremes are kept."""
MOST_PROBES = 120
"""Places of a chart that answer to the pointer."""


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
    left = margin(label for _, label in y_ticks)
    x = Scale.around(positions, left, right, pad=0)
    parts = [
        *axes(x, y, y_ticks, whole=all(float(position).is_integer() for position in positions)),
        axis_name(x, bottom, x_label),
    ]
    if mark is not None:
        parts += [
            element("line", x1=x(mark), x2=x(mark), y1=top, y2=bottom, class_="mark"),
            centred_label(x(mark), top - 6, mark_label, left, right, "mark-label"),
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
