"""What made a row strange to a network that answers with nothing but a distance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def by_column(network: nn.Module, numbers: Tensor, categories: Tensor, widths: Sequence[int]) -> Tensor:
    """(B, columns) by how much the distance of a row shrinks if a column were as usual; negative where it grows.

    A number as usual is 0, the mean of the training rows, and a category the code 0, which says nothing. Zeiler and
    Fergus 2014, arXiv:1311.2901, section 4.2, do so with the pixels of pictures.

    numbers:    (B, features) float32.
    categories: (B, columns) codes.
    widths:     features of each column of numbers, in their order.
    """
    distance = network(numbers, categories).mean(1)
    shrinks = []
    for at, width in zip(_starts(widths), widths, strict=True):
        usual = numbers.clone()
        usual[:, at : at + width] = 0
        shrinks.append(distance - network(usual, categories).mean(1))
    for column in range(categories.shape[1]):
        unknown = categories.clone()
        unknown[:, column] = 0
        shrinks.append(distance - network(numbers, unknown).mean(1))
    return torch.stack(shrinks, 1)


def by_pixel(network: nn.Module, pictures: Tensor) -> Tensor:
    """(B, H, W) how much the distance of a picture hangs on each pixel: the gradient, whatever its sign.

    Simonyan et al. 2014, arXiv:1312.6034, section 3: of several channels it is the largest.

    pictures: (B, C, H, W) uint8, or float in [0, 1].
    """
    leaf = pictures if pictures.is_floating_point() else pictures.float() / 255
    leaf = leaf.detach().clone().requires_grad_()
    with torch.enable_grad():
        distance = network(leaf).mean(1).sum()
    (gradient,) = torch.autograd.grad(distance, leaf)
    return gradient.abs().amax(1)


def _starts(widths: Sequence[int]) -> list[int]:
    return [sum(widths[:at]) for at in range(len(widths))]
