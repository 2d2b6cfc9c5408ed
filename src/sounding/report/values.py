"""What several sections of the page ask of the plain values of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sounding.report import words

Results = Mapping[str, Any]
Values = dict[str, Any]

MOST_LETTERS, MANY_LETTERS = 400, 40
"""Of one cell: a longer text is cut, and a text with many letters takes the whole width."""


def within(values: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at a path, empty where anything on the way is missing."""
    for name in path:
        values = values.get(name) if isinstance(values, Mapping) else None
    return values if isinstance(values, Mapping) else {}


def simple_models(results: Results) -> dict[str, Results]:
    """What each simple model scored on the test rows, and the seconds it took."""
    known = within(results, "baseline")
    return {name: {**scores, **within(scores, "test")} for name, scores in known.items() if isinstance(scores, Mapping)}


def headline_metric(results: Results) -> str:
    """The metric that the page puts first."""
    test = within(results, "metrics", "test")
    named = within(results, "headline").get("metric") or within(results, "verdict").get("metric")
    return str(named or next(iter(test), "loss"))


def higher_is_better(results: Results) -> bool:
    """Of that metric."""
    return bool(within(results, "headline").get("higher_is_better", True))


def watch_warnings(results: Results) -> list[Results]:
    """The warnings and errors of the watch: of all checks, it alone goes by steps."""
    return [
        finding
        for finding in results.get("findings") or []
        if finding.get("severity") in {"error", "warning"} and words.is_number(within(finding, "evidence").get("step"))
    ]


def named_cell(name: str, value: Any) -> tuple[str, str, bool]:
    """A name, its value, and whether the value is long."""
    text = shown(value)
    return name, text, len(text) > MANY_LETTERS


def shown(value: Any) -> str:
    """A value as text, cut where it is very long."""
    return words.MISSING if value is None else words.shorten(words.as_text(value), MOST_LETTERS)
