"""Maps of probabilities of pictures of any size, in tiles that overlap where they are large."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ONE, SIDEWAYS = ((0, False),), ((0, False), (0, True))
ALL = tuple((quarters, mirrored) for quarters in range(4) for mirrored in (False, True))


def probabilities(
    network: nn.Module, picture: Tensor, *, tile: int, overlap: float, views: Sequence[tuple[int, bool]] = ONE
) -> Tensor:
    """(1, classes, H, W) float32 of one picture (1, C, H, W), on its device.

    tile:      side in pixels; a picture with a longer one is cut into such tiles, all of one size. 0 cuts none.
    overlap:   the least share of a tile that the next one covers, too, in [0, 1). Where tiles overlap, the mean counts,
               by how far a pixel is from the border of each.
    views:     in which ways the picture is read, of which the mean counts: by how many quarters it is turned
               counter-clockwise, and whether it is mirrored left to right then.
    """
    height, width = picture.shape[2:]
    if not tile or max(height, width) <= tile:
        return _of(network, picture, views)
    high, wide = min(tile, height), min(tile, width)
    window = _window(high)[:, None] * _window(wide)[None, :]
    window = window.to(picture.device)
    total, weight = None, torch.zeros(height, width, device=picture.device)
    for top in _starts(height, high, overlap):
        for left in _starts(width, wide, overlap):
            place = (..., slice(top, top + high), slice(left, left + wide))
            said = _of(network, picture[place], views)
            total = said.new_zeros(1, said.shape[1], height, width) if total is None else total
            total[place] += said * window
            weight[place] += window
    assert total is not None
    return total / weight


def _of(network: nn.Module, picture: Tensor, views: Sequence[tuple[int, bool]]) -> Tensor:
    total = torch.zeros(())
    for quarters, mirrored in views:
        seen = torch.rot90(picture, quarters, (2, 3))
        said = network(seen.flip(3) if mirrored else seen).float().softmax(1)
        total = total + torch.rot90(said.flip(3) if mirrored else said, -quarters, (2, 3))
    return total / len(views)


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
