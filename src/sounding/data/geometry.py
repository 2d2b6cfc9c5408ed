"""What is done to a picture is done to its mask and its boxes: affine maps of whole batches, and elastic ones.

A map is (2, 3): `[x', y'] = M @ [x, y, 1]`, from pixels of the picture to pixels of the result, x to the right and y
down. The corner of a picture is (0, 0) and the middle of its first pixel (0.5, 0.5), so that boxes need no halves.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def identity(count: int) -> Tensor:
    """(count, 2, 3) float64 maps that change nothing."""
    return torch.eye(2, 3, dtype=torch.float64).repeat(count, 1, 1)


def then(first: Tensor, second: Tensor) -> Tensor:
    """One map, of two that follow each other: (B, 2, 3) each.

    >>> there = scaled(torch.tensor([2.0]), torch.tensor([2.0]))
    >>> back = scaled(torch.tensor([0.5]), torch.tensor([0.5]))
    >>> torch.equal(then(there, back), identity(1))
    True
    """
    return torch.cat([second[:, :, :2] @ first[:, :, :2], second[:, :, :2] @ first[:, :, 2:] + second[:, :, 2:]], 2)


def shifted(right: Tensor, down: Tensor) -> Tensor:
    """Maps that move by so many pixels: (B,) each."""
    maps = identity(len(right))
    maps[:, 0, 2], maps[:, 1, 2] = right, down
    return maps


def scaled(across: Tensor, down: Tensor) -> Tensor:
    """Maps that stretch from the corner (0, 0) by these factors: (B,) each; negative ones mirror."""
    maps = identity(len(across))
    maps[:, 0, 0], maps[:, 1, 1] = across, down
    return maps


def turned(degrees: Tensor) -> Tensor:
    """Maps that turn about the corner (0, 0), counter-clockwise as seen: (B,)."""
    maps, angle = identity(len(degrees)), torch.deg2rad(degrees.double())
    maps[:, 0, 0], maps[:, 0, 1] = angle.cos(), angle.sin()
    maps[:, 1, 0], maps[:, 1, 1] = -angle.sin(), angle.cos()
    return maps


def about(centre: tuple[float, float], maps: Tensor) -> Tensor:
    """The same maps about a point (x, y) in place of the corner: scaling and turning leave it where it is."""
    x, y = (torch.full((len(maps),), value, dtype=torch.float64) for value in centre)
    return then(then(shifted(-x, -y), maps), shifted(x, y))


def smooth(vectors: Tensor, size: tuple[int, int]) -> Tensor:
    """Displacements of all pixels from those on a coarse grid, by bicubic interpolation: smooth, and nowhere torn.

    vectors:  (B, 2, h, w) to the right and down, in pixels; the outermost lie on the corners of the result.
    size:     height and width of the result.

    Returns: (B, 2, *size) float32.

    Source: Ronneberger et al. 2015, arXiv:1505.04597, section 3.1 (3 x 3 vectors, of 10 pixels
    standard deviation).

    >>> float(smooth(torch.full((1, 2, 3, 3), 7.0), (20, 30)).sub(7).abs().max()) < 1e-4
    True
    """
    return F.interpolate(vectors.float(), size, mode="bicubic", align_corners=True)


def warp(
    pictures: Tensor,
    maps: Tensor,
    size: tuple[int, int],
    *,
    nearest: bool = False,
    fill: int = 0,
    moved: Tensor | None = None,
) -> Tensor:
    """Pictures under their maps.

    pictures: (B, C, H, W), any dtype, which is kept: bilinear values of whole numbers are rounded.
    maps:     (B, 2, 3), each with an inverse.
    size:     height and width of the result.
    nearest:  whether a pixel is the nearest one, not a mean of four: for masks, whose values are names.
    fill:     what stands where the picture does not reach; for means of four, it blends in at the border.
    moved:    (B, 2, *size) how far to the right and down each pixel of the result looks for itself: see `smooth`.

    Returns: (B, C, *size).
    """
    height, width = pictures.shape[2:]
    back = torch.linalg.inv(torch.cat([maps.double(), maps.new_tensor([[[0.0, 0.0, 1.0]]]).repeat(len(maps), 1, 1)], 1))
    # grid_sample counts from -1 to 1 over a picture, from border to border.
    result = _frame(size[1], size[0])
    source = torch.linalg.inv(_frame(width, height))
    theta = (source @ back @ result)[:, :2].float().to(pictures.device)
    grid = F.affine_grid(theta, [len(pictures), 1, *size], align_corners=False)
    if moved is not None:
        steps = moved.to(grid).movedim(1, 3) / grid.new_tensor([size[1] / 2, size[0] / 2])  # (B, *size, 2)
        grid = grid + steps @ theta[:, None, :, :2].transpose(2, 3)
    mode = "nearest" if nearest else "bilinear"
    sampled = F.grid_sample(pictures.float() - fill, grid, mode=mode, padding_mode="zeros", align_corners=False) + fill
    return sampled if pictures.is_floating_point() else sampled.round().to(pictures.dtype)


def _frame(width: int, height: int) -> Tensor:
    """From (-1, 1) over a picture to its pixels: (3, 3)."""
    half = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    return torch.tensor([[half[0], 0, half[0]], [0, half[1], half[1]], [0, 0, 1]], dtype=torch.float64)


def warp_boxes(boxes: Tensor, maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes under the maps of their pictures: the smallest upright ones around what became of them, within the result.

    boxes: (B, N, 4) as left, top, right, bottom in pixels.
    maps:  (B, 2, 3).
    size:  height and width of the result; boxes outside it have no area.

    >>> mirrored = about((5.0, 5.0), scaled(torch.tensor([-1.0]), torch.tensor([1.0])))
    >>> warp_boxes(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), mirrored, (10, 10)).tolist()
    [[[7.0, 2.0, 9.0, 4.0]]]
    """
    left, top, right, bottom = boxes.unbind(2)
    corners = torch.stack([torch.stack([x, y], 2) for x in (left, right) for y in (top, bottom)], 2)  # (B, N, 4, 2)
    maps = maps.to(boxes)
    moved = corners @ maps[:, None, :, :2].transpose(2, 3) + maps[:, None, None, :, 2]
    limit = boxes.new_tensor([size[1], size[0]])
    low, high = (edge.clamp(min=0).minimum(limit) for edge in (moved.amin(2), moved.amax(2)))
    return torch.cat([low, high], 2)
