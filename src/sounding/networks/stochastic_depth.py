"""Residual blocks that are left out at random while training.

Source: Huang et al. 2016, arXiv:1603.09382.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Blanks what a residual block adds, for each example by itself, with a probability while training.

    What is kept is divided by the probability of keeping it, so that evaluation needs no correction (the paper scales
    in evaluation instead, and leaves a block out for a whole batch).

    Args:
        probability: in [0, 1); with 0 nothing is drawn.

    >>> StochasticDepth(0.5).eval()(torch.ones(2, 2))
    tensor([[1., 1.],
            [1., 1.]])
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        if not 0.0 <= probability < 1.0:
            raise ValueError(f"stochastic_depth is {probability}; give a probability in [0, 1)")
        self.probability = probability

    def forward(self, change: Tensor) -> Tensor:
        """(B, ...) to the same shape."""
        if not self.training or self.probability == 0.0:
            return change
        kept = 1.0 - self.probability
        draws = torch.rand((change.shape[0], *(1,) * (change.ndim - 1)), dtype=change.dtype, device=change.device)
        return change * ((draws < kept) / kept)

    def extra_repr(self) -> str:
        """What is shown of it."""
        return f"probability={self.probability}"


def linear_decay(probability: float, depth: int) -> list[float]:
    """For each of `depth` blocks, the probability of leaving it out: it grows evenly, up to that of the last (eq. 4).

    >>> linear_decay(0.4, 4)
    [0.1, 0.2, 0.30000000000000004, 0.4]
    """
    return [probability * (block + 1) / depth for block in range(depth)]
