"""Batches straight from tensors: a batch is one gather, with no Python for each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sounding.randomness import generator


class Batch(NamedTuple):
    """Some rows: what goes into the network, what should come out, and which rows they are."""

    inputs: tuple[Tensor, ...]
    target: Tensor | None
    weight: Tensor | None
    rows: Tensor


Transform = Callable[[Batch, int, int], Batch]
"""Changes a batch (augmentation); called with the batch, the epoch and the step, on which all its draws depend."""


class Batches:
    """All rows of a set, in batches.

    inputs:     tensors of N rows each, on any one device; kept compact (uint8 pictures stay uint8).
    target:     N rows, or none.
    weight:     (N,) float, or none.
    shuffle:    whether rows come in a new order each epoch; the order is a function of (seed, epoch) alone.
    transform:  applied to each batch after the gather.

    The last batch of an epoch may be smaller. A batch of a single row would leave batch normalisation
    without a variance, so while shuffling a last batch of one row is joined to the one before it.

    >>> batches = Batches((torch.arange(10.0),), batch_size=4)
    >>> [batch.inputs[0].tolist() for batch in batches.epoch(0)]
    [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0]]
    """

    def __init__(
        self,
        inputs: Sequence[Tensor],
        target: Tensor | None = None,
        weight: Tensor | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        transform: Transform | None = None,
    ) -> None:
        self.inputs, self.target, self.weight = tuple(inputs), target, weight
        self.seed, self.shuffle, self.transform = seed, shuffle, transform
        self.rows = len(self.inputs[0])
        lengths = {len(tensor) for tensor in (*self.inputs, target, weight) if tensor is not None}
        if lengths != {self.rows}:
            raise ValueError(f"inputs, target and weight have different numbers of rows: {sorted(lengths)}")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        self.batch_size = min(batch_size, max(self.rows, 1))

    def __len__(self) -> int:
        """Steps in an epoch."""
        return len(self._bounds())

    def _bounds(self) -> list[tuple[int, int]]:
        bounds = [(at, min(at + self.batch_size, self.rows)) for at in range(0, self.rows, self.batch_size)]
        if self.shuffle and len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] == 1:
            bounds[-2:] = [(bounds[-2][0], self.rows)]
        return bounds

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from a step on."""
        device = self.inputs[0].device
        if self.shuffle:
            permutation = generator(self.seed, epoch, "order").permutation(self.rows)
            order = torch.from_numpy(permutation).to(device)
        else:
            order = torch.arange(self.rows, device=device)
        for step, (low, high) in enumerate(self._bounds()[start_step:], start=start_step):
            batch = self.gather(order[low:high])
            yield self.transform(batch, epoch, step) if self.transform else batch

    def gather(self, rows: Tensor) -> Batch:
        """The batch of some rows, untransformed."""
        return Batch(
            tuple(tensor.index_select(0, rows) for tensor in self.inputs),
            None if self.target is None else self.target.index_select(0, rows),
            None if self.weight is None else self.weight.index_select(0, rows),
            rows,
        )
