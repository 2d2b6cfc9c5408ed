"""Pictures varied while training: whole batches at once, every draw a function of (seed, epoch, step, purpose)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.batches import Batch
from sounding.errors import RecipeError, nearest
from sounding.randomness import generator

Draws = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """How far a picture is varied without becoming a picture of something else."""

    shift: float = 0.0
    """Largest shift, as a fraction of the side; at least one pixel. Black moves in."""
    flip: bool = False
    """Whether half of the pictures are mirrored left to right."""
    turn: float = 0.0
    """Largest rotation about the centre, in degrees, either way."""
    colour: float = 0.0
    """Largest change of brightness, contrast and saturation: factors are drawn from [1 - colour, 1 + colour]."""


POLICIES = {
    "none": Policy(),
    "shift": Policy(shift=0.08),  # 1 pixel of 8, 2 of 28
    "photo": Policy(shift=0.125, flip=True, turn=10.0, colour=0.2),  # 4 pixels of 32
}


class Augmentation:
    """Varies the pictures of a batch; a transform for `Batches`.

    policy:   a name from `POLICIES`, or a `Policy`.
    erase:    probability that a rectangle of a picture is blanked.
    mixup:    alpha of the beta distribution by which pairs of examples are blended; 0 is off.
    cutmix:   alpha by which a patch of one picture is pasted into another; 0 is off. With both, each batch
              gets one of them.
    number_of_classes: turns classes into probabilities where examples are mixed; 0 for a target of numbers.

    Pictures are inputs of shape (B, C, H, W), uint8. Shifting, mirroring, erasing and cutmix keep uint8; turning,
    recolouring and mixup give float32 in [0, 1], which networks take for the same picture. With mixup or cutmix the
    target becomes (B, number_of_classes) float32 probabilities.

    An example's draws depend on seed, epoch, step and its place in the batch, never on what the others contain,
    and the draws of one transform not on which others are on.

    Raises:
        RecipeError: for an unknown policy or a value out of range; when a batch that is to be mixed has inputs
            that are no pictures.
    """

    def __init__(
        self,
        policy: str | Policy = "none",
        erase: float = 0.0,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        *,
        seed: int = 0,
        number_of_classes: int = 0,
    ) -> None:
        if isinstance(policy, str):
            if policy not in POLICIES:
                raise RecipeError(f'there is no augmentation "{policy}"', nearest(policy, POLICIES))
            policy = POLICIES[policy]
        if not 0.0 <= erase <= 1.0:
            raise RecipeError(f"erase is {erase}", "give a probability from 0 to 1")
        if mixup < 0.0 or cutmix < 0.0:
            raise RecipeError("mixup and cutmix cannot be negative", "give an alpha such as 0.2, or 0 for none")
        self.policy, self.erase, self.mixup, self.cutmix = policy, erase, mixup, cutmix
        self.seed, self.number_of_classes = seed, number_of_classes

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch, varied."""
        before = [x.dtype for x in batch.inputs]
        inputs = tuple(self._vary(x, epoch, step) if x.ndim == 4 else x for x in batch.inputs)
        batch = batch._replace(inputs=inputs)
        if self.mixup > 0.0 or self.cutmix > 0.0:
            batch = self._mix(batch, epoch, step)
        pairs = zip(batch.inputs, before, strict=True)
        return batch._replace(inputs=tuple(x / 255 if x.dtype != old else x for x, old in pairs))

    def _mix(self, batch: Batch, epoch: int, step: int) -> Batch:
        if any(x.ndim != 4 for x in batch.inputs):
            raise RecipeError("mixup and cutmix need pictures as the only input", "set both to 0")
        chance = self._draws(epoch, step, "which mix").random()
        pasting = self.mixup == 0.0 or (self.cutmix > 0.0 and chance < 0.5)
        return self._paste(batch, epoch, step) if pasting else self._blend(batch, epoch, step)

    def _draws(self, epoch: int, step: int, purpose: str) -> np.random.Generator:
        return generator(self.seed, epoch, step, purpose)

    def _vary(self, pictures: Tensor, epoch: int, step: int) -> Tensor:
        count, _, height, width = pictures.shape
        policy, device = self.policy, pictures.device
        if policy.flip or policy.shift > 0.0:
            draws = self._draws(epoch, step, "shift")
            reach = [max(1, round(policy.shift * side)) if policy.shift else 0 for side in (height, width)]
            down, right = (torch.from_numpy(draws.integers(-r, r + 1, count)).to(device) for r in reach)
            mirrored = (self._draws(epoch, step, "flip").random(count) < 0.5) & policy.flip
            pictures = move(pictures, down, right, torch.from_numpy(mirrored).to(device), reach=max(reach))
        if policy.turn > 0.0:
            degrees = self._draws(epoch, step, "turn").uniform(-policy.turn, policy.turn, count)
            pictures = turn(pictures, torch.from_numpy(degrees).to(device))
        if policy.colour > 0.0:
            low, high = 1.0 - policy.colour, 1.0 + policy.colour
            factors = self._draws(epoch, step, "colour").uniform(low, high, (count, 3))
            pictures = recolour(pictures, torch.from_numpy(factors).to(device))
        if self.erase > 0.0:
            draws = self._draws(epoch, step, "erase")
            chosen = draws.random(count) < self.erase
            # Sizes of Zhong et al. 2017, arXiv:1708.04896, algorithm 1: 2 % to 33 % of the area, sides up to 1 : 3.3.
            area, ratio = (
                draws.uniform(0.02, 1 / 3, count),
                np.exp(draws.uniform(-1, 1, count) * math.log(3.3)),
            )
            sides = np.sqrt(area * np.stack([ratio, 1 / ratio])) * [[height], [width]]
            inside = _boxes(draws, np.where(chosen, sides, 0.0), height, width, device)
            pictures = torch.where(inside, _mean_colour(pictures), pictures)
        return pictures

    def _blend(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Mixup (Zhang et al. 2018, arXiv:1710.09412): each example and another, in shares from a beta distribution."""
        draws = self._draws(epoch, step, "mixup")
        count, device = len(batch.rows), batch.inputs[0].device
        share = torch.from_numpy(draws.beta(self.mixup, self.mixup, count)).float().to(device)
        partner = torch.from_numpy(draws.permutation(count)).to(device)
        inputs = tuple(_weighted(x.float(), x[partner].float(), share) for x in batch.inputs)
        return batch._replace(inputs=inputs, target=self._mixed_target(batch, partner, share))

    def _paste(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Cutmix (Yun et al. 2019, arXiv:1905.04899): a patch of another picture, the target in shares of area."""
        draws = self._draws(epoch, step, "cutmix")
        count, device = len(batch.rows), batch.inputs[0].device
        share = draws.beta(self.cutmix, self.cutmix, count)
        partner = torch.from_numpy(draws.permutation(count)).to(device)
        height, width = batch.inputs[0].shape[2:]
        sides = np.sqrt(1.0 - share) * np.array([[height], [width]])
        inside = _boxes(draws, sides, height, width, device)
        inputs = tuple(torch.where(inside, x[partner], x) for x in batch.inputs)
        kept = 1.0 - inside.float().mean((1, 2, 3))  # the share as it came out, in whole pixels
        return batch._replace(inputs=inputs, target=self._mixed_target(batch, partner, kept))

    def _mixed_target(self, batch: Batch, partner: Tensor, share: Tensor) -> Tensor | None:
        target = batch.target
        if target is None:
            return None
        if not target.is_floating_point():
            target = F.one_hot(target.long(), self.number_of_classes)
        return _weighted(target.float(), target[partner].float(), share)


def move(pictures: Tensor, down: Tensor, right: Tensor, mirrored: Tensor, *, reach: int) -> Tensor:
    """Shift each picture by whole pixels, black moving in, and then mirror the chosen ones left to right.

    pictures:     (B, C, H, W), any dtype, kept.
    down, right:  (B,) int64 in [-reach, reach].
    mirrored:     (B,) bool.
    """
    count, _, height, width = pictures.shape
    padded = F.pad(pictures, (reach,) * 4)
    rows = torch.arange(height, device=pictures.device) + (reach - down)[:, None]  # (B, H)
    columns = torch.arange(width, device=pictures.device) + (reach - right)[:, None]  # (B, W)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    example = torch.arange(count, device=pictures.device)[:, None, None]
    moved = padded[example, :, rows[:, :, None], columns[:, None, :]]  # (B, H, W, C)
    return moved.permute(0, 3, 1, 2)


def turn(pictures: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each picture about its centre, counter-clockwise, bilinear, black moving in.

    pictures:  (B, C, H, W).
    degrees:   (B,).
    Returns:   (B, C, H, W) float32.
    """
    height, width = pictures.shape[2:]
    angle = torch.deg2rad(degrees).float()
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # From a place in the result to one in the picture, both in units of half a side.
    top = torch.stack([cos, -sin * height / width, zero], 1)
    bottom = torch.stack([sin * width / height, cos, zero], 1)
    grid = F.affine_grid(torch.stack([top, bottom], 1), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures.float(), grid, align_corners=False)


def recolour(pictures: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, then contrast, then saturation of each picture.

    pictures:  (B, C, H, W) in [0, 255].
    factors:   (B, 3), 1 leaves as it is: brightness multiplies; contrast scales the distance from the picture's mean
               grey, saturation that from each pixel's grey (pictures of three channels only).
    Returns:   (B, C, H, W) float32 in [0, 255].
    """
    brightness, contrast, saturation = factors.float()[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1) each
    x = (pictures.float() * brightness).clamp(0, 255)
    mean = _grey(x).mean((1, 2, 3), keepdim=True)
    x = (mean + (x - mean) * contrast).clamp(0, 255)
    if x.shape[1] == 3:
        grey = _grey(x)
        x = (grey + (x - grey) * saturation).clamp(0, 255)
    return x


def _grey(pictures: Tensor) -> Tensor:
    """Brightness as seen (ITU-R BT.601) of colour pictures, the mean of the channels of others: (B, 1, H, W)."""
    if pictures.shape[1] != 3:
        return pictures.mean(1, keepdim=True)
    weights = pictures.new_tensor([0.299, 0.587, 0.114])
    return (pictures * weights[:, None, None]).sum(1, keepdim=True)


def _mean_colour(pictures: Tensor) -> Tensor:
    """The mean of each channel over the batch, which a standardising network sees as zero: (1, C, 1, 1)."""
    mean = pictures.float().mean((0, 2, 3), keepdim=True)
    return mean if pictures.is_floating_point() else mean.round().to(pictures.dtype)


def _boxes(draws: np.random.Generator, sides: Draws, height: int, width: int, device: torch.device) -> Tensor:
    """Masks (B, 1, H, W) of rectangles around a random pixel, cut off at the border; sides (2, B) in pixels."""
    count = sides.shape[1]

    def inside(side: Draws, length: int) -> Tensor:
        low = np.rint(draws.uniform(0, length, count) - side / 2)
        high = low + np.rint(side)
        places = np.arange(length)
        return torch.from_numpy((places >= low[:, None]) & (places < high[:, None])).to(device)

    down, across = inside(sides[0], height), inside(sides[1], width)
    return (down[:, :, None] & across[:, None, :])[:, None]


def _weighted(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """`share` (B,) of the first, the rest of the second."""
    share = share.reshape(-1, *(1,) * (first.ndim - 1))
    return share * first + (1 - share) * second
