"""Inputs as the target of a network that gives them back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sounding.kinds import Block


def as_one(inputs: tuple[Tensor, ...]) -> Tensor:
    """Pictures or series as they are; of a table numbers and then codes, (N, features + columns) float32.

    Codes stay exact in float32 up to 2^24.

    >>> as_one((torch.tensor([[0.5]]), torch.tensor([[3]])))
    tensor([[0.5000, 3.0000]])
    """
    if len(inputs) == 1:
        return inputs[0]
    numbers, categories = inputs
    return torch.cat([numbers, categories.to(numbers.dtype)], 1)


def as_seen(target: Tensor, blocks: Sequence[Block]) -> tuple[Tensor, ...]:
    """The inverse, as the network sees its inputs: (numbers, codes), (series,), or pictures that are standardised.

    target:  of `as_one`; pictures may also be float in [0, 1].
    """
    block = blocks[0]
    if block.form == "series":
        return (target,)
    if block.form == "pictures":
        pixels = target if target.is_floating_point() else target / 255
        mean, std = (pixels.new_tensor(values).view(-1, 1, 1) / 255 for values in (block.mean, block.std))
        return ((pixels - mean) / std,)
    numbers = sum(len(one.features) for one in blocks)
    return target[:, :numbers], target[:, numbers:].long()
