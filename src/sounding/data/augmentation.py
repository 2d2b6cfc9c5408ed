"""Pictures varied while training: whole batches at once, every draw a function of (seed, epoch, step, purpose)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.batches import Batch
from sounding.data.geometry import about, scaled, shifted, then, turned, warp
from sounding.data.picture_operations import OPERATIONS, USUAL, WIDE, operate, recolour
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
    operations: int = 0
    """So many of `picture_operations.OPERATIONS` are drawn for each picture, and done one after the other."""
    strength: tuple[float, float] = (0.0, 1.0)
    """Their strength is drawn between these two."""
    wide: bool = False
    """Whether they reach as far as in TrivialAugment; else as in RandAugment."""
    erase: float = 0.0
    """Probability that a rectangle of a picture is blanked."""

    def told(self) -> str:
        """What it does, in words."""
        fourteen = f"{self.operations} of {len(OPERATIONS)} operations{', wide' if self.wide else ''}"
        parts = {
            f"moved by up to {self.shift:.3g} of the side": self.shift,
            "mirrored": self.flip,
            f"turned by up to {self.turn:.3g} degrees": self.turn,
            f"recoloured by up to {self.colour:.3g}": self.colour,
            fourteen: self.operations,
            f"a rectangle blanked in {self.erase:.0%} of them": self.erase,
        }
        return ", ".join(name for name, done in parts.items() if done) or "as they are"


GREY = {
    "none": Policy(),
    "light": Policy(shift=0.04),
    "default": Policy(shift=0.08),  # 1 pixel of 8, 2 of 28
    "strong": Policy(shift=0.08, operations=1, erase=0.25),
    "randaugment": Policy(shift=0.08, operations=2, strength=(0.3, 0.3)),
    "trivialaugment": Policy(shift=0.08, operations=1, wide=True),
}
"""Of pictures that are not of three channels: often of writing, of clothes or of cells, whose left is no right."""
COLOURS = {
    "none": Policy(),
    "light": Policy(shift=0.04, flip=True),
    "default": Policy(shift=0.125, flip=True),  # 4 pixels of 32: He et al. 2016, arXiv:1512.03385, section 4.2
    "strong": Policy(shift=0.125, flip=True, operations=1, erase=0.25),
    "randaugment": Policy(shift=0.125, flip=True, operations=2, strength=(0.3, 0.3)),
    "trivialaugment": Policy(shift=0.125, flip=True, operations=1, wide=True),
}
"""Of pictures in colours: mostly photographs, in which left and right may change places."""
POLICIES = tuple(GREY)


def policy_for(name: str, channels: int) -> Policy:
    """What a name means for pictures of so many channels.

    Raises:
        RecipeError: for an unknown name.

    >>> policy_for("default", 3).flip, policy_for("default", 1).flip
    (True, False)
    """
    known: Mapping[str, Policy] = COLOURS if channels == 3 else GREY
    if name not in known:
        raise RecipeError(f'there is no augmentation "{name}"', nearest(name, known))
    return known[name]


class Augmentation:
    """Varies the pictures of a batch; a transform for `Batches`.

    policy:   a name from `POLICIES`, or a `Policy`.
    erase:    probability that a rectangle of a picture is blanked, in place of that of the policy; 0 leaves it.
    mixup:    alpha of the beta distribution by which pairs of examples are blended; 0 is off.
    cutmix:   alpha by which a patch of one picture is pasted into another; 0 is off. With both, each batch
              gets one of them.
    number_of_classes: turns classes into probabilities where examples are mixed; 0 for a target of numbers.

    Pictures are inputs of shape (B, C, H, W), uint8, and stay so; only mixup gives float32 in [0, 1], which networks
    take for the same picture. With mixup or cutmix the target becomes (B, number_of_classes) float32 probabilities.

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
            policy_for(policy, 1)
        if not 0.0 <= erase <= 1.0:
            raise RecipeError(f"erase is {erase}", "give a probability from 0 to 1")
        if mixup < 0.0 or cutmix < 0.0:
            raise RecipeError("mixup and cutmix cannot be negative", "give an alpha such as 0.2, or 0 for none")
        self.policy, self.erase, self.mixup, self.cutmix = policy, erase, mixup, cutmix
        self.seed, self.number_of_classes = seed, number_of_classes

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch, varied."""
        inputs = tuple(self._vary(x, epoch, step) if x.ndim == 4 else x for x in batch.inputs)
        batch = batch._replace(inputs=inputs)
        return self._mix(batch, epoch, step) if self.mixup > 0.0 or self.cutmix > 0.0 else batch

    def policy_of(self, channels: int) -> Policy:
        """What is done to pictures of so many channels."""
        return policy_for(self.policy, channels) if isinstance(self.policy, str) else self.policy

    def maps(self, policy: Policy, count: int, size: tuple[int, int], epoch: int, step: int) -> Tensor:
        """(count, 2, 3) how shift, flip and turn move the pixels of each picture: for masks and boxes, too."""
        height, width = size
        down, right, mirrored = (torch.from_numpy(drawn) for drawn in self._moves(policy, count, size, epoch, step))
        flips = scaled(torch.where(mirrored, -1.0, 1.0), torch.ones(count))
        maps = then(shifted(right, down), about((width / 2, height / 2), flips))
        if policy.turn > 0.0:
            degrees = torch.from_numpy(self._draws(epoch, step, "turn").uniform(-policy.turn, policy.turn, count))
            maps = then(maps, about((width / 2, height / 2), turned(degrees)))
        return maps

    def _moves(
        self, policy: Policy, count: int, size: tuple[int, int], epoch: int, step: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        draws = self._draws(epoch, step, "shift")
        down, right = (draws.integers(-r, r + 1, count) for r in _reaches(policy, size))
        return down, right, (self._draws(epoch, step, "flip").random(count) < 0.5) & policy.flip

    def _mix(self, batch: Batch, epoch: int, step: int) -> Batch:
        if any(x.ndim != 4 for x in batch.inputs):
            raise RecipeError("mixup and cutmix need pictures as the only input", "set both to 0")
        chance = self._draws(epoch, step, "which mix").random()
        pasting = self.mixup == 0.0 or (self.cutmix > 0.0 and chance < 0.5)
        return self._paste(batch, epoch, step) if pasting else self._blend(batch, epoch, step)

    def _draws(self, epoch: int, step: int, purpose: str) -> np.random.Generator:
        return generator(self.seed, epoch, step, purpose)

    def _vary(self, pictures: Tensor, epoch: int, step: int) -> Tensor:
        count, channels, *sides = pictures.shape
        size = (sides[0], sides[1])
        policy, device = self.policy_of(channels), pictures.device
        if policy.turn > 0.0:
            pictures = warp(pictures, self.maps(policy, count, size, epoch, step), size)
        elif policy.flip or policy.shift > 0.0:  # the same by whole pixels, in a third of the time
            moves = (torch.from_numpy(drawn).to(device) for drawn in self._moves(policy, count, size, epoch, step))
            pictures = move(pictures, *moves, reach=max(_reaches(policy, size)))
        for number in range(policy.operations):
            draws = self._draws(epoch, step, f"operation {number}")
            which = torch.from_numpy(draws.integers(0, len(OPERATIONS), count))
            strength = draws.uniform(*policy.strength, count) * draws.choice([-1.0, 1.0], count)
            pictures = operate(pictures, which, torch.from_numpy(strength), WIDE if policy.wide else USUAL)
        if policy.colour > 0.0:
            low, high = 1.0 - policy.colour, 1.0 + policy.colour
            factors = self._draws(epoch, step, "colour").uniform(low, high, (count, 3))
            pictures = recolour(pictures, torch.from_numpy(factors).to(device))
        erase = self.erase or policy.erase
        return self._erase(pictures, erase, epoch, step) if erase > 0.0 else pictures

    def _erase(self, pictures: Tensor, probability: float, epoch: int, step: int) -> Tensor:
        """Random erasing (Zhong et al. 2017, arXiv:1708.04896), to the mean colour of the batch.

        Sizes of its algorithm 1: 2 % to 33 % of the area, sides up to 1 : 3.3.
        """
        count, _, height, width = pictures.shape
        draws = self._draws(epoch, step, "erase")
        chosen = draws.random(count) < probability
        area, ratio = (
            draws.uniform(0.02, 1 / 3, count),
            np.exp(draws.uniform(-1, 1, count) * math.log(3.3)),
        )
        sides = np.sqrt(area * np.stack([ratio, 1 / ratio])) * [[height], [width]]
        inside = _boxes(draws, np.where(chosen, sides, 0.0), height, width, pictures.device)
        return torch.where(inside, _mean_colour(pictures), pictures)

    def _blend(self, batch: Batch, epoch: int, step: int) -> Batch:
        """Mixup (Zhang et al. 2018, arXiv:1710.09412): each example and another, in shares from a beta distribution."""
        draws = self._draws(epoch, step, "mixup")
        count, device = len(batch.rows), batch.inputs[0].device
        share = torch.from_numpy(draws.beta(self.mixup, self.mixup, count)).float().to(device)
        partner = torch.from_numpy(draws.permutation(count)).to(device)
        inputs = tuple(_weighted(x.float(), x[partner].float(), share) / 255 for x in batch.inputs)
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


def _reaches(policy: Policy, size: tuple[int, int]) -> tuple[int, int]:
    """Pixels by which a picture is moved at most, down and across."""
    down, across = (max(1, round(policy.shift * side)) if policy.shift else 0 for side in size)
    return down, across


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


def _mean_colour(pictures: Tensor) -> Tensor:
    """The mean of each channel over the batch, which a standardising network sees as zero: (1, C, 1, 1)."""
    return pictures.float().mean((0, 2, 3), keepdim=True).round().to(pictures.dtype)


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
