"""Gradients: clipped, checked against finite differences, and had for less memory.

The ways of clipping take parameters on one device, and answer with the norm of all their gradients together before
anything was changed: a gradient that is not finite shows there, whatever clipping made of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

RECENT_NORMS = 256
"""Norms over which `clip_by_percentile` takes its percentile: some seconds of training, and quick to sort."""


@torch.no_grad()
def clip_by_value(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Cut each entry of the gradients to [-limit, limit], in place; answers with their norm before.

    >>> weight = torch.zeros(2, requires_grad=True)
    >>> weight.grad = torch.tensor([3.0, -4.0])
    >>> clip_by_value([weight], 3.5), weight.grad
    (tensor(5.), tensor([ 3.0000, -3.5000]))
    """
    gradients = _gradients(parameters)
    norm = _norm(gradients)
    if gradients:
        torch._foreach_clamp_min_(gradients, -limit)
        torch._foreach_clamp_max_(gradients, limit)
    return norm


@torch.no_grad()
def clip_by_norm(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients, in place, so that the norm of all together is at most `limit`; answers with it before.

    The same bits as `torch.nn.utils.clip_grad_norm_`, in less time; nothing here waits for a GPU.
    Source: Pascanu et al. 2013, arXiv:1211.5063, section 3.2.
    """
    gradients = _gradients(parameters)
    norm = _norm(gradients)
    if gradients:
        torch._foreach_mul_(gradients, (limit / (norm + 1e-6)).clamp_(max=1.0))
    return norm


@torch.no_grad()
def clip_by_percentile(
    parameters: Iterable[Tensor], percentile: float, norms: list[float], window: int = RECENT_NORMS
) -> Tensor:
    """Scale the gradients, in place, down to a percentile of the norms of recent steps, this one included.

    AutoClip (Seetharaman et al. 2020, arXiv:2007.14469), over the latest norms instead of all there ever were.

    percentile:  in (0, 100); with 10, nine steps of ten are clipped.
    norms:       the norms of the latest steps before clipping. This step's is added at the end, and the oldest leaves
                 when there are more than `window`. A norm that is not finite is not added, and nothing is clipped.
                 The list is all that is remembered: save it, and a resumed run clips as one left alone.
    Returns:     the norm before; a GPU is waited for.

    >>> weight, norms = torch.zeros(2, requires_grad=True), [1.0, 3.0]
    >>> weight.grad = torch.tensor([3.0, 4.0])
    >>> clip_by_percentile([weight], 50, norms), weight.grad, norms
    (tensor(5.), tensor([1.8000, 2.4000]), [1.0, 3.0, 5.0])
    """
    gradients = _gradients(parameters)
    total = _norm(gradients)
    norm = total.item()
    if not math.isfinite(norm):
        return total
    norms.append(norm)
    del norms[:-window]
    limit = _percentile(norms, percentile)
    if norm > limit:
        torch._foreach_mul_(gradients, limit / norm)
    return total


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [gradient for parameter in parameters if (gradient := parameter.grad) is not None]


def _norm(gradients: list[Tensor]) -> Tensor:
    """The Euclidean norm of all entries together."""
    if not gradients:
        return torch.zeros(())
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    return norm


def _percentile(values: list[float], percentile: float) -> float:
    """The percentile, between two values where it falls there."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percentile / 100
    below = int(place)
    rest = place - below
    return ordered[below] + (rest * (ordered[below + 1] - ordered[below]) if rest else 0.0)
