"""What RandAugment and TrivialAugment do to pictures: whole batches at once, each picture with an operation of its own.

Sources: Cubuk et al. 2020, arXiv:1909.13719, section 3 (the fourteen operations); Müller and Hutter 2021,
arXiv:2103.10158, table 1 (how far they reach). Values are those of Pillow, to a rounding; turning and shearing go about
the middle of the picture, and are bilinear.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.data.geometry import about, identity, shifted, turned, warp

OPERATIONS = (
    "identity",
    "shear_across",
    "shear_down",
    "move_across",
    "move_down",
    "turn",
    "brightness",
    "contrast",
    "colour",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
MOVING = frozenset(range(1, 6))
"""Places of those that move pixels, in `OPERATIONS`."""
RECOLOURING = range(6, 9)
"""Places of those that `recolour` does, in its order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reach:
    """How far each operation goes at full strength."""

    shear: float
    """Pixels across for each pixel down."""
    move: float
    """As a fraction of the side."""
    turn: float
    """Degrees."""
    factor: float
    """Brightness, contrast, colour and sharpness are multiplied by 1 - factor to 1 + factor."""
    bits: int
    """Of the 8 of a value, how many are lost."""


USUAL = Reach(shear=0.3, move=0.45, turn=30.0, factor=0.9, bits=4)
WIDE = Reach(shear=0.99, move=1.0, turn=135.0, factor=0.99, bits=6)
MOST_MOVED = 32
"""Pixels."""


def operate(pictures: Tensor, operation: Tensor, strength: Tensor, reach: Reach = USUAL) -> Tensor:
    """One operation for each picture.

    pictures:  (B, C, H, W) uint8.
    operation: (B,) int64, places in `OPERATIONS`.
    strength:  (B,) in [-1, 1]; the sign is that of the change, and without effect where there is but one direction.
    Returns:   (B, C, H, W) uint8.

    >>> turned = operate(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.tensor([5]), torch.tensor([0.5]))
    >>> turned.shape, turned.dtype
    (torch.Size([1, 3, 8, 8]), torch.uint8)
    """
    after = pictures.clone()
    operation, strength = operation.to(pictures.device), strength.to(pictures.device)
    factor, size = 1.0 + strength * reach.factor, strength.abs()

    def change(places: Tensor, how: Tensor) -> None:
        after[places] = how

    moved = torch.isin(operation, torch.tensor(sorted(MOVING), device=pictures.device)).nonzero()[:, 0]
    if len(moved):
        maps = _maps(operation[moved], strength[moved], (pictures.shape[2], pictures.shape[3]), reach)
        change(moved, warp(pictures[moved], maps, (pictures.shape[2], pictures.shape[3])))
    recoloured = ((operation >= RECOLOURING[0]) & (operation <= RECOLOURING[-1])).nonzero()[:, 0]
    if len(recoloured):
        factors = torch.ones(len(recoloured), 3, device=pictures.device, dtype=factor.dtype)
        factors.scatter_(1, (operation[recoloured] - RECOLOURING[0])[:, None], factor[recoloured][:, None])
        change(recoloured, recolour(pictures[recoloured], factors))
    for name in ("sharpness", "posterize", "solarize", "autocontrast", "equalize"):
        places = (operation == OPERATIONS.index(name)).nonzero()[:, 0]
        if not len(places):
            continue
        chosen = pictures[places]
        if name == "sharpness":
            change(places, sharpen(chosen, factor[places]))
        elif name == "posterize":
            change(places, posterize(chosen, 8 - (size[places] * reach.bits).round().long()))
        elif name == "solarize":
            change(places, solarize(chosen, ((1.0 - size[places]) * 256).round().long()))
        else:
            change(places, autocontrast(chosen) if name == "autocontrast" else equalize(chosen))
    return after


