"""Normalizations by name, each for rows, sequences or pictures.

All bring numbers to mean 0 and variance 1 and then scale and shift them by weights of their own; they differ in which
numbers are taken together:

    batch     each channel, over all examples and places; in evaluation, by running statistics
    layer     each example, over all channels and places
    group     each example, over each group of neighbouring channels and all places
    instance  each example and channel, over all places
    rms       as layer, but the mean is not subtracted: only the root of the mean square becomes 1
    none      nothing is changed

Sources: Ioffe and Szegedy 2015, arXiv:1502.03167; Ba et al. 2016, arXiv:1607.06450; Wu and He 2018, arXiv:1803.08494;
Ulyanov et al. 2016, arXiv:1607.08022; Zhang and Sennrich 2019, arXiv:1910.07467.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

import torch
from torch import Tensor, nn

from sounding.networks._choice import choose

GROUPS = 32
"""Groups of channels as in Wu and He 2018; fewer where the channels do not divide into so many."""


def build_normalization(name: str, features: int, dimensions: int) -> nn.Module:
    """A new module that normalizes values of shape (B, features) with as many further dimensions of places.

    name:        a name from `NORMALIZATIONS`.
    features:    channels, or numbers in a row.
    dimensions:  0 for rows, 1 for sequences (B, features, L), 2 for pictures (B, features, H, W).

    Raises:
        ValueError: for an unknown name, naming the nearest known one; for `instance` where there are no places.

    >>> build_normalization("group", 48, 2).num_groups
    16
    """
    return choose("normalization", name, NORMALIZATIONS)(features, dimensions)


class RMSNorm(nn.Module):
    """Divides each example by the root of the mean square of all its channels and places; `nn.RMSNorm` for rows.

    >>> RMSNorm(2)(torch.tensor([[[3.0, 3.0], [-3.0, 3.0]]]))
    tensor([[[ 1.0000,  1.0000],
             [-1.0000,  1.0000]]], grad_fn=<MulBackward0>)
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.eps = eps

    def forward(self, values: Tensor) -> Tensor:
        """(B, features, ...) to the same shape."""
        places = (1,) * (values.ndim - 2)
        square = values.square().mean(tuple(range(1, values.ndim)), keepdim=True)
        return values * torch.rsqrt(square + self.eps) * self.weight.view(-1, *places)


def _batch(features: int, dimensions: int) -> nn.Module:
    return (nn.BatchNorm1d, nn.BatchNorm1d, nn.BatchNorm2d)[dimensions](features)


def _layer(features: int, dimensions: int) -> nn.Module:
    return nn.GroupNorm(1, features) if dimensions else nn.LayerNorm(features)


def _group(features: int, dimensions: int) -> nn.Module:
    return nn.GroupNorm(gcd(GROUPS, features), features)


def _instance(features: int, dimensions: int) -> nn.Module:
    if dimensions == 0:
        raise ValueError('normalization "instance" needs more than one number in a channel; take "layer" for rows')
    return (nn.InstanceNorm1d, nn.InstanceNorm2d)[dimensions - 1](features, affine=True)


def _rms(features: int, dimensions: int) -> nn.Module:
    return RMSNorm(features) if dimensions else nn.RMSNorm(features, eps=1e-5)


NORMALIZATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda features, dimensions: nn.Identity(),
    "batch": _batch,
    "layer": _layer,
    "group": _group,
    "instance": _instance,
    "rms": _rms,
}

CENTRED = ("batch", "instance")
"""Normalizations that subtract the mean of a channel, and with it a bias of the layer before."""
