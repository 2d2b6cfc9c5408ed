"""Pictures and their masks varied together: every draw a function of (seed, epoch, step, purpose)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.data.geometry import about, identity, scaled, shifted, smooth, then, turned, warp
from sounding.data.picture_operations import recolour
from sounding.kinds.mask import UNLABELLED
from sounding.randomness import generator


@dataclass(frozen=True, kw_only=True)
class MaskAugmentation:
    """A transform for `Batches` of pictures (B, C, H, W) uint8 whose target are masks (B, H, W) uint8.

    What is outside a picture that was turned or made smaller is black, and has no class.
    """

    crop: tuple[int, int]
    """Height and width of what is cut out, at a place drawn for each; larger than a picture, it is all of it."""
    scale: float = 1.0
    """Largest factor by which pictures are enlarged, or made smaller; its logarithm is drawn evenly."""
    turn: float = 0.0
    """Largest rotation, in degrees, either way."""
    flip: Literal["none", "sideways", "all"] = "none"
    """`sideways` mirrors half of the pictures left to right; `all` also upside down, and turns by quarters."""
    elastic: float = 0.0
    """Standard deviation, in pixels, of the displacements by which what is cut out is deformed: see `smooth`."""
    spacing: int = 64
    """Pixels from one of these to the next, about; between them they are interpolated."""
    colour: float = 0.0
    """Largest change of brightness, contrast and saturation: see `recolour`."""
    seed: int = 0

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch, varied."""
        (pictures,), masks = batch.inputs, batch.target
        assert masks is not None
        count, _, height, width = pictures.shape
        maps = self.maps(count, (height, width), epoch, step)
        moved = self.moved(count, epoch, step)
        pictures = warp(pictures, maps, self.crop, moved=moved)
        masks = warp(masks[:, None], maps, self.crop, nearest=True, fill=UNLABELLED, moved=moved)[:, 0]
        if self.colour > 0.0:
            draws = generator(self.seed, epoch, step, "colour")
            factors = torch.from_numpy(draws.uniform(1 - self.colour, 1 + self.colour, (count, 3)))
            pictures = recolour(pictures, factors.to(pictures.device))
        return batch._replace(inputs=(pictures,), target=masks)

    def maps(self, count: int, size: tuple[int, int], epoch: int, step: int) -> Tensor:
        """(count, 2, 3) from pixels of pictures to those of what is cut out of them."""
        height, width = size
        centre, maps = (width / 2, height / 2), identity(count)
        if self.turn > 0.0:
            degrees = generator(self.seed, epoch, step, "turn").uniform(-self.turn, self.turn, count)
            maps = then(maps, about(centre, turned(torch.from_numpy(degrees))))
        across, down, quarters = self._flips(count, epoch, step)
        factor = np.exp(generator(self.seed, epoch, step, "scale").uniform(-1, 1, count) * math.log(self.scale))
        maps = then(maps, about(centre, scaled(torch.from_numpy(across * factor), torch.from_numpy(down * factor))))
        if quarters.any():
            maps = then(maps, about(centre, turned(torch.from_numpy(90.0 * quarters))))
        sides = np.where((quarters % 2 == 1)[:, None], [height, width], [width, height]) * factor[:, None]  # (count, 2)
        place = generator(self.seed, epoch, step, "crop").random((count, 2))
        spare = sides - np.array([self.crop[1], self.crop[0]])  # negative where the crop is the larger one: centred
        corner = np.array(centre) - sides / 2 + np.where(spare > 0, spare * place, spare / 2)
        corner = np.where(factor[:, None] == 1.0, np.rint(corner), corner)  # whole pixels stay what they are
        right, below = torch.from_numpy(-corner).unbind(1)
        return then(maps, shifted(right, below))

    def moved(self, count: int, epoch: int, step: int) -> Tensor | None:
        """(count, 2, *crop) how far from itself each pixel of what is cut out is taken; none where it is not."""
        if self.elastic <= 0.0:
            return None
        points = [1 + max(1, round(side / self.spacing)) for side in self.crop]
        draws = generator(self.seed, epoch, step, "elastic").normal(0.0, self.elastic, (count, 2, *points))
        return smooth(torch.from_numpy(draws), self.crop)

    def _flips(self, count: int, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """1 or -1 across and down, and quarters of a turn: (count,) each."""
        draws = generator(self.seed, epoch, step, "flip")
        across, down = np.where(draws.random((2, count)) < 0.5, -1.0, 1.0)
        quarters, one = draws.integers(0, 4, count), np.ones(count)
        if self.flip == "all":
            return across, down, quarters
        return across if self.flip == "sideways" else one, one, np.zeros(count, dtype=np.int64)
