"""How boxes lie to each other: overlaps, and of boxes that overlap the best one.

Boxes are left, top, right, bottom in pixels, x to the right and y down.
"""

from __future__ import annotations

import torch
from torch import Tensor


def areas(boxes: Tensor) -> Tensor:
    """(..., 4) to (...): 0 for boxes that are inverted."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Of every pair the area that both have, as a share of the area that one of them has.

    first:   (..., N, 4)
    second:  (..., M, 4)
    Returns: (..., N, M) in [0, 1]; 0 where a box has no area.

    >>> overlaps(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]))
    tensor([[0.3333]])
    """
    first, second = first[..., :, None, :], second[..., None, :, :]
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    return both / (areas(first) + areas(second) - both).clamp(min=torch.finfo(both.dtype).tiny)


def generalised_overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Of pairs (..., 4) and (..., 4) the overlap, less the share of the box around both that neither has: in [-1, 1].

    Source: Rezatofighi et al. 2019, arXiv:1902.09630, algorithm 1.

    >>> apart = torch.tensor([0.0, 0.0, 1.0, 1.0]), torch.tensor([3.0, 0.0, 4.0, 1.0])
    >>> generalised_overlaps(*apart)
    tensor(-0.5000)
    """
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    both = (high - low).clamp(min=0).prod(-1)
    either = (areas(first) + areas(second) - both).clamp(min=1e-7)
    around = torch.cat(
        [torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])], -1
    )
    whole = areas(around).clamp(min=1e-7)
    return both / either - (whole - either) / whole


def suppressed(boxes: Tensor, scores: Tensor, classes: Tensor, limit: float) -> Tensor:
    """Non-maximum suppression: from the highest score down, a box stays unless it overlaps one of its class that stays.

    boxes:   (B, N, 4)
    scores:  (B, N); of equal ones the first goes before.
    classes: (B, N)
    limit:   overlaps above it suppress.
    Returns: (B, N) bool, which boxes stay.

    Each pass settles at least the next box of every chain of overlapping ones, so that the result is that of going
    through them one by one, in as many passes as the longest chain has boxes.

    >>> boxes = torch.tensor([[[0.0, 0.0, 4.0, 4.0], [1.0, 0.0, 5.0, 4.0], [2.0, 0.0, 6.0, 4.0]]])
    >>> suppressed(boxes, torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3), 0.5)  # the third overlaps the second only
    tensor([[ True, False,  True]])
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    boxes, classes = boxes.gather(1, order[..., None].expand_as(boxes)), classes.gather(1, order)
    strikes = (overlaps(boxes, boxes) > limit) & (classes[:, :, None] == classes[:, None, :])
    strikes = strikes.triu(1)  # (B, N, N): the first, if it stays, strikes the second
    stay = torch.ones_like(order, dtype=torch.bool)
    while True:
        now = ~(strikes & stay[:, :, None]).any(1)
        if torch.equal(now, stay):
            break
        stay = now
    return torch.zeros_like(stay).scatter(1, order, stay)
