"""What the page shows of boxes in pictures: true ones and found ones, precision and recall, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import words
from sounding.report.figures import Line, line_chart, scatter_chart
from sounding.report.svg import PERCENT, element, svg

COLOURS = 10
MOST_LINES, MOST_CHARTS = 4, 4
"""Classes whose curves, and whose counts, are drawn: those with the most boxes."""
LINES = ("accent", "second", "third", "plain")
MANY = 3
"""Counts are drawn of classes of which some picture has more than so many."""


def detections(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of runs that find boxes."""
    figures = results.get("figures")
    drawn = figures.get("detection") if isinstance(figures, Mapping) else None
    if not isinstance(drawn, Mapping) or not drawn.get("pictures"):
        return None
    classes = [words.shorten(words.as_text(name), 30) for name in drawn.get("classes") or []]
    curves = sorted(drawn.get("curves") or [], key=lambda one: -one["there"])
    counts = [one for one in drawn.get("counts") or [] if one.get("true")]
    charted = sorted((one for one in counts if max(one["true"]) > MANY), key=lambda one: -sum(one["true"]))
    return {
        "pictures": [
            (boxes_chart(one, classes, drawn["size"]), words.plural(one.get("mistakes"), "mistake"))
            for one in drawn["pictures"]
            if words.is_picture(one.get("picture"))
        ],
        "key": [(f"g{min(code, COLOURS - 1)}", name) for code, name in enumerate(classes)],
        "precision": [
            (f"at an overlap of {said}", _curves(curves[:MOST_LINES], key)) for said, key in _LEVELS if curves
        ],
        "lines": [(LINES[place], str(one["label"])) for place, one in enumerate(curves[:MOST_LINES])],
        "classes": [
            {
                "name": words.as_text(one["label"]),
                "there": words.number(one["there"]),
                **{key: words.percent(one[key]) for key in ("ap50", "ap75", "ap")},
            }
            for one in curves
        ],
        "counts": [_counted(one) for one in counts],
        "charts": [(words.as_text(one["label"]), scatter_chart(one["true"], one["found"])) for one in charted][
            :MOST_CHARTS
        ],
        "coverage": words.percent(drawn.get("coverage"), 0),
    }


_LEVELS = (("0.5", "at_50"), ("0.75", "at_75"))


def _curves(curves: Sequence[Mapping[str, Any]], key: str) -> Markup:
    lines = [Line(str(one["label"]), one[key], LINES[place]) for place, one in enumerate(curves)]
    return line_chart(
        "Precision at each recall",
        curves[0]["recall"],
        lines,
        x_label="recall",
        show=words.percent,
        ticks=PERCENT,
    )


def _counted(one: Mapping[str, Any]) -> dict[str, Any]:
    true, found = one["true"], one["found"]
    known = [
        low <= count <= high
        for low, count, high in zip(one["low"], true, one["high"], strict=True)
        if words.is_number(low) and words.is_number(high)
    ]
    widths = [high - low for low, high in zip(one["low"], one["high"], strict=True) if words.is_number(low)]
    return {
        "name": words.as_text(one["label"]),
        "true": words.number(sum(true)),
        "found": words.number(sum(found)),
        "off": words.number(sum(abs(t - f) for t, f in zip(true, found, strict=True)) / len(true), 2),
        "covered": words.percent(sum(known) / len(known), 0) if known else words.MISSING,
        "width": words.number(sum(widths) / len(widths), 2) if widths else words.MISSING,
        "threshold": words.number(one.get("threshold"), 2),
    }


def boxes_chart(one: Mapping[str, Any], classes: Sequence[str], size: Sequence[float]) -> Markup:
    """A picture with true boxes dashed and found ones drawn through; each tells its class when pointed at."""
    width, height = float(size[0]), float(size[1])
    parts = [element("image", href=one["picture"], x=0, y=0, width=width, height=height)]
    for class_, boxes in (("true", one.get("true") or []), ("found", one.get("found") or [])):
        for box in boxes:
            code, edges = int(box[0]), [float(edge) for edge in box[-4:]]
            score = f" {words.percent(box[1], 0)}" if class_ == "found" else ""
            parts.append(
                element(
                    "rect",
                    element("title", f"{class_}: {classes[code]}{score}"),
                    x=edges[0],
                    y=edges[1],
                    width=max(edges[2] - edges[0], 0.0),
                    height=max(edges[3] - edges[1], 0.0),
                    class_=f"box {class_} g{min(code, COLOURS - 1)}",
                )
            )
    told = f"{words.plural(len(one.get('true') or []), 'true box')}, {len(one.get('found') or [])} found."
    return svg("A picture with boxes", told.replace("boxs", "boxes"), width, height, *parts)
