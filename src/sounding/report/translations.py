"""The section on texts that were written: some beside what they should be, and where the network looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import words
from sounding.report.svg import element, svg

CELL, LETTER = 18.0, 6.6
LONGEST = 14
"""Characters of a piece that are shown."""
NARROWEST = 420.0
"""Of a drawing, so that letters are as large in all of them."""
FAINT = 0.02
"""Smaller weights are not drawn."""


def translations(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of runs that write a text for each text."""
    figures = results.get("figures")
    drawn = figures.get("translations") if isinstance(figures, Mapping) else None
    if not isinstance(drawn, Mapping) or not drawn.get("texts"):
        return None
    texts = [
        {key: words.as_text(one.get(key)) for key in ("source", "truth", "prediction")}
        | {"chrf": words.number(one.get("chrf"), 3), "right": one.get("truth") == one.get("prediction")}
        for one in drawn["texts"]
    ]
    maps = [attention_map(one["read"], one["written"], one["weights"]) for one in drawn.get("maps") or []]
    return {"texts": texts, "maps": maps, "way": on_the_way(results.get("snapshots") or [])}


def on_the_way(snapshots: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """How well some validation rows were written after some epochs, and the first of them each time."""
    known = [one for one in snapshots if words.is_number(one.get("epoch")) and one.get("texts")]
    if not known:
        return None
    return {
        "rows": words.plural(known[-1].get("rows"), "validation row"),
        "true": words.as_text((known[-1].get("true") or [""])[0]),
        "epochs": [
            {
                "epoch": words.number(one["epoch"]),
                "bleu": words.number(one.get("bleu"), 3),
                "chrf": words.number(one.get("chrf"), 3),
                "text": words.as_text(one["texts"][0]),
            }
            for one in known
        ],
    }


def attention_map(read: Sequence[Any], written: Sequence[Any], weights: Sequence[Sequence[Any]]) -> Markup:
    """A row for each piece that was written, a column for each that was read; shades are shares of a row.

    weights: (written, read), rows sum to 1.
    """
    above, beside = (
        [words.shorten(words.as_text(piece).strip() or "␣", LONGEST) for piece in one] for one in (read, written)
    )
    left = 12 + LETTER * max(map(len, beside), default=0)
    top = 12 + 0.8 * LETTER * max(map(len, above), default=0)
    right, bottom = left + CELL * len(above), top + CELL * len(beside)
    parts = [element("rect", x=left, y=top, width=right - left, height=bottom - top, class_="empty")]
    for column, piece in enumerate(above):
        x, y = left + CELL * (column + 0.6), top - 6
        parts.append(element("text", piece, x=x, y=y, class_="tick", transform=f"rotate(-50 {x:.1f} {y:.1f})"))
    for row, (piece, line) in enumerate(zip(beside, weights, strict=False)):
        y = top + CELL * row
        parts.append(element("text", piece, x=left - 6, y=y + CELL * 0.7, class_="tick end"))
        for column, weight in enumerate(line):
            if words.is_number(weight) and weight >= FAINT:
                said = element("title", f"{piece} ← {above[column]}: {words.percent(weight)}")
                place = {"x": left + CELL * column + 0.5, "y": y + 0.5, "width": CELL - 1, "height": CELL - 1}
                parts.append(element("rect", said, **place, class_="hit", fill_opacity=f"{min(weight, 1.0):.2f}"))
    told = f"{words.plural(len(beside), 'piece')} written from {words.plural(len(above), 'piece')} read."
    return svg("Where the network looked", told, max(right + 0.7 * LETTER * LONGEST, NARROWEST), bottom + 8, *parts)
