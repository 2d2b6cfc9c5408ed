"""What the page shows of recommendations: how much of what users then met is in their lists, and some lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sounding.report import figures, words
from sounding.report.figures import Line
from sounding.report.svg import PERCENT

RECALL = re.compile(r"recall_at_(\d+)")
COLOURS = ("accent", "second", "third", "plain")
LONGEST = 44
"""Letters of the name of an item."""


def recommended(results: Mapping[str, Any], recipe_toml: str) -> dict[str, Any] | None:
    """Of runs that recommend items to users."""
    drawn = results.get("figures")
    users = drawn.get("recommended") if isinstance(drawn, Mapping) else None
    lines = recall_lines(results)
    if not users and not lines:
        return None
    return {
        "chart": recall_chart(*lines) if lines else None,
        "lines": lines[1] if lines else [],
        "users": [_one(user) for user in users or []],
        "ranked": bool(lines),
        **popularity(drawn.get("popularity") if isinstance(drawn, Mapping) else None),
    }


def popularity(told: Mapping[str, Any] | None) -> dict[str, Any]:
    """How much of the lists, and of what users met, are the most popular items."""
    if not told:
        return {}
    lines = [Line("recommended", told["advised"], "accent"), Line("met by users", told["met"], "plain")]
    chart = figures.line_chart(
        "How popular the items are that are recommended",
        told["items"],
        lines,
        x_label="share of all items, the most popular first",
        show=lambda value: words.score("recall", value),
        ticks=PERCENT,
    )
    return {
        "popularity": chart,
        "popularity_lines": lines,
        "covered": words.percent(told["covered"]),
        "lists": words.plural(told["lists"], "user"),
    }


def recall_lines(results: Mapping[str, Any]) -> tuple[list[int], list[Line]] | None:
    """The lengths of lists, and the recall of the network and of each simple model at each; or none."""
    models = {"this network": (results.get("metrics") or {}).get("test") or {}}
    models |= {name: of.get("test") or {} for name, of in (results.get("baseline") or {}).items()}
    told = {
        name: {int(found[1]): value for metric, value in of.items() if (found := RECALL.fullmatch(metric))}
        for name, of in models.items()
    }
    depths = sorted(told["this network"])
    if len(depths) < 2:
        return None
    return depths, [
        Line(name, [of.get(depth) for depth in depths], colour)
        for (name, of), colour in zip(told.items(), COLOURS, strict=False)
    ]


def recall_chart(depths: Sequence[int], lines: Sequence[Line]) -> Markup:
    """Recall over the length of the list."""
    return figures.line_chart(
        "Recall of the test rows by the length of the list",
        depths,
        lines,
        x_label="items recommended",
        show=lambda value: words.score("recall", value),
        ticks=PERCENT,
    )


def _one(user: Mapping[str, Any]) -> dict[str, Any]:
    more = (user.get("count") or 0) - len(user.get("before") or [])
    return {
        "user": words.shorten(words.as_text(user.get("user")), LONGEST),
        "before": [words.shorten(words.as_text(name), LONGEST) for name in user.get("before") or []],
        "more": f"and {words.number(more)} more" if more > 0 else "",
        "then": words.plural(user.get("then"), "test row"),
        "advised": [
            (
                words.shorten(words.as_text(one.get("item")), LONGEST),
                words.number(one.get("score")),
                bool(one.get("met")),
            )
            for one in user.get("items") or []
        ],
    }