def _maps(operation: Tensor, strength: Tensor, size: tuple[int, int], reach: Reach) -> Tensor:
    """(B, 2, 3): the map of each operation that moves pixels."""
    height, width = size
    amount, nothing = strength.double().cpu(), torch.zeros(len(strength), dtype=torch.float64)

    def where(name: str) -> Tensor:
        return torch.where(operation.cpu() == OPERATIONS.index(name), amount, nothing)

    sheared = identity(len(operation))
    sheared[:, 0, 1], sheared[:, 1, 0] = where("shear_across") * reach.shear, where("shear_down") * reach.shear
    across, down = (min(reach.move * side, MOST_MOVED) for side in (width, height))
    moved = shifted((where("move_across") * across).round(), (where("move_down") * down).round())
    turns = turned(where("turn") * reach.turn)
    # Of each picture two of the three change nothing.
    both = torch.where((where("turn") != 0)[:, None, None], turns, sheared)
    both = about((width / 2, height / 2), both)
    both[:, :, 2] += moved[:, :, 2]
    return both


def recolour(pictures: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, then contrast, then saturation of each picture.

    pictures:  (B, C, H, W) uint8.
    factors:   (B, 3), 1 leaves as it is: brightness multiplies; contrast scales the distance from the picture's mean
               grey, saturation that from each pixel's grey (pictures of three channels only).
    Returns:   (B, C, H, W) uint8.
    """
    brightness, contrast, saturation = factors.float()[:, :, None, None, None].unbind(1)  # (B, 1, 1, 1) each
    x = (pictures.float() * brightness).clamp(0, 255)
    mean = _grey(x).mean((1, 2, 3), keepdim=True)
    x = (mean + (x - mean) * contrast).clamp(0, 255)
    if x.shape[1] == 3:
        grey = _grey(x)
        x = (grey + (x - grey) * saturation).clamp(0, 255)
    return x.round().to(torch.uint8)


def _grey(pictures: Tensor) -> Tensor:
    """Brightness as seen (ITU-R BT.601) of colour pictures, the mean of the channels of others: (B, 1, H, W)."""
    if pictures.shape[1] != 3:
        return pictures.mean(1, keepdim=True)
    weights = pictures.new_tensor([0.299, 0.587, 0.114])
    return (pictures * weights[:, None, None]).sum(1, keepdim=True)


def sharpen(pictures: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance of each pixel from a smoothed picture: (B, C, H, W) uint8, (B,). The border stays."""
    x = pictures.float()
    if min(x.shape[2:]) < 3:
        return pictures
    kernel = x.new_ones(3, 3)
    kernel[1, 1] = 5.0
    smooth, channels = x.clone(), x.shape[1]
    weights = (kernel / 13).expand(channels, 1, 3, 3)
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(x, weights, groups=channels).round()
    factor = factor.float()[:, None, None, None]
    return (smooth + (x - smooth) * factor).clamp(0, 255).round().to(torch.uint8)


def posterize(pictures: Tensor, bits: Tensor) -> Tensor:
    """Keep so many of the highest bits of each value: (B, C, H, W) uint8, (B,) int64 in [0, 8]."""
    mask = (256 - 2 ** (8 - bits)).clamp(max=255).to(torch.uint8)
    return pictures & mask[:, None, None, None]


def solarize(pictures: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values from a threshold on: (B, C, H, W) uint8, (B,) int64 in [0, 256]."""
    return torch.where(pictures >= threshold[:, None, None, None], 255 - pictures, pictures)


def autocontrast(pictures: Tensor) -> Tensor:
    """Stretch each channel from 0 to 255; one of a single value stays: (B, C, H, W) uint8."""
    x = pictures.double()  # the arithmetic of Pillow, which cuts fractions off
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    scale = torch.full_like(low, 255.0) / (high - low).clamp(min=1)  # a number over a tensor is rounded twice
    return torch.where(high > low, (x * scale - low * scale).clamp(0, 255), x).to(torch.uint8)


def equalize(pictures: Tensor) -> Tensor:
    """Spread the values of each channel so that all are about as frequent: (B, C, H, W) uint8."""
    flat = pictures.flatten(2).long()
    counts = flat.new_zeros(*flat.shape[:2], 256).scatter_add_(2, flat, torch.ones_like(flat))
    # The highest value that occurs is not counted, so that it ends at 255.
    last = counts.gather(2, flat.amax(2, keepdim=True))
    step = (counts.sum(2, keepdim=True) - last) // 255
    before = counts.cumsum(2) - counts
    table = ((step // 2 + before) // step.clamp(min=1)).clamp(max=255)
    table = torch.where(step > 0, table, torch.arange(256, device=flat.device))
    return table.gather(2, flat).to(torch.uint8).reshape(pictures.shape)
