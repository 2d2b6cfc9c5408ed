"""What the sources of boxes share: pictures with what is marked in them, as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from sounding.data.sources._parts import in_parts
from sounding.data.table import Origin, Table
from sounding.finding import Finding
from sounding.kinds.boxes import CELL, EDGES

PICTURES = frozenset(".png .jpg .jpeg .jpe .bmp .gif .webp .tif .tiff .ppm .pgm .pbm .pnm".split())
"""Endings of pictures."""
IN_MEMORY = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


class Marked(NamedTuple):
    """A picture, and what is marked in it."""

    picture: str
    """Its path below the root, or its name where its bytes are given."""
    objects: Sequence[tuple[str, float, float, float, float]]
    """Label, left, top, right, bottom in pixels of the picture as it is stored."""
    file: str
    """Where the marks were read."""
    part: str | None = None
    """Of the split."""


def table_of(
    marked: Sequence[Marked],
    *,
    name: str,
    root: Path | None = None,
    contents: Mapping[str, bytes] | None = None,
    note: str = "",
    findings: Sequence[Finding] = (),
) -> Table:
    """Columns `image` and `boxes`, the target of a detection; in the parts of the pictures, if all have one.

    contents: the bytes of the pictures, where they are no files below the root.
    """
    placed = in_parts(marked, [one.part for one in marked])
    parts: dict[str, range] = {}
    for at, (_, part) in enumerate(placed):
        if part:
            parts[part] = range(parts[part].start if part in parts else at, at + 1)
    pictures = [one for one, _ in placed]
    cells = [[dict(zip(("label", *EDGES), thing, strict=True)) for thing in one.objects] for one in pictures]
    paths = [one.picture for one in pictures]
    if contents is None:
        images = pa.array(paths, pa.string())
    else:
        images = pa.array([{"bytes": contents[path], "path": path} for path in paths], IN_MEMORY)
    return Table(
        pa.table({"image": images, "boxes": pa.array(cells, CELL)}),
        name,
        _origins(pictures),
        root=root,
        parts=parts,
        target=("boxes",),
        task="detection",
        notes=(note,) if note else (),
        findings=tuple(findings),
    )


def _origins(pictures: Sequence[Marked]) -> tuple[Origin, ...]:
    """Neighbours of one file are a stretch."""
    files = np.array([one.file for one in pictures], dtype=object)
    starts = np.flatnonzero(np.r_[True, files[1:] != files[:-1]]) if len(files) else np.zeros(0, int)
    ends = np.r_[starts[1:], len(files)]
    return tuple(Origin(str(files[low]), int(high - low)) for low, high in zip(starts, ends, strict=True))
