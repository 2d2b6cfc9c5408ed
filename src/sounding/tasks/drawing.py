"""What reports draw of rows that stand for themselves: maps of their codes, and small pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits
from torch import Tensor

from sounding.tasks.task import Thumbnail

MOST_MAPPED = 1000
"""Rows of a map."""
FEWEST_MAPPED = 8
APART = 0.08
"""Of the side of a map: pictures that are shown on it are so far from each other, across or upwards."""
LARGEST_SIDE = 64
"""Pixels; larger pictures are made smaller."""

LINE = 100
"""Of the longer side of a picture the part that its frames are wide: they are seen when it is made smaller, too."""


def map_of(
    codes: np.ndarray, pictures: np.ndarray | None, groups: np.ndarray | None, names: list[str]
) -> dict[str, Any] | None:
    """Places of some rows on a map on which rows with similar codes are near each other, or none for a few rows.

    codes:    (N, size) float. Codes of two numbers are the map themselves, others are laid out by t-SNE.
    pictures: (N, C, H, W) uint8, if rows are pictures.
    groups:   (N,) the code of each row's label, if there are labels; `names` are those of the codes.
    Returns:  `x` and `y` in [0, 1] of each place, its `group`, the `names`, and some `pictures` with their `x` and `y`.
    Source:   van der Maaten and Hinton 2008.
    """
    rows = evenly(len(codes), MOST_MAPPED)
    if len(rows) < FEWEST_MAPPED:
        return None
    places = codes[rows].astype(np.float64)
    if places.shape[1] != 2:
        places = _laid_out(places)
    low, high = places.min(0), places.max(0)
    places = (places - low) / np.where(high > low, high - low, 1.0)
    drawn: dict[str, Any] = {"x": places[:, 0].round(4), "y": places[:, 1].round(4), "names": names}
    drawn["group"] = None if groups is None else groups[rows]
    drawn["laid_out"] = codes.shape[1] != 2
    if pictures is not None:
        shown: list[int] = []
        for at, place in enumerate(places):
            if not shown or np.abs(places[shown] - place).max(1).min() > APART:
                shown.append(at)
        drawn["pictures"] = [
            {"x": places[at, 0], "y": places[at, 1], "picture": Thumbnail(small(pictures[rows[at]]))} for at in shown
        ]
    return drawn


def _laid_out(codes: np.ndarray) -> np.ndarray:
    """(N, 2) by t-SNE, from codes whose entries count alike."""
    spread = codes.std(0)
    scaled = (codes - codes.mean(0)) / (spread.max() or 1.0)
    learn = TSNE(
        perplexity=min(30.0, (len(codes) - 1) / 3),
        init="pca" if codes.shape[1] > 1 else "random",
        random_state=0,
        n_jobs=1,
    )
    with threadpool_limits(1):  # the same places whatever the machine
        return np.asarray(learn.fit_transform(scaled), dtype=np.float64)


def small(picture: np.ndarray, most: int = LARGEST_SIDE) -> np.ndarray:
    """A picture (C, H, W) uint8 of at most so many pixels a side."""
    side = max(picture.shape[1:])
    if side <= most:
        return picture
    size = [max(1, round(length * most / side)) for length in picture.shape[1:]]
    pixels = torch.nn.functional.interpolate(torch.from_numpy(picture)[None].float(), size=size, mode="area")
    return np.asarray(pixels[0].round().to(torch.uint8).numpy())


def in_colours(picture: Tensor) -> Tensor:
    """(3, H, W) float, 0 to 255, of a picture (C, H, W) uint8 or float in [0, 1]: of many channels the first three."""
    values = picture.float() if picture.dtype == torch.uint8 else picture.float() * 255
    return values[:3].clone() if len(values) >= 3 else values[:1].repeat(3, 1, 1)


def framed(picture: Tensor, boxes: Iterable[tuple[Sequence[float], Sequence[int]]]) -> Tensor:
    """A picture (C, H, W) in colours, with the frame of each box drawn in: (3, H, W) uint8.

    boxes: edges left, top, right and bottom in pixels, and the colour of the frame.
    """
    drawn = in_colours(picture)
    height, width = drawn.shape[1:]
    line = max(1, round(max(height, width) / LINE))
    for edges, colour in boxes:
        left, right = (min(max(round(edge), 0), width - 1) for edge in edges[::2])
        top, bottom = (min(max(round(edge), 0), height - 1) for edge in edges[1::2])
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[top : bottom + 1, left : right + 1] = True
        inside[top + line : max(bottom + 1 - line, 0), left + line : max(right + 1 - line, 0)] = False
        drawn[:, inside] = torch.tensor(colour, dtype=torch.float32)[:, None]
    return drawn.round().to(torch.uint8)


def evenly(count: int, most: int) -> np.ndarray:
    """At most so many of the places 0 .. count - 1, evenly spaced, in order.

    >>> evenly(10, 4).tolist()
    [0, 3, 6, 9]
    """
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, most)).round().astype(np.int64))
