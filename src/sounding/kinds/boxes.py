"""What is to be found in pictures, and where: for each picture a list of labelled boxes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sounding.errors import nearest
from sounding.finding import Finding
from sounding.kinds.image import refuse_other_shapes
from sounding.kinds.kind import Block, Column, Form, Recognition
from sounding.kinds.target import Target
from sounding.recipe import DataRecipe

EDGES = ("left", "top", "right", "bottom")
CELL = pa.list_(pa.struct([("label", pa.string()), *((edge, pa.float64()) for edge in EDGES)]))
"""What sources make of the boxes of a picture: pixels of it, turned upright by EXIF, from its upper left (0, 0)."""
NOTHING = -1.0
"""The code that stands where there is no box."""
MOST_NAMED = 20
"""Bad boxes that a finding lists one by one."""


@dataclass(frozen=True)
class Boxes(Target):
    """Labelled boxes in a picture: (N, most, 5) float32, the code of the class, then left, top, right, bottom.

    Rows with fewer boxes end in `NOTHING`. Edges are pixels of the picture, turned upright by EXIF. Boxes without an
    area are left out, with a finding that names file and object.
    """

    name: ClassVar[str] = "boxes"
    form: ClassVar[Form] = "boxes"

    classes: tuple[str, ...]
    """In alphabetical order; class i has code i."""
    most: int
    """Boxes of the fullest training picture, 1 at least; an encoded column with more in a row is wider."""
    usual: float
    """The mean number of boxes in a training picture."""

    @classmethod
    def recognise(cls, column: Column) -> Recognition | None:
        """Lists of objects that have a label and four edges."""
        return Recognition(1.0, "labelled boxes") if are_boxes(column.plain.type) else None

    @classmethod
    def fit(cls, column: Column, rows: np.ndarray, settings: DataRecipe) -> tuple[Self, list[Finding]]:
        """The labels of the training rows.

        Raises:
            DataError: for a row without a list, a box without a label or an edge, or where nothing is to be found.
        """
        refuse_other_shapes(column, settings)
        row, labels, edges = objects(column)
        sound = np.isin(row, rows) & has_area(edges)
        if not sound.any():
            raise column.error("no training picture has a box", "give pictures in which something is marked")
        counts = np.bincount(row[sound], minlength=len(column))[rows]
        return cls(tuple(sorted(set(labels[sound].tolist()))), int(counts.max()), float(counts.mean())), []

    def encode(self, column: Column) -> tuple[np.ndarray, list[Finding]]:
        """(N, most or more, 5) float32, and what was left out.

        Raises:
            DataError: for a row without a list, or a label that no training row has.
        """
        row, labels, edges = objects(column)
        sound = has_area(edges)
        return self.arranged(column, row[sound], labels[sound], edges[sound]), bad_boxes(
            column, row, labels, edges, ~sound, "have no area", "no-area"
        )

    def encode_target(self, column: Column) -> np.ndarray:
        """The array alone."""
        return self.encode(column)[0]

    def arranged(self, column: Column, row: np.ndarray, labels: np.ndarray, edges: np.ndarray) -> np.ndarray:
        """Boxes one below the other as an array by row: see `encode`."""
        codes = {label: code for code, label in enumerate(self.classes)}
        for at, label in enumerate(labels.tolist()):
            if label not in codes:
                what = f'the label "{label}" is in no training row'
                raise column.error(what, nearest(label, self.classes), row=int(row[at]))
        counts = np.bincount(row, minlength=len(column))
        array = np.zeros((len(column), max(self.most, int(counts.max(initial=0))), 5), dtype=np.float32)
        array[..., 0] = NOTHING
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        array[row, place, 0] = [codes[label] for label in labels.tolist()]
        array[row, place, 1:] = edges
        return array

    def block(self, column: str) -> Block:
        """A block of its own."""
        return Block(f"boxes:{column}", self.form, (column,), features=self.classes, length=self.most)

    def describe(self) -> str:
        """How many, of what."""
        shown = ", ".join(self.classes[:8]) + (", ..." if len(self.classes) > 8 else "")
        return f"{self.usual:.3g} boxes in a picture: {shown}"

    def show(self, column: Column, row: int) -> str:
        """How many of each label."""
        labels = [one["label"] for one in column.plain[row].as_py() or []]
        return ", ".join(f"{count} {label}" for label, count in sorted(Counter(labels).items())) or "nothing"


def are_boxes(kind: pa.DataType) -> bool:
    """Whether cells of a type are lists of objects with a label and four edges."""
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_struct(kind.value_type):
        return False
    return {"label", *EDGES} <= {part.name for part in kind.value_type}


def objects(column: Column) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All boxes of a column one below the other: the row of each (n,), its label (n,) of str, its edges (n, 4).

    Raises:
        DataError: for a row without a list, or a box without a label or an edge.
    """
    cells = column.plain
    lacking = ~np.asarray(pc.is_valid(cells))
    if lacking.any():
        what = f"{lacking.sum()} of {len(cells)} rows have no list of boxes, here the first"
        raise column.error(what, "give an empty list where nothing is to be found", row=int(lacking.argmax()))
    row = np.repeat(np.arange(len(cells)), np.asarray(pc.list_value_length(cells), dtype=np.int64))
    flat = pc.list_flatten(cells)
    labels = pc.struct_field(flat, "label").cast(pa.string())
    edges = np.stack(
        [np.asarray(pc.struct_field(flat, edge).cast(pa.float64()), dtype=np.float64) for edge in EDGES], 1
    )
    bad = ~(np.isfinite(edges).all(1) & np.asarray(pc.is_valid(labels)))
    if bad.any():
        first = int(bad.argmax())
        what = f"{bad.sum()} boxes have no label or an edge that is no number, here object {number(row, first)}"
        raise column.error(what, "correct them, or remove them", row=int(row[first]))
    return row, np.asarray(labels.to_pylist(), dtype=object), edges


def number(row: np.ndarray, at: int) -> int:
    """Which object of its picture a box is, counted from 1."""
    return at - int(np.searchsorted(row, row[at])) + 1


def has_area(edges: np.ndarray) -> np.ndarray:
    """(n,) bool: whether boxes (n, 4) are wider and higher than nothing; inverted ones are not."""
    return np.asarray((edges[:, 2] > edges[:, 0]) & (edges[:, 3] > edges[:, 1]))


def bad_boxes(
    column: Column,
    row: np.ndarray,
    labels: np.ndarray,
    edges: np.ndarray,
    bad: np.ndarray,
    what: str,
    rule: str,
    done: str = "left out",
) -> list[Finding]:
    """A finding that names file and object of each box that is bad, if there are any."""
    if not bad.any():
        return []
    named = []
    for at in np.flatnonzero(bad)[:MOST_NAMED]:
        file, _ = column.where(int(row[at]))
        place = ", ".join(f"{edge:g}" for edge in edges[at])
        named.append(f'{file or f"row {row[at]}"}: object {number(row, int(at))}, "{labels[at]}" ({place})')
    count = int(bad.sum())
    shown = "; ".join(named[:3]) + (f"; and {count - 3} more" if count > 3 else "")
    return [
        Finding(
            rule=f"boxes-{rule}",
            severity="warning",
            title=f"{count} of {len(row)} boxes {what}, {done}: {shown}",
            evidence={"column": column.name, "boxes": count, "named": named},
            meaning="What is marked wrongly is neither learned nor counted.",
        )
    ]
