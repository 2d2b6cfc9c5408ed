"""What the page shows of a generator: what it made up beside real examples, and how that came to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import words
from sounding.report.svg import Scale, element, svg

SIDE = 400.0
LEFT, TOP, BOTTOM = 52.0, 10.0, 350.0
SMALL = 130.0
BARS = 30
MOST_WORDS = 8


def generated(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of networks that make examples up: sheets of pictures, or points, columns and values of a table."""
    drawn = results.get("figures")
    known = drawn.get("samples") if isinstance(drawn, Mapping) else None
    if not isinstance(known, Mapping) or not isinstance(known.get("made"), Mapping):
        return None
    made, real = known["made"], known.get("real") or {}
    numbers, real_numbers = made.get("numbers") or {}, real.get("numbers") or {}
    pair = [name for name in list(numbers)[:2] if real_numbers.get(name)]
    scales = _scales([real_numbers[name] for name in pair]) if len(pair) == 2 else None
    return {
        "classes": [words.as_text(name) for name in known.get("classes") or []],
        "sheets": [(title, one["sheet"]) for title, one in (("made up", made), ("real", real)) if one.get("sheet")],
        "clouds": [
            (title, cloud(title, [one[name] for name in pair], scales, pair))
            for title, one in (("made up", numbers), ("real", real_numbers))
        ]
        if scales
        else [],
        "columns": [
            (name, shares(name, numbers[name], real_numbers[name])) for name in numbers if real_numbers.get(name)
        ],
        "categories": [
            (name, _beside(counts, (real.get("categories") or {}).get(name) or []))
            for name, counts in (made.get("categories") or {}).items()
        ],
        "way": [
            (words.number(one["epoch"]), one.get("sheet"), small_cloud(one.get("numbers") or {}, pair, scales))
            for one in results.get("snapshots") or []
            if words.is_number(one.get("epoch"))
        ],
    }


def _scales(values: Sequence[Sequence[Any]]) -> tuple[Scale, Scale]:
    x, y = values
    return Scale.around(x, LEFT, SIDE - 8), Scale.around(y, BOTTOM, TOP)


def cloud(title: str, values: Sequence[Sequence[Any]], scales: tuple[Scale, Scale], names: Sequence[str]) -> Markup:
    """Points by two columns, within the reach of the real ones."""
    x, y = scales
    parts = []
    for value, label in y.ticks(5):
        parts.append(element("line", x1=x.start, x2=x.end, y1=y(value), y2=y(value), class_="grid"))
        parts.append(element("text", label, x=x.start - 8, y=y(value) + 4, class_="tick end"))
    for value, label in x.ticks(5):
        parts.append(element("text", label, x=x(value), y=BOTTOM + 17, class_="tick middle"))
    parts.append(element("line", x1=x.start, x2=x.end, y1=BOTTOM, y2=BOTTOM, class_="baseline"))
    across, upwards = (words.shorten(words.as_text(name), 40) for name in names)
    parts.append(element("text", across, x=(x.start + x.end) / 2, y=BOTTOM + 36, class_="axis middle"))
    middle = f"rotate(-90 12 {(TOP + BOTTOM) / 2:.0f})"
    parts.append(element("text", upwards, x=12, y=(TOP + BOTTOM) / 2, class_="axis middle", transform=middle))
    parts.append(_dots(values, x, y, "points second" if title == "real" else "points"))
    said = f"{words.plural(len(values[0]), 'row')}, by {across} and {upwards}."
    return svg(f"Rows that are {title}", said, SIDE, BOTTOM + 44, *parts)


def small_cloud(
    columns: Mapping[str, Sequence[Any]], names: Sequence[str], scales: tuple[Scale, Scale] | None
) -> Markup | None:
    """The same the size of a stamp, without numbers."""
    if scales is None or not all(columns.get(name) for name in names):
        return None
    x, y = (Scale(s.low, s.high, *ends) for s, ends in zip(scales, ((4.0, SMALL - 4), (SMALL - 4, 4.0)), strict=True))
    frame = element("rect", x=0.5, y=0.5, width=SMALL - 1, height=SMALL - 1, class_="nothing")
    dots = _dots([columns[name] for name in names], x, y, "points small")
    return svg("Made-up rows", f"By {' and '.join(names)}.", SMALL, SMALL, frame, dots)


def _dots(values: Sequence[Sequence[Any]], x: Scale, y: Scale, class_: str) -> Markup:
    pairs = [(a, b) for a, b in zip(*values, strict=False) if words.is_number(a) and words.is_number(b)]
    inside = [(a, b) for a, b in pairs if x.low <= a <= x.high and y.low <= b <= y.high]
    return element("path", d="".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in inside), class_=class_)


def shares(name: str, made: Sequence[Any], real: Sequence[Any]) -> Markup:
    """How often a number falls where, made up as bars and real as a line, as shares of each."""
    known = [value for value in real if words.is_number(value)]
    low, high = min(known), max(known)
    width = (high - low) / BARS or 1.0
    x, top, bottom = Scale(low, low + BARS * width, 0, SIDE), 6.0, 120.0

    def counted(values: Sequence[Any]) -> list[float]:
        counts = [0.0] * BARS
        for value in values:
            place = int((value - low) / width) if words.is_number(value) else -1
            if value == high:
                place = BARS - 1
            if 0 <= place < BARS:
                counts[place] += 1 / len(values)
        return counts

    bars, line = counted(made), counted(known)
    y = Scale(0, max(*bars, *line, 1e-9), bottom, top)
    parts = [
        element("rect", x=x(low + i * width) + 1, width=SIDE / BARS - 2, y=y(v), height=bottom - y(v), class_="bar")
        for i, v in enumerate(bars)
        if v
    ]
    steps = "".join(
        f"{'L' if i else 'M'}{x(low + i * width):.1f} {y(v):.1f}H{x(low + (i + 1) * width):.1f}"
        for i, v in enumerate(line)
    )
    parts.append(element("path", d=steps, class_="line second"))
    parts.append(element("line", x1=0, x2=SIDE, y1=bottom, y2=bottom, class_="baseline"))
    parts.append(element("text", words.number(low), x=0, y=bottom + 17, class_="tick"))
    parts.append(element("text", words.number(high), x=SIDE, y=bottom + 17, class_="tick end"))
    return svg(f"Values of {name}", "Made up as bars, real as a line.", SIDE, bottom + 22, *parts)


def _beside(made: Sequence[Any], real: Sequence[Any]) -> list[tuple[Any, float, float]]:
    """For each value its share among what was made up and among real rows, the most frequent real ones first."""
    ours, theirs = ({words.as_text(value): share for value, share in counts} for counts in (made, real))
    names = list(dict.fromkeys([*theirs, *ours]))[:MOST_WORDS]
    return [(words.shorten(name, 40), ours.get(name, 0.0), theirs.get(name, 0.0)) for name in names]
