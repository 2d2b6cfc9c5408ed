"""One picture painted in the style of another, by the gradient of its pixels: no network is trained.

Source: Gatys et al. 2016, "Image style transfer using convolutional neural networks".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from sounding.errors import DataError, RecipeError
from sounding.kinds.image import read_picture
from sounding.recipe import StyleRecipe
from sounding.tasks.perception import Distances, Perception, weighed


@dataclass(frozen=True)
class Painted:
    """A painting, and how it came to be."""

    content: np.ndarray
    """(3, H, W) uint8: the picture as it was, at the size that is painted."""
    style: np.ndarray
    """(3, h, w) uint8: the picture whose style was wanted."""
    picture: np.ndarray
    """(3, H, W) uint8."""
    losses: list[dict[str, float]]
    """`step`, `content`, `style` and `loss` at some steps, the first one of the picture as it was."""
    told: str
    """Whose eyes compared them."""


def read_colours(path: str | Path, side: int = 0) -> Tensor:
    """A picture file as (1, 3, H, W) float in [0, 1], of `side` pixels at most; 0 keeps its size.

    Raises:
        DataError: naming the file and what is wrong with it.
    """
    picture = read_picture(Path(path))
    longer = max(picture.size)
    if side and longer > side:
        size = [max(1, round(length * side / longer)) for length in picture.size]
        picture = picture.resize((size[0], size[1]), Pillow.Resampling.LANCZOS)
    if min(picture.size) < 16:
        raise DataError("has less than 16 pixels on a side", "give a larger picture", file=path)
    pixels = np.array(picture.convert("RGB")).transpose(2, 0, 1)
    return torch.from_numpy(pixels)[None].float() / 255


def optimized(content: Tensor, style: Tensor, perception: Perception, settings: StyleRecipe) -> Painted:
    """Change the pixels of a picture until its style is that of another, as far as its content allows.

    content, style: (1, 3, H, W) float in [0, 1], of any sizes.

    It starts from the picture itself, and takes `settings.steps` steps of Adam.

    Raises:
        RecipeError: for settings that lead nowhere.
    """
    if settings.steps < 1 or settings.style_weight <= 0.0:
        raise RecipeError("style.steps and style.style_weight must be positive", "leave them as they are")
    wanted = perception.style_of(style)
    picture = content.clone().requires_grad_()
    optimizer = torch.optim.Adam([picture], lr=settings.rate)
    every, losses = max(1, settings.steps // 40), list[dict[str, float]]()
    for step in range(settings.steps + 1):
        distances = perception.distances(picture, content, wanted)
        loss = weighed(distances, settings).sum()
        if step % every == 0 or step == settings.steps:
            losses.append(_told(step, distances, loss))
        if step == settings.steps:
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            picture.clamp_(0.0, 1.0)
    pixels = [_pixels(one) for one in (content, style, picture)]
    return Painted(pixels[0], pixels[1], pixels[2], losses, perception.told)


def _told(step: int, distances: Distances, loss: Tensor) -> dict[str, float]:
    values = {"content": distances.content, "style": distances.style, "loss": loss}
    return {"step": step, **{name: float(value.detach().sum()) for name, value in values.items()}}


def _pixels(picture: Tensor) -> np.ndarray:
    return (picture[0].detach() * 255).round().clamp(0, 255).to(torch.uint8).numpy()


def refuse_ending(path: str | Path) -> None:
    """Refuse to write what is no picture, by the ending of the name.

    Raises:
        RecipeError: for an ending that is not known.
    """
    if Path(path).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"):
        raise RecipeError(f'the ending of "{path}" is not known', "write to a .png or a .jpg")


def write_picture(pixels: np.ndarray, path: str | Path) -> None:
    """Write (3, H, W) uint8 as a picture, by the ending of the name.

    Raises:
        RecipeError: for an ending that is not known.
    """
    refuse_ending(path)
    Pillow.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(path)
