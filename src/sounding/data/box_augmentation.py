"""Pictures with boxes varied while training: mosaics, other sizes and places, mirrors, colours.

Sources: Bochkovskiy et al. 2020, arXiv:2004.10934 (mosaics of four pictures); Ge et al. 2021, arXiv:2107.08430 (mosaics
are left out at the end of training, so that the last pictures look as they will).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.data.geometry import about, scaled, shifted, then, warp, warp_boxes
from sounding.data.picture_operations import recolour
from sounding.kinds.boxes import NOTHING
from sounding.randomness import generator

GREY = 114
"""What stands where no picture reaches."""
LEAST_KEPT = 0.25
"""A box of which less than this share of its area is left is left out: nobody could tell what it was."""

ROUND = 32
"""Places for boxes are a multiple of it: a compiled step is compiled again for every new shape."""


class BoxAugmentation:
    """Varies the pictures of a batch and their boxes alike; a transform for `Batches`.

    mosaic:   probability that a picture is put together of four of the batch.
    scale:    pictures are made larger or smaller by factors from 1 - scale to 1 + scale.
    shift:    and moved by up to this share of their sides.
    flip:     whether half are mirrored left to right.
    upside_down: whether half are mirrored top to bottom: where there is no up, as under a microscope.
    colour:   brightness, contrast and saturation are changed by factors from 1 - colour to 1 + colour.
    until:    the epoch from which on there are no mosaics.

    Pictures are the only input, (B, C, H, W) uint8; the target is (B, M, 5) boxes, and has as many places for boxes
    afterwards as the fullest picture of the batch needs, rounded up to a multiple of 32.
    """

    def __init__(
        self,
        *,
        mosaic: float = 0.0,
        scale: float = 0.0,
        shift: float = 0.0,
        flip: bool = False,
        upside_down: bool = False,
        colour: float = 0.0,
        until: int = 0,
        seed: int = 0,
    ) -> None:
        self.mosaic, self.scale, self.shift, self.colour = mosaic, scale, shift, colour
        self.flip, self.upside_down, self.until, self.seed = flip, upside_down, until, seed

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch, varied."""
        assert batch.target is not None
        (pictures,) = batch.inputs
        count, _, height, width = pictures.shape
        size, boxes = (height, width), batch.target
        alone = self._maps(generator(self.seed, epoch, step, "boxes"), count, size)
        varied, kept = warp(pictures, alone, size, fill=GREY), moved(boxes, alone, size)
        draws = generator(self.seed, epoch, step, "mosaic")
        chosen = np.flatnonzero(draws.random(count) < (self.mosaic if epoch < self.until else 0.0))
        if len(chosen):
            quarters, of_quarters = self._mosaics(pictures, boxes, chosen, draws)
            varied[torch.from_numpy(chosen)] = quarters
            kept = torch.cat([kept, empty(count, of_quarters.shape[1] - kept.shape[1], kept)], 1)
            kept[torch.from_numpy(chosen)] = of_quarters
        if self.colour:
            factors = generator(self.seed, epoch, step, "colour").uniform(1 - self.colour, 1 + self.colour, (count, 3))
            varied = recolour(varied, torch.from_numpy(factors).to(varied.device))
        return batch._replace(inputs=(varied,), target=gathered(kept))

    def _maps(self, draws: np.random.Generator, count: int, size: tuple[int, int]) -> Tensor:
        """(count, 2, 3): scaled, mirrored and moved about the middle."""
        height, width = size
        factor = torch.from_numpy(draws.uniform(1 - self.scale, 1 + self.scale, count))
        across, down = (torch.from_numpy(np.where(draws.random(count) < 0.5, -1.0, 1.0)) for _ in range(2))
        maps = scaled(factor * (across if self.flip else 1.0), factor * (down if self.upside_down else 1.0))
        right, below = (torch.from_numpy(draws.uniform(-self.shift, self.shift, count)) for _ in range(2))
        return then(about((width / 2, height / 2), maps), shifted(right * width, below * height))

    def _mosaics(
        self, pictures: Tensor, boxes: Tensor, chosen: np.ndarray, draws: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Four pictures around a point in the middle half, each cut where the others begin."""
        count, (height, width) = len(chosen), pictures.shape[2:]
        size = (height, width)
        x, y = ((draws.uniform(0.3, 0.7, count) * side).round() for side in (width, height))
        rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
        whole = pictures.new_full((count, pictures.shape[1], *size), GREY)
        found = []
        for below in (False, True):
            for right in (False, True):
                partner = chosen if not (below or right) else draws.integers(len(pictures), size=count)
                factor = torch.from_numpy(draws.uniform(0.5, 1.0, count) * (1 + self.scale))
                flips = [torch.from_numpy(np.where(draws.random(count) < 0.5, -1.0, 1.0)) for _ in range(2)]
                maps = about(
                    (width / 2, height / 2),
                    scaled(factor * (flips[0] if self.flip else 1.0), factor * (flips[1] if self.upside_down else 1.0)),
                )
                # The corner that lies at the point is that of the scaled picture.
                to_x = torch.from_numpy(x) - width / 2 + (factor * width / 2) * (1 if right else -1)
                to_y = torch.from_numpy(y) - height / 2 + (factor * height / 2) * (1 if below else -1)
                maps = then(maps, shifted(to_x, to_y))
                px, py = torch.from_numpy(x)[:, None, None], torch.from_numpy(y)[:, None, None]
                inside = (((rows >= py) == below) & ((columns >= px) == right)).to(pictures.device)
                some = torch.from_numpy(partner).to(pictures.device)
                whole = torch.where(inside[:, None], warp(pictures[some], maps, size, fill=GREY), whole)
                limits = torch.stack(
                    [
                        torch.from_numpy(x) if right else torch.zeros(count),
                        torch.from_numpy(y) if below else torch.zeros(count),
                        torch.full((count,), float(width)) if right else torch.from_numpy(x),
                        torch.full((count,), float(height)) if below else torch.from_numpy(y),
                    ],
                    1,
                )
                found.append(moved(boxes[some], maps, size, limits))
        return whole, torch.cat(found, 1)


def moved(boxes: Tensor, maps: Tensor, size: tuple[int, int], limits: Tensor | None = None) -> Tensor:
    """Boxes (B, M, 5) under the maps of their pictures; those of which too little is left are none any more.

    limits: (B, 4) the part of the result that is seen; all of it when left out.
    """
    far = 1 << 20
    origin = torch.zeros(len(boxes), dtype=torch.float64)
    # Nothing may be cut off yet, so that it is known how much is: a result that is far larger, moved into its middle.
    whole = then(maps, shifted(origin + far, origin + far))
    uncut = warp_boxes(boxes[..., 1:].double(), whole, (2 * far, 2 * far)) - far
    if limits is None:
        limits = torch.tensor([0.0, 0.0, size[1], size[0]]).expand(len(boxes), 4)
    low, high = limits[:, None, :2].to(uncut), limits[:, None, 2:].to(uncut)
    cut = torch.cat([uncut[..., :2].maximum(low).minimum(high), uncut[..., 2:].minimum(high).maximum(low)], 2)
    left, before = ((edges[..., 2:] - edges[..., :2]).clamp(min=0) for edges in (cut, uncut))
    kept = (left.prod(2) >= LEAST_KEPT * before.prod(2)) & (left.amin(2) >= 1.0) & (boxes[..., 0] > NOTHING)
    code = torch.where(kept, boxes[..., 0], NOTHING)
    return torch.cat([code[..., None], torch.where(kept[..., None], cut, 0.0).to(boxes)], 2)


def empty(rows: int, places: int, like: Tensor) -> Tensor:
    """(rows, places, 5) without a box."""
    nothing = like.new_zeros((rows, max(places, 0), 5))
    nothing[..., 0] = NOTHING
    return nothing


def gathered(boxes: Tensor) -> Tensor:
    """(B, M, 5) with the boxes of each row in front, and no more places than the fullest row needs, rounded up."""
    there = boxes[..., 0] > NOTHING
    order = (~there).to(torch.uint8).argsort(dim=1, stable=True)
    boxes = boxes.gather(1, order[..., None].expand_as(boxes))
    places = ROUND * max(-(-int(there.sum(1).max()) // ROUND), 1)
    return torch.cat([boxes[:, :places], empty(len(boxes), places - boxes.shape[1], boxes)], 1)
