"""What the page shows of the data: what the checks said, and what is in each column."""

from __future__ import annotations

from typing import Any

from sounding.report import figures, words
from sounding.report.lines import small_lines
from sounding.report.values import Results, Values, named_cell, shown, within

MOST_FINDINGS, FEW_NOTES = 100, 4
FIRST_COLUMNS, MOST_COLUMNS = 12, 60


def findings(results: Results, recipe_toml: str) -> Values | None:
    """What the checks said, the gravest first."""
    if results.get("findings") is None:
        return None
    order = {"error": 0, "warning": 1, "info": 2}
    cards = [
        {
            **finding,
            "severity": finding.get("severity") if finding.get("severity") in order else "info",
            "evidence": [
                named_cell(name.replace("_", " "), value) for name, value in within(finding, "evidence").items()
            ],
            "settings": words.settings(within(finding, "remedy", "set")),
        }
        for finding in results["findings"]
    ]
    cards.sort(key=lambda finding: order[finding["severity"]])
    grave = [finding for finding in cards if finding["severity"] != "info"]
    notes = cards[len(grave) :]
    return {
        "grave": grave[:MOST_FINDINGS],
        "notes": notes[:MOST_FINDINGS],
        "open": not grave and len(notes) <= FEW_NOTES,
        "left_out": len(cards) - len(grave[:MOST_FINDINGS]) - len(notes[:MOST_FINDINGS]),
    }


def data(results: Results, recipe_toml: str) -> Values | None:
    """Where the data came from and what every column looks like."""
    known = within(results, "data")
    if not known:
        return None
    roles = {"target": 0, "weight": 1, "group": 1, "time": 1, "ignored": 3}
    columns = sorted(known.get("columns") or [], key=lambda column: roles.get(column.get("role"), 2))
    rows = within(known, "rows")
    cards = [
        {**column, "figure": _column_figure(column), "top": _top(column), "ends": _ends(column)}
        | {"lines": small_lines(column.get("lines") or [], f"some of {column.get('name')}")}
        for column in columns[:MOST_COLUMNS]
    ]
    return {
        "source": known.get("source"),
        "notes": known.get("notes") or [],
        "rows": [(part, rows[part]) for part in rows],
        "bar": figures.stacked_bar("How the rows were split", list(rows.items())) if rows else None,
        "first": cards[:FIRST_COLUMNS],
        "more": cards[FIRST_COLUMNS:],
        "count": len(columns),
        "left_out": len(columns) - len(cards),
    }


def _column_figure(column: Results) -> Any:
    histogram = within(column, "histogram")
    return figures.sparkline(histogram["edges"], histogram.get("counts") or []) if histogram.get("edges") else None


def _ends(column: Results) -> tuple[str, str] | None:
    edges = within(column, "histogram").get("edges")
    return (words.number(edges[0]), words.number(edges[-1])) if edges else None


def _top(column: Results) -> list[tuple[str, str, Any]]:
    """The most frequent values, how often each occurs, and the share of the most frequent one."""
    top = (column.get("top") or [])[:5]
    most = max((count for _, count in top if words.is_number(count)), default=1) or 1
    return [
        (shown(value), words.number(count), count / most if words.is_number(count) else None) for value, count in top
    ]
