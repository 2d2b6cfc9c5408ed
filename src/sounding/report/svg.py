"""What every figure is drawn with: elements that escape what they hold, scales with round ticks, thinned lines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from sounding.report.words import THIN, is_number, number, visible


def element(name: str, *children: object, **attributes: object) -> Markup:
    """One SVG or HTML element; attribute names with `_` for `-`, and `class_` for `class`; everything is escaped.

    >>> element("text", "a < b", x=1.25, class_="tick")
    Markup('<text x="1.2" class="tick">a &lt; b</text>')
    """
    written = "".join(
        f' {key if key == "viewBox" else key.rstrip("_").replace("_", "-")}="{escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(visible(child)) for child in children)
    return Markup(f"<{name}{written}>{inner}</{name}>")  # every part was escaped above


def _attribute(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(visible(value))


def svg(title: str, description: str, width: float, height: float, *children: object, class_: str = "figure") -> Markup:
    """A whole figure that scales with the page and tells in words what it shows."""
    return element(
        "svg",
        element("title", title),
        element("desc", description),
        *children,
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        class_=class_,
    )


@dataclass(frozen=True)
class Scale:
    """Where values lie on a stretch of the drawing.

    >>> Scale(0, 10, 100, 200)(5)
    150.0
    """

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    @classmethod
    def around(
        cls, values: Iterable[Any], start: float, end: float, *, pad: float = 0.05, logarithmic: bool = False
    ) -> Scale:
        """A scale that holds all finite values with some room; any scale where there are none."""
        finite = [float(value) for value in values if is_number(value) and (value > 0 or not logarithmic)]
        low, high = (min(finite), max(finite)) if finite else (1.0, 2.0)
        if logarithmic:
            room = (high / low) ** pad if high > low else 2
            return cls(low / room, high * room, start, end, logarithmic)
        room = (high - low) * pad if high > low else abs(high) * 0.1 or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """The place of a value; values beyond the ends lie at the ends."""
        place, low, high = (math.log(max(v, 1e-300)) if self.logarithmic else v for v in (value, self.low, self.high))
        share = (place / 2 - low / 2) / (high / 2 - low / 2)  # halves: the span of the largest floats is no float
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, most: int = 5, *, factor: float = 1, unit: str = "") -> list[tuple[float, str]]:
        """Round values on the scale, and how to write them: multiplied by a factor, and with a unit."""
        if self.logarithmic:
            return [(value, number(value, 1)) for value in _powers(self.low, self.high, most)]
        values = nice_ticks(self.low, self.high, most)
        step = values[1] - values[0] if len(values) > 1 else 0.0
        return [(value, _tick_label(value * factor, step * factor) + unit) for value in values]


PERCENT: Mapping[str, Any] = {"factor": 100, "unit": f"{THIN}%"}
"""Ticks of an axis of fractions that is read in percent."""


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten that lie in [low, high].

    >>> nice_ticks(0.03, 0.97)
    [0.2, 0.4, 0.6, 0.8]
    """
    span = high - low
    if not math.isfinite(span) or span <= 1e-12 * max(abs(low), abs(high)):
        return [low] if low == high else [low, high]
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.15g}") for i in range(first, last + 1)]


def _tick_label(value: float, step: float) -> str:
    if value == 0:
        return "0"
    if step == 0 or max(abs(value), step) >= 1e6 or step < 1e-4:
        return number(float(value), 2)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{value:,.{decimals}f}".replace("-", "−")


def _powers(low: float, high: float, most: int) -> list[float]:
    """Powers of ten in [low, high], thinned; with their halves and fifths where there are too few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    whole = [10.0**p for p in range(first, last + 1, max(1, (last - first) // most)) if low <= 10.0**p <= high]
    if len(whole) > 2:
        return whole
    return [f * 10.0**p for p in range(first, last + 1) for f in (1, 2, 5) if low <= f * 10.0**p <= high]


def thin(values: Sequence[Any], most: int) -> list[int]:
    """Positions of at most about `most` values that keep the look of a line: ends, extremes and gaps.

    >>> thin([0, 0, 9, 0, 0, 0], most=6)
    [0, 1, 2, 3, 4, 5]
    """
    if len(values) <= most:
        return list(range(len(values)))
    kept = {0, len(values) - 1}
    buckets = max(1, most // 3)
    for bucket in range(buckets):
        here = range(bucket * len(values) // buckets, (bucket + 1) * len(values) // buckets)
        finite = [i for i in here if is_number(values[i])]
        if finite:
            kept |= {min(finite, key=lambda i: values[i]), max(finite, key=lambda i: values[i])}
        if len(finite) < len(here):
            kept.add(next(i for i in here if not is_number(values[i])))
    return sorted(kept)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` positions out of `count`, evenly spread, both ends among them.

    >>> evenly(100, 4)
    [0, 33, 66, 99]
    """
    return list(range(count)) if count <= most else [i * (count - 1) // (most - 1) for i in range(most)]
