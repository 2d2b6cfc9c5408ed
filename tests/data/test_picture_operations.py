"""Against Pillow, picture by picture."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from PIL import ImageEnhance, ImageOps

from sounding.data.picture_operations import OPERATIONS, USUAL, WIDE, autocontrast, equalize, operate

GENERATOR = torch.Generator().manual_seed(0)
NOISE = torch.randint(0, 256, (6, 3, 20, 24), dtype=torch.uint8, generator=GENERATOR)
SMOOTH = torch.nn.functional.interpolate(NOISE[:, :, :4, :5].float(), (20, 24), mode="bilinear").mul(0.6).add(20).byte()
PICTURES = torch.cat([NOISE, SMOOTH, torch.full((1, 3, 20, 24), 77, dtype=torch.uint8)])


def of_pillow(picture: torch.Tensor, do: Callable[[Pillow.Image], Pillow.Image]) -> np.ndarray:
    array = picture.permute(1, 2, 0).numpy() if len(picture) == 3 else picture[0].numpy()
    done = np.asarray(do(Pillow.fromarray(array)))
    return done.transpose(2, 0, 1) if done.ndim == 3 else done[None]


def operated(name: str, strength: float, wide: bool = False, pictures: torch.Tensor = PICTURES) -> np.ndarray:
    which = torch.full((len(pictures),), OPERATIONS.index(name))
    return operate(pictures, which, torch.full((len(pictures),), strength), WIDE if wide else USUAL).numpy()


COLOURING: dict[str, Callable[[Pillow.Image, float, bool], Pillow.Image]] = {
    "brightness": lambda p, s, wide: ImageEnhance.Brightness(p).enhance(1 + s * (0.99 if wide else 0.9)),
    "contrast": lambda p, s, wide: ImageEnhance.Contrast(p).enhance(1 + s * (0.99 if wide else 0.9)),
    "colour": lambda p, s, wide: ImageEnhance.Color(p).enhance(1 + s * (0.99 if wide else 0.9)),
    "sharpness": lambda p, s, wide: ImageEnhance.Sharpness(p).enhance(1 + s * (0.99 if wide else 0.9)),
    "posterize": lambda p, s, wide: ImageOps.posterize(p, 8 - round(abs(s) * (6 if wide else 4))),
    "solarize": lambda p, s, wide: ImageOps.solarize(p, round((1 - abs(s)) * 256)),
    "autocontrast": lambda p, s, wide: ImageOps.autocontrast(p),
    "equalize": lambda p, s, wide: ImageOps.equalize(p),
    "identity": lambda p, s, wide: p,
}
ROUNDED = {"brightness": 1, "contrast": 3, "colour": 2, "sharpness": 2}
"""Pillow cuts off where we round, and its mean grey is a whole number, whose distance is up to doubled."""


@pytest.mark.parametrize("name", list(COLOURING))
@pytest.mark.parametrize("strength", [-1.0, -0.3, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_those_of_pillow(name: str, strength: float, channels: int) -> None:
    pictures = PICTURES[:, :channels]
    for wide in (False, True):
        ours = operated(name, strength, wide, pictures)
        for picture, result in zip(pictures, ours, strict=True):
            theirs = of_pillow(picture, lambda p, wide=wide: COLOURING[name](p, strength, wide))
            apart = np.abs(theirs.astype(int) - result.astype(int)).max()
            assert apart <= ROUNDED.get(name, 0), apart


MOVES = {
    "turn": lambda s, reach: (reach.turn * s, (0, 0), 0, 0),
    "move_across": lambda s, reach: (0, (round(min(reach.move * 24, 32) * s), 0), 0, 0),
    "move_down": lambda s, reach: (0, (0, round(min(reach.move * 20, 32) * s)), 0, 0),
    "shear_across": lambda s, reach: (0, (0, 0), reach.shear * s, 0),
    "shear_down": lambda s, reach: (0, (0, 0), 0, reach.shear * s),
}


@pytest.mark.parametrize("name", list(MOVES))
@pytest.mark.parametrize("strength", [-0.7, 0.5])
def test_moves_are_those_of_pillow(name: str, strength: float) -> None:
    for wide in (False, True):
        degrees, (right, down), across, upright = MOVES[name](strength, WIDE if wide else USUAL)
        angle = np.deg2rad(degrees)
        to = np.array([[np.cos(angle), np.sin(angle) + across], [-np.sin(angle) + upright, np.cos(angle)]])
        back, middle = np.linalg.inv(to), np.array([12.0, 10.0])
        offset = middle - back @ (middle + np.array([right, down]))
        coefficients = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
        for picture, result in zip(SMOOTH, operated(name, strength, wide, SMOOTH), strict=True):
            theirs = of_pillow(
                picture,
                lambda p, c=coefficients: p.transform(p.size, Pillow.Transform.AFFINE, c, Pillow.Resampling.BILINEAR),
            )
            inside = (theirs > 0) & (result > 0)  # at the border black is blended in here, and not there
            assert inside.mean() > 0.15
            assert np.quantile(np.abs(theirs.astype(int) - result.astype(int))[inside], 0.75) <= 1
            assert (inside == (result > 0)).mean() > 0.85


def test_each_picture_has_its_own_operation_and_the_others_do_not_matter() -> None:
    which = torch.arange(13) % len(OPERATIONS)
    strength = torch.linspace(-1, 1, 13)
    together = operate(PICTURES, which, strength)
    for i in range(13):
        alone = operate(PICTURES[i : i + 1], which[i : i + 1], strength[i : i + 1])
        assert torch.equal(together[i], alone[0]), OPERATIONS[which[i]]
    assert torch.equal(together[0], PICTURES[0])


def test_many_channels_and_tiny_pictures() -> None:
    tiny = NOISE[:2, :, :2, :2].repeat(1, 4, 1, 1)
    for name in OPERATIONS:
        assert operated(name, 0.5, pictures=tiny).shape == (2, 12, 2, 2)


def test_a_picture_of_one_value_stays() -> None:
    flat = PICTURES[-1:]
    assert torch.equal(autocontrast(flat), flat)
    assert torch.equal(equalize(flat), flat)
