"""Made-up or real examples on a sheet: pictures side by side, or the values of a table's first columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from sounding.data.schema import Schema
from sounding.kinds import Number
from sounding.tasks.samples import Samples, columns_of
from sounding.tasks.task import Thumbnail

SIDE = 10
"""The most pictures in a row, and the most rows."""
WIDEST = 640
"""Pixels of a sheet."""
MOST_COLUMNS = 6
MOST_VALUES = 1000
FEW_VALUES = 250
MOST_CATEGORIES = 12


def drawn(schema: Schema, samples: Samples, few: bool = False) -> dict[str, Any]:
    """What a page shows of some examples.

    Pictures:  `sheet`, one picture with a row for each of the first classes, or rows of any.
    Tables:    `numbers`, values by column, and `categories`, by column how often each value occurs, the most
               frequent first.
    few:       the sheet has half as many pictures in a row; of a table there are fewer values, and two columns.
    """
    if samples.made.ndim == 4:
        return {"sheet": Thumbnail(sheet(samples.made, samples.classes, SIDE // 2 if few else SIDE))}
    names = [field.name for field in schema.inputs]
    columns = columns_of(schema, samples)
    numbers = [field.name for field in schema.inputs if isinstance(field.fitted, Number)]
    shown = numbers[: 2 if few else MOST_COLUMNS]
    values = {name: columns[name][: FEW_VALUES if few else MOST_VALUES] for name in shown}
    found: dict[str, Any] = {
        "numbers": {name: [float(f"{v:.6g}") for v in column if np.isfinite(v)] for name, column in values.items()}
    }
    if not few:
        words = [name for name in names if name not in numbers][:MOST_COLUMNS]
        found["categories"] = {name: _counted(columns[name]) for name in words}
    return found


def sheet(pictures: np.ndarray, classes: np.ndarray | None, side: int) -> np.ndarray:
    """Some of (N, C, H, W) uint8 side by side, as one picture (C, rows * H, columns * W): a class in each row.

    >>> sheet(np.zeros((30, 1, 8, 8), np.uint8), np.arange(30) % 3, 5).shape
    (1, 24, 40)
    """
    channels, height, width = pictures.shape[1:]
    side = max(min(side, WIDEST // width), 1)
    if classes is None:
        chosen = [np.arange(at, at + side) for at in range(0, min(len(pictures), side * side), side)]
    else:
        chosen = [np.flatnonzero(classes == code)[:side] for code in np.unique(classes)[:SIDE]]
    paper = np.zeros((channels, len(chosen) * height, side * width), dtype=np.uint8)
    for row, places in enumerate(chosen):
        for column, place in enumerate(places):
            if place < len(pictures):
                at = np.s_[:, row * height : (row + 1) * height, column * width : (column + 1) * width]
                paper[at] = pictures[place]
    return paper


def _counted(values: np.ndarray) -> list[list[Any]]:
    """Each value and its share, the most frequent first; no value is told as none."""
    words, counts = np.unique(["" if value is None else str(value) for value in values], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    return [[str(words[place]) or None, float(counts[place] / max(len(values), 1))] for place in order]
