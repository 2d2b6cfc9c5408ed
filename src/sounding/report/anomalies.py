"""What the page shows of strange rows: their scores, the threshold, and what made the strangest of them so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import words
from sounding.report.svg import Scale, element, svg

WIDTH, HEIGHT = 640.0, 230.0
LEFT, TOP, BOTTOM = 14.0, 26.0, 188.0
SMALL_WIDTH, SMALL_HEIGHT = 300.0, 84.0
STRIP = 8.0
"""Height of the strip under a line in which strange points are marked."""
CLASSES = {"normal rows": "accent", "rows": "accent", "anomalies": "second"}

PICTURES = {
    "given": "picture",
    "given back": "reconstruction",
    "where they differ": "heat",
    "what the score hangs on": "influence",
}
"""What is shown of a strange picture, and where it is in the results."""


def anomalies(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of runs that look for what is strange."""
    figures = results.get("figures")
    drawn = figures.get("anomalies") if isinstance(figures, Mapping) else None
    if not isinstance(drawn, Mapping) or not drawn.get("edges"):
        return None
    counts = {name: of for name, of in (drawn.get("counts") or {}).items() if name in CLASSES}
    low, high = drawn.get("rates") or (None, None)
    return {
        "chart": score_chart(drawn["edges"], counts, drawn.get("threshold")),
        "key": [(CLASSES[name], f"{words.number(sum(of))} {name}") for name, of in counts.items()],
        "allowed": words.percent(drawn.get("false_alarms")),
        "threshold": drawn.get("threshold") is not None,
        "fewest": words.number(drawn.get("fewest")),
        "calibrated_on": words.number(drawn.get("calibrated_on")),
        "low": words.percent(low),
        "high": words.percent(high),
        "called": words.number(drawn.get("called")),
        "rows": words.plural(drawn.get("rows"), "test row"),
        "strangest": [_one(row) for row in drawn.get("strangest") or []],
    }


def _one(row: Mapping[str, Any]) -> dict[str, Any]:
    columns = [pair for pair in row.get("columns") or [] if len(pair) == 2 and words.is_number(pair[1])]
    most = max((excess for _, excess in columns), default=1.0) or 1.0
    cells = row.get("cells") or {}
    from_to = row.get("points")
    row_of = f"points {from_to[0]} to {from_to[1]}" if from_to else f"row {row.get('place', words.MISSING)}"
    line = f":{row['line']}" if row.get("line") and not from_to else f", {row_of}"
    return {
        "place": f"{row['file']}{line}" if row.get("file") else row_of,
        "score": words.number(row.get("score")),
        "p_value": words.number(row.get("p_value")),
        "truth": row.get("truth") or "",
        "columns": [
            (
                words.shorten(words.as_text(name), 30),
                words.shorten(words.as_text(cells.get(name, "")), 16),
                excess / most,
            )
            for name, excess in columns
        ],
        "pictures": [(name, row[key]) for name, key in PICTURES.items() if words.is_picture(row.get(key))],
        "lines": [
            (name if len(row["series"]) > 1 else "", series_chart(name, given, expected, strangeness, most_of(row)))
            for name, given, expected, strangeness in zip(
                row["names"], row["series"], row["expected"], row["strangeness"], strict=True
            )
        ]
        if row.get("series")
        else [],
    }


def score_chart(edges: Sequence[float], counts: Mapping[str, Sequence[float]], threshold: Any) -> Markup:
    """The share of each group of rows in each bin of scores, on a logarithmic axis, and the threshold."""
    x = Scale(edges[0], edges[-1], LEFT, WIDTH - LEFT, logarithmic=True)
    parts = []
    for value, label in x.ticks(6):
        parts.append(element("line", x1=x(value), x2=x(value), y1=BOTTOM, y2=BOTTOM + 4, class_="stub"))
        parts.append(element("text", label, x=x(value), y=BOTTOM + 17, class_="tick middle"))
    said = []
    for name, of in counts.items():
        total, most = sum(of) or 1, max(of, default=0) or 1
        y = Scale(0, most, BOTTOM, TOP)
        path = f"M{x(edges[0]):.1f} {BOTTOM:.1f}"
        for left, right, count in zip(edges[:-1], edges[1:], of, strict=True):
            path += f"L{x(left):.1f} {y(count):.1f}L{x(right):.1f} {y(count):.1f}"
        path += f"L{x(edges[-1]):.1f} {BOTTOM:.1f}"
        parts.append(element("path", d=path, class_=f"scores {CLASSES[name]}"))
        above = "" if not words.is_number(threshold) else _above(edges, of, threshold, total)
        said.append(f"{words.number(total)} {name}{above}.")
    parts.append(element("line", x1=LEFT, x2=WIDTH - LEFT, y1=BOTTOM, y2=BOTTOM, class_="baseline"))
    if words.is_number(threshold) and edges[0] <= threshold <= edges[-1]:
        at = x(threshold)
        parts.append(element("line", x1=at, x2=at, y1=TOP - 6, y2=BOTTOM, class_="mark"))
        end = "end" if at > WIDTH / 2 else ""
        parts.append(element("text", "threshold", x=at + (-6 if end else 6), y=TOP - 10, class_=f"mark-label {end}"))
    parts.append(element("text", "score: how strange", x=WIDTH / 2, y=BOTTOM + 36, class_="axis middle"))
    return svg("Scores of the test rows", " ".join(said), WIDTH, HEIGHT, *parts)


def _above(edges: Sequence[float], of: Sequence[float], threshold: float, total: float) -> str:
    beyond = sum(count for left, count in zip(edges[:-1], of, strict=True) if left >= threshold)
    return f", about {words.percent(beyond / total, 0)} of them above the threshold"


def most_of(row: Mapping[str, Any]) -> float:
    """The largest strangeness of a point, of all channels."""
    return max((value for channel in row["strangeness"] for value in channel), default=0.0) or 1.0


def series_chart(
    name: str, given: Sequence[float], expected: Sequence[float], strangeness: Sequence[float], most: float
) -> Markup:
    """A window: what was given, what was given back, and under it how strange each point is, of `most` at most."""
    bottom = SMALL_HEIGHT - STRIP - 6
    x, y = Scale(0, max(len(given) - 1, 1), 2, SMALL_WIDTH - 2), Scale.around([*given, *expected], bottom, 4)
    parts = []
    width = (SMALL_WIDTH - 4) / max(len(strangeness), 1)
    for place, value in enumerate(strangeness):
        if value > 0.02 * most:
            parts.append(
                element(
                    "rect",
                    x=2 + place * width,
                    y=SMALL_HEIGHT - STRIP,
                    width=width + 0.3,
                    height=STRIP,
                    class_="strange",
                    opacity=f"{value / most:.2f}",
                )
            )
    for values, class_ in ((expected, "line plain dashed"), (given, "line")):
        path = "M" + "L".join(f"{x(place):.1f} {y(value):.1f}" for place, value in enumerate(values))
        parts.append(element("path", d=path, class_=class_))
    worst = max(range(len(strangeness)), key=lambda place: strangeness[place], default=0)
    told = f"{len(given)} points; the strangest is point {worst + 1}."
    return svg(f"{name or 'series'}, given and given back", told, SMALL_WIDTH, SMALL_HEIGHT, *parts)
