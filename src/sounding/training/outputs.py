"""What a network answers a batch with: one tensor, or a named tuple of tensors, each of as many rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Outputs = Any
"""A tensor of B rows, or a named tuple of such tensors."""


def mapped(change: Callable[[Tensor], Tensor], outputs: Outputs) -> Outputs:
    """The same with every tensor changed.

    >>> from typing import NamedTuple
    >>> class Pair(NamedTuple):
    ...     mean: Tensor
    ...     spread: Tensor
    >>> mapped(torch.exp, Pair(torch.zeros(2), torch.zeros(1)))
    Pair(mean=tensor([1., 1.]), spread=tensor([1.]))
    """
    if isinstance(outputs, Tensor):
        return change(outputs)
    parts = [change(part) for part in outputs]
    return type(outputs)(*parts) if hasattr(outputs, "_fields") else type(outputs)(parts)


def joined(outputs: Sequence[Outputs]) -> Outputs:
    """The outputs for several batches as those for one.

    >>> joined([torch.zeros(2), torch.ones(1)])
    tensor([0., 0., 1.])
    """
    one = outputs[0]
    if isinstance(one, Tensor):
        return torch.cat(list(outputs))
    parts = [torch.cat(same) for same in zip(*outputs, strict=True)]
    return type(one)(*parts) if hasattr(one, "_fields") else type(one)(parts)


def first(rows: int, outputs: Outputs) -> Outputs:
    """The outputs for the first rows."""
    return mapped(lambda tensor: tensor[:rows], outputs)


def in_full_precision(outputs: Outputs) -> Outputs:
    """In float32, where they are not in float64 already: sums of a loss in bfloat16 would lose all but two digits."""
    return mapped(lambda tensor: tensor if tensor.dtype == torch.float64 else tensor.float(), outputs)
