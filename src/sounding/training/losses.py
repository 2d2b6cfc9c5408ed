"""The two losses that need no task: everything else is a function of the user or of a task."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from sounding.errors import DataError, RecipeError, nearest

Loss = Callable[..., Tensor]
"""Called with (outputs, target), and with the weights of the rows as a third where batches carry them."""


def cross_entropy(outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of logits (B, C, ...) and classes (B, ...) or probabilities like the logits."""
    goals = target if target.is_floating_point() else target.long()
    if weight is None:
        return F.cross_entropy(outputs, goals)
    losses = F.cross_entropy(outputs, goals, reduction="none").flatten(1 if target.ndim > 1 else 0)
    return (losses.reshape(len(weight), -1).mean(1) * weight).sum() / weight.sum()


def mse(outputs: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of outputs (B, ...) and a target of the same shape; (B, 1) and (B,) are taken for the same.

    Raises:
        DataError: if the shapes differ: broadcasting them would train on every pair of rows.
    """
    if outputs.shape != target.shape:
        outputs, target = outputs.squeeze(-1), target.squeeze(-1) if target.ndim > 1 else target
    if outputs.shape != target.shape:
        raise DataError(
            f"outputs have shape {tuple(outputs.shape)}, the target {tuple(target.shape)}", "make them equal"
        )
    if weight is None:
        return F.mse_loss(outputs, target.to(outputs.dtype))
    losses = (outputs - target).square().reshape(len(weight), -1).mean(1)
    return (losses * weight).sum() / weight.sum()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse}


def named_loss(loss: str | Loss) -> Loss:
    """A loss by name, or the function itself."""
    if not isinstance(loss, str):
        return loss
    if loss not in LOSSES:
        raise RecipeError(f'there is no loss "{loss}"', f"{nearest(loss, LOSSES)}; or give a function")
    return LOSSES[loss]
