"""What the page shows of the answers: what is mistaken for what, how sure they are, and the worst of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sounding.report import figures, words
from sounding.report.lines import small_lines
from sounding.report.values import Results, Values, named_cell, shown, within

MOST_PAIRS = 8
LONGEST_UNIT = 80
FIRST_CELLS = 8


def errors(results: Results, recipe_toml: str) -> Values | None:
    """Where answers and truth part: confused classes, or predicted against true values."""
    known = within(results, "figures")
    confusion, scatter, residuals = (within(known, name) for name in ("confusion", "scatter", "residuals"))
    values: Values = {}
    if confusion.get("labels") and confusion.get("counts"):
        labels, counts, left_out = _most_mistaken(confusion["labels"], confusion["counts"])
        pairs = _confused(labels, counts)
        most = max((count for *_, count in pairs), default=1)
        values |= {
            "matrix": figures.heat_map(labels, counts),
            "left_out": left_out,
            "unit": words.shorten(words.as_text(confusion.get("unit") or ""), LONGEST_UNIT),
            "pairs": [(true, said, words.number(count), count / most) for true, said, count in pairs],
        }
    if scatter.get("truth") and scatter.get("prediction"):
        unit = scatter.get("unit") or ""
        values["scatter"] = figures.scatter_chart(scatter["truth"], scatter["prediction"], unit=unit)
    if residuals.get("edges") and residuals.get("counts"):
        values["residuals"] = figures.histogram(
            "Errors", residuals["edges"], residuals["counts"], x_label="predicted minus true", zero=True
        )
    return values or None


def _most_mistaken(labels: Sequence[Any], counts: Sequence[Sequence[Any]]) -> tuple[list[Any], list[list[Any]], int]:
    """A matrix small enough to draw: of a larger one, the classes with the most mistakes, in their old order."""
    if len(labels) <= figures.MOST_CLASSES:
        return list(labels), [list(line) for line in counts], 0
    mistakes = [0.0] * len(labels)
    for row, line in enumerate(counts):
        for column, count in enumerate(line):
            if row != column and words.is_number(count):
                mistakes[row] += count
                mistakes[column] += count
    kept = sorted(sorted(range(len(labels)), key=lambda i: -mistakes[i])[: figures.MOST_CLASSES])
    return [labels[i] for i in kept], [[counts[i][j] for j in kept] for i in kept], len(labels) - len(kept)


def _confused(labels: Sequence[Any], counts: Sequence[Sequence[Any]]) -> list[tuple[Any, Any, Any]]:
    pairs = [
        (labels[row], labels[column], count)
        for row, line in enumerate(counts)
        for column, count in enumerate(line)
        if row != column and words.is_number(count) and count > 0
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:MOST_PAIRS]


def calibration(results: Results, recipe_toml: str) -> Values | None:
    """Whether the confidence that the model states can be believed."""
    known = within(results, "figures", "calibration")
    if not known.get("bins"):
        return None
    error = known.get("error")
    return {"chart": figures.calibration_chart(known["bins"]), "error": words.percent(error) if error else ""}


def examples(results: Results, recipe_toml: str) -> Values | None:
    """The answers that were most wrong."""
    known = results.get("examples")
    if not known:
        return None
    regression = not any(words.is_number(example.get("confidence")) for example in known)
    shown = [_example(example) for example in known]
    pictures = all(example["pictures"] and not example["cells"] and not example["clips"] for example in shown)
    answered = any({"truth", "prediction"} & example.keys() for example in known)
    return {"examples": shown, "regression": regression, "pictures": pictures, "answered": answered}


def _example(example: Results) -> Values:
    cells = within(example, "cells")
    pictures = {name: within(cell)["picture"] for name, cell in cells.items() if "picture" in within(cell)}
    drawn = {
        name: small_lines(within(cell)["lines"], str(name)) for name, cell in cells.items() if "lines" in within(cell)
    }
    plain = [named_cell(name, cell) for name, cell in cells.items() if name not in pictures and name not in drawn]
    line = f":{example['line']}" if "line" in example else f", row {example.get('row', words.MISSING)}"
    return {
        "truth": shown(example.get("truth")),
        "prediction": shown(example.get("prediction")),
        "confidence": words.percent(example.get("confidence"), 0) if example.get("confidence") is not None else "",
        "loss": words.number(example.get("loss")),
        "right": example.get("prediction") == example.get("truth"),
        "place": f"{example['file']}{line}" if example.get("file") else f"row {example.get('row', words.MISSING)}",
        "pictures": pictures,
        "lines": [line for line in drawn.values() if line],
        "clips": {name: cell for name, cell in cells.items() if "sound" in within(cell)},
        "cells": plain[:FIRST_CELLS],
        "more": plain[FIRST_CELLS:],
    }
