"""What the page shows of forecasts: some with their intervals, and how far off each step ahead is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import figures, words
from sounding.report.figures import Line
from sounding.report.svg import PERCENT, Scale, element, svg

WIDTH, HEIGHT = 420.0, 190.0
TOP, BOTTOM, RIGHT = 12.0, 158.0, 410.0


def forecasts(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of runs that forecast."""
    figures_of = results.get("figures")
    drawn = figures_of.get("forecasts") if isinstance(figures_of, Mapping) else None
    if not isinstance(drawn, Mapping) or not drawn.get("shown"):
        return None
    steps = drawn.get("by_step") or {}
    error, coverage, nominal = steps.get("error") or [], steps.get("coverage") or [], drawn.get("nominal")
    ahead = list(range(1, len(error) + 1))
    charts = []
    if len(ahead) > 1:
        lines = [Line("mean absolute error", error)]
        charts.append(figures.line_chart("Error by step ahead", ahead, lines, x_label="steps ahead", height=210))
    if len(ahead) > 1 and coverage:
        lines = [Line("coverage", coverage)]
        if words.is_number(nominal):
            lines.append(Line("asked for", [nominal] * len(ahead), "second"))
        title = "Share within the interval, by step ahead"
        chart = figures.line_chart(title, ahead, lines, x_label="steps ahead", height=210, ticks=PERCENT)
        charts.append(chart)
    asked = f", of which {words.percent(nominal, 0)} is asked for" if words.is_number(nominal) else ""
    named = {"error": "Mean absolute error in standard deviations", "coverage": f"Share within the interval{asked}"}
    return {
        "windows": words.plural(drawn.get("windows"), "window"),
        "interval": words.percent(nominal, 0) if words.is_number(nominal) else "",
        "shown": [
            {
                "name": " of ".join(part for part in (one.get("target"), one.get("series")) if part),
                "from": one.get("from"),
                "chart": forecast_chart(one),
            }
            for one in drawn["shown"]
        ],
        "charts": list(zip(named.values(), charts, strict=False)),
    }


def forecast_chart(one: Mapping[str, Any]) -> Markup:
    """What was, what was forecast with its interval, and what came."""
    past, future, mean = (list(one.get(key) or []) for key in ("past", "future", "mean"))
    low, high = list(one.get("low") or []), list(one.get("high") or [])
    y = Scale.around([*past, *future, *mean, *low, *high], BOTTOM, TOP)
    ticks = y.ticks(4)
    left = 14.0 + 6.2 * max((len(label) for _, label in ticks), default=1)
    x = Scale(1.0 - len(past), max(len(mean), 1), left, RIGHT)
    parts = []
    for value, label in ticks:
        parts.append(element("line", x1=left, x2=RIGHT, y1=y(value), y2=y(value), class_="grid"))
        parts.append(element("text", label, x=left - 6, y=y(value) + 4, class_="tick end"))
    for value, label in x.ticks(6):
        parts.append(element("text", label, x=x(value), y=BOTTOM + 17, class_="tick middle"))
    parts.append(element("text", "steps ahead", x=(left + RIGHT) / 2, y=BOTTOM + 31, class_="axis middle"))
    if low and len(low) == len(high):
        upper = [f"{x(at):.1f} {y(value):.1f}" for at, value in enumerate(high, start=1)]
        lower = [f"{x(at):.1f} {y(value):.1f}" for at, value in enumerate(low, start=1)]
        parts.append(element("path", d="M" + "L".join([*upper, *reversed(lower)]) + "Z", class_="interval-area"))
    parts.append(element("line", x1=x(0.5), x2=x(0.5), y1=TOP, y2=BOTTOM, class_="mark"))
    known: list[tuple[float, Any]] = list(enumerate([*past, *future], start=1 - len(past)))
    parts.append(element("path", d=_line(known, x, y), class_="line plain"))
    parts.append(element("path", d=_line(list(enumerate(mean, start=1)), x, y), class_="line"))
    inside = sum(words.is_number(b) and a <= b <= c for a, b, c in zip(low, future, high, strict=False))
    told = f"{len(mean)} steps ahead" + (f"; {inside} of them came within the interval." if low else ".")
    return svg(f"Forecast of {one.get('target') or 'a series'}", told, WIDTH, HEIGHT, *parts)


def _line(points: Sequence[tuple[float, Any]], x: Scale, y: Scale) -> str:
    """A path that breaks where there is no value."""
    path, pen = "", "M"
    for at, value in points:
        if words.is_number(value):
            path += f"{pen}{x(at):.1f} {y(value):.1f}"
            pen = "L"
        else:
            pen = "M"
    return path or "M0 0"
