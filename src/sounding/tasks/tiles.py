"""Maps of probabilities of pictures of any size, in tiles that overlap where they are large."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def probabilities(network: nn.Module, picture: Tensor, *, tile: int, overlap: float, mirrored: bool = False) -> Tensor:
    """(1, classes, H, W) float32 of one picture (1, C, H, W), on its device.

    tile:      side in pixels; a picture with a longer one is cut into such tiles, all of one size. 0 cuts none.
    overlap:   the least share of a tile that the next one covers, too, in [0, 1). Where tiles overlap, the mean counts,
               by how far a pixel is from the border of each.
    mirrored:  whether the picture is also read mirrored left to right, and the mean of both counts.
    """
    height, width = picture.shape[2:]
    if not tile or max(height, width) <= tile:
        return _of(network, picture, mirrored)
    high, wide = min(tile, height), min(tile, width)
    window = _window(high)[:, None] * _window(wide)[None, :]
    window = window.to(picture.device)
    total, weight = None, torch.zeros(height, width, device=picture.device)
    for top in _starts(height, high, overlap):
        for left in _starts(width, wide, overlap):
            place = (..., slice(top, top + high), slice(left, left + wide))
            said = _of(network, picture[place], mirrored)
            total = said.new_zeros(1, said.shape[1], height, width) if total is None else total
            total[place] += said * window
            weight[place] += window
    assert total is not None
    return total / weight


def _of(network: nn.Module, picture: Tensor, mirrored: bool) -> Tensor:
    said: Tensor = network(picture).float().softmax(1)
    return (said + network(picture.flip(3)).float().softmax(1).flip(3)) / 2 if mirrored else said


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin, evenly over a side.

    >>> _starts(100, 40, 0.25), _starts(40, 40, 0.25)
    ([0, 30, 60], [0])
    """
    step = max(int(tile * (1 - overlap)), 1)
    count = -(-(length - tile) // step) + 1
    return [round(at * (length - tile) / max(count - 1, 1)) for at in range(count)]


def _window(side: int) -> Tensor:
    """(side,) falling towards both ends, above 0."""
    places = torch.arange(side, dtype=torch.float32) + 0.5
    return torch.minimum(places, side - places) / side
