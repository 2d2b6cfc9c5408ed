"""What keeps a network from fitting its training rows too well, as far as it is part of the loss or of the inputs.

The rest is elsewhere: decoupled weight decay in `optimizers.py`, averages of weights in `averaging.py`, dropout,
stochastic depth and normalization in the networks, mixup and cutmix among the augmentations, label smoothing in the
loss of a classification, and early stopping in the trainer.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def penalty(weights: Iterable[Tensor], l1: float, l2: float) -> Tensor:
    """What large weights add to a loss: l1 * sum |w| + l2 / 2 * sum w².

    Added to a loss that is a mean over rows. The gradient of the second part is l2 * w, so that with plain gradient
    descent it is the same as a weight decay of l2.

    weights:  those that are to be small: the ones that an optimizer decays, and no norms, biases or embeddings.
    Returns:  a scalar; 0 if there are no weights.

    >>> penalty([torch.tensor([3.0, -4.0])], l1=0.1, l2=0.2)
    tensor(3.2000)
    """
    weights = list(weights)
    parts: list[Tensor] = [l1 * weight.abs().sum() for weight in weights] if l1 else []
    parts += [l2 / 2 * weight.square().sum() for weight in weights] if l2 else []
    return torch.stack(parts).sum() if parts else torch.zeros(())


def add_noise(values: Tensor, deviation: float) -> Tensor:
    """The values, each with normal noise of its own added, drawn from torch's default generator.

    For inputs that were brought to a deviation of 1. Training with it is close to punishing the squared slope of the
    network by its inputs (Bishop 1995, "Training with noise is equivalent to Tikhonov regularization").

    values:     float, of any shape.
    deviation:  of the noise, 0 or more.
    """
    return values + deviation * torch.randn_like(values)
