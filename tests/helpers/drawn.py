"""Small pictures of bright discs and dark squares with their boxes, for tests of detection."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image as Pillow

from sounding.kinds.boxes import CELL, EDGES


def shapes(count: int, seed: int = 0, size: tuple[int, int] = (64, 64), most: int = 4) -> tuple[np.ndarray, list[Any]]:
    """Pictures (count, H, W, 3) uint8, and of each the boxes of its `square`s and `disc`s; some have none."""
    draw = np.random.default_rng(seed)
    height, width = size
    pictures = draw.integers(90, 130, (count, height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width] + 0.5
    boxes: list[Any] = []
    for picture in pictures:
        found: list[Any] = []
        for _ in range(draw.integers(0, most + 1)):
            side = int(draw.integers(10, 22))
            left, top = int(draw.integers(0, width - side + 1)), int(draw.integers(0, height - side + 1))
            if any(abs(left - one["left"]) < 22 and abs(top - one["top"]) < 22 for one in found):
                continue
            label = str(draw.choice(["disc", "square"]))
            inside = (x > left) & (x < left + side) & (y > top) & (y < top + side)
            if label == "disc":
                inside = (x - left - side / 2) ** 2 + (y - top - side / 2) ** 2 <= (side / 2) ** 2
            picture[inside] = draw.integers(170, 255, 3) if label == "disc" else draw.integers(0, 60, 3)
            found.append(dict(zip(("label", *EDGES), (label, left, top, left + side, top + side), strict=True)))
        boxes.append(found)
    return pictures, boxes


def table(pictures: np.ndarray, boxes: list[Any]) -> pa.Table:
    """Columns `image` and `boxes`."""
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(pictures))
    return pa.table({"image": images, "boxes": pa.array(boxes, CELL)})


def png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) as a file."""
    file = io.BytesIO()
    Pillow.fromarray(picture).save(file, "PNG")
    return file.getvalue()
