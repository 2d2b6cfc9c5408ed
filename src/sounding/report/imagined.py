"""What the page shows of codes: a map of rows, what was made of some, and what the network imagines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import words
from sounding.report.svg import Scale, element, svg, thin

SIDE = 400.0
ROOM = 16.0
"""Around the places of a map, so that pictures do not reach over its border."""
THUMBNAIL = 29.0
COLOURS = 10
"""Of the groups of a map: the most frequent have one each, the others share the last."""
FIRST_COLUMNS = 40
MOST_POINTS = 200
"""Of a series."""


def imagined(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of networks that go through a code: where rows lie, what is kept of them, and what codes stand for."""
    drawn = results.get("figures")
    if not isinstance(drawn, Mapping) or not isinstance(drawn.get("units"), Mapping):
        return None
    map_, units = drawn.get("map") or {}, drawn["units"]
    variances = [value for value in units.get("variances") or [] if words.is_number(value)]
    columns = sorted(drawn.get("columns") or [], key=lambda column: -column.get("kept", 0.0))
    return {
        **_map(map_),
        "copies": [
            (copy["original"], copy["copy"], words.number(copy.get("error")))
            for copy in drawn.get("copies") or []
            if words.is_picture(copy.get("original")) and words.is_picture(copy.get("copy"))
        ],
        "traces": [
            (trace(copy["original"][0], copy["copy"][0]), words.number(copy.get("error")))
            for copy in drawn.get("copies") or []
            if _is_series(copy.get("original")) and _is_series(copy.get("copy"))
        ],
        "walks": [walk for walk in drawn.get("walks") or [] if all(map(words.is_picture, walk))],
        "samples": [picture for picture in drawn.get("samples") or [] if words.is_picture(picture)],
        "units": variance_chart(variances) if variances else None,
        "size": len(variances),
        "used": units.get("used"),
        "columns": [
            (column.get("name"), words.percent(max(column["kept"], 0.0), 0), column["kept"])
            for column in columns[:FIRST_COLUMNS]
            if words.is_number(column.get("kept"))
        ],
        "left_out": max(0, len(columns) - FIRST_COLUMNS),
    }


def _is_series(value: Any) -> bool:
    return (
        isinstance(value, list) and bool(value) and isinstance(value[0], list) and all(map(words.is_number, value[0]))
    )


def trace(original: Sequence[float], copy: Sequence[float]) -> Markup:
    """A series and what was made of it, one line over the other."""
    width, height = 200.0, 70.0
    y, x = Scale.around([*original, *copy], height - 2, 2), Scale(0, max(len(original) - 1, 1), 2, width - 2)
    lines = []
    for values, class_ in ((original, "line plain"), (copy, "line")):
        kept = thin(values, MOST_POINTS)
        path = "".join(f"{'L' if place else 'M'}{x(i):.1f} {y(values[i]):.1f}" for place, i in enumerate(kept))
        lines.append(element("path", d=path, class_=class_))
    return svg("A series and what was made of it", f"{len(original)} points.", width, height, *lines)


def _map(map_: Mapping[str, Any]) -> dict[str, Any]:
    x, y = map_.get("x") or [], map_.get("y") or []
    if not x or len(x) != len(y):
        return {}
    groups, key = _coloured(map_.get("group") or [], map_.get("names") or [])
    places = [one for one in map_.get("pictures") or [] if words.is_picture(one.get("picture"))]
    return {
        "map": map_chart(x, y, groups),
        "key": key,
        "pictures": picture_map(places) if places else None,
        "laid_out": map_.get("laid_out", True),
        "rows": words.number(len(x)),
    }


def _coloured(groups: Sequence[int], names: Sequence[Any]) -> tuple[list[int], list[tuple[str, str]]]:
    """The number of each row's colour, and for each colour its class and the group it stands for."""
    counts = Counter(groups)
    if not groups or max(groups) >= len(names):
        return [], []
    own = sorted(counts, key=lambda group: -counts[group])
    shared = len(own) > COLOURS
    own = sorted(own[: COLOURS - 1] if shared else own)
    colour = {group: place for place, group in enumerate(own)}
    key = [(f"g{place}", words.shorten(words.as_text(names[group]), 30)) for group, place in colour.items()]
    others = [(f"g{COLOURS - 1}", words.plural(len(counts) - len(own), "other"))] if shared else []
    return [colour.get(group, COLOURS - 1) for group in groups], [*key, *others]


def map_chart(x: Sequence[float], y: Sequence[float], colours: Sequence[int]) -> Markup:
    """Rows as dots, at places in [0, 1] across and upwards; colours are numbers of classes, none for one colour."""
    across, upwards = Scale(0, 1, ROOM, SIDE - ROOM), Scale(0, 1, SIDE - ROOM, ROOM)
    drawn: dict[str, str] = {}
    for place, (px, py) in enumerate(zip(x, y, strict=True)):
        class_ = f"g{colours[place]}" if colours else "accent"
        drawn[class_] = drawn.get(class_, "") + f"M{across(px):.1f} {upwards(py):.1f}h0"
    dots = [element("path", d=path, class_=f"place {class_}") for class_, path in sorted(drawn.items())]
    said = f"{words.plural(len(x), 'row')}; those that lie near each other have similar codes."
    return svg("A map of the rows", said, SIDE, SIDE, _frame(), *dots)


def picture_map(places: Sequence[Mapping[str, Any]]) -> Markup:
    """Some pictures at their places on the same map."""
    across, upwards = Scale(0, 1, ROOM, SIDE - ROOM), Scale(0, 1, SIDE - ROOM, ROOM)
    shown = [
        element(
            "image",
            href=one["picture"],
            x=across(one["x"]) - THUMBNAIL / 2,
            y=upwards(one["y"]) - THUMBNAIL / 2,
            width=THUMBNAIL,
            height=THUMBNAIL,
        )
        for one in places
        if words.is_number(one.get("x")) and words.is_number(one.get("y"))
    ]
    return svg(
        "Pictures on the map", f"{words.plural(len(shown), 'picture')} at their places.", SIDE, SIDE, _frame(), *shown
    )


def _frame() -> Markup:
    return element("rect", x=0.5, y=0.5, width=SIDE - 1, height=SIDE - 1, rx=6, class_="frame")


def variance_chart(variances: Sequence[float]) -> Markup:
    """How much each entry of the codes varies from row to row, the most first."""
    ordered = sorted(variances, reverse=True)
    top, bottom, left, right = 12.0, 150.0, 34.0, SIDE - 4.0
    most = max(ordered[0], 1e-12)
    y, width = Scale(0, most, bottom, top), (right - left) / len(ordered)
    parts = []
    for value, label in y.ticks(3):
        parts.append(element("line", x1=left, x2=right, y1=y(value), y2=y(value), class_="grid"))
        parts.append(element("text", label, x=left - 6, y=y(value) + 4, class_="tick end"))
    for place, value in enumerate(ordered):
        said = element("title", words.number(value))
        height = max(1.0, bottom - y(value))
        gap = min(2.0, width / 4)
        at = left + width * place
        parts.append(element("rect", said, x=at, y=bottom - height, width=width - gap, height=height, class_="bar"))
    parts.append(element("line", x1=left, x2=right, y1=bottom, y2=bottom, class_="baseline"))
    parts.append(element("text", "entries of the code", x=(left + right) / 2, y=bottom + 20, class_="axis middle"))
    told = f"The largest of {len(ordered)} is {words.number(ordered[0])}, the smallest {words.number(ordered[-1])}."
    return svg("Variance of each entry of the codes", told, SIDE, bottom + 28, *parts)
