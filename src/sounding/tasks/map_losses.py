"""Losses of maps of logits: one number for each picture, over those of its pixels that have a class.

Sources: focal: Lin et al. 2017, arXiv:1708.02002, equation 4; Dice: Milletari et al. 2016, arXiv:1606.04797, section 3,
here with sums of probabilities and for each class that the picture holds, as in Sudre et al. 2017, arXiv:1707.03237.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sounding.kinds.mask import UNLABELLED


def pixel_losses(
    logits: Tensor,
    goals: Tensor,
    *,
    weights: Tensor | None = None,
    smoothing: float = 0.0,
    focus: float = 0.0,
) -> Tensor:
    """(B,) mean cross-entropy in nats of the pixels that have a class; 0 where none has.

    logits:     (B, classes, H, W).
    goals:      (B, H, W) integer codes; 255 has no class.
    weights:    (classes,), with mean 1 over training pixels.
    smoothing:  of labels, in [0, 1).
    focus:      exponent of 1 - p, p being the probability of the true class: pixels that are right already count less.
    """
    goals = goals.long()
    losses = F.cross_entropy(logits, goals, ignore_index=UNLABELLED, reduction="none", label_smoothing=smoothing)
    known = goals != UNLABELLED
    codes = goals.masked_fill(~known, 0)
    if focus > 0.0:
        true = logits.log_softmax(1).gather(1, codes[:, None])[:, 0]
        losses = losses * (1 - true.exp()).clamp(min=0.0) ** focus
    if weights is not None:
        losses = losses * weights.to(losses)[codes]
    return losses.flatten(1).sum(1) / known.flatten(1).sum(1).clamp(min=1)


def dice_losses(logits: Tensor, goals: Tensor) -> Tensor:
    """(B,) one minus the Dice coefficient of probabilities, the mean over the classes that a picture holds.

    logits:  (B, classes, H, W).
    goals:   (B, H, W) integer codes; 255 has no class.
    """
    goals = goals.long()
    known = (goals != UNLABELLED)[:, None]
    truth = F.one_hot(goals.masked_fill(~known[:, 0], 0), logits.shape[1]).movedim(3, 1).to(logits.dtype) * known
    probabilities = logits.softmax(1) * known
    both = (probabilities * truth).flatten(2).sum(2)
    sums = (probabilities + truth).flatten(2).sum(2)
    held = truth.flatten(2).amax(2)  # (B, classes): 1 where the picture holds the class
    losses = (1 - 2 * both / sums.clamp(min=1e-6)) * held
    return torch.as_tensor(losses.sum(1) / held.sum(1).clamp(min=1))
