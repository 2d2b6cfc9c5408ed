"""Batches straight from tensors: a batch is one gather, with no Python for each example."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from sounding.randomness import generator

Work = TypeVar("Work")
Done = TypeVar("Done")


class Batch(NamedTuple):
    """Some rows: what goes into the network, what should come out, and which rows they are."""

    inputs: tuple[Tensor, ...]
    target: Tensor | None
    weight: Tensor | None
    rows: Tensor


Transform = Callable[[Batch, int, int], Batch]
"""Changes a batch (augmentation); called with the batch, the epoch and the step, on which all its draws depend.

It gives back a new batch: tensors of the old one may be views of the data. With workers it is called from several
threads at a time.
"""

Trim = Callable[[Batch], Batch]
"""Cuts off the end of a batch that is padding in each of its rows."""

POOL = 50
"""Batches whose rows are drawn together, then sorted by length: of more, batches differ less from epoch to epoch; of
fewer, more of each is padding."""


class Batches:
    """All rows of a set, in batches.

    inputs:     tensors of N rows each, on any one device; kept compact (uint8 pictures stay uint8).
    target:     N rows, or none.
    weight:     (N,) float, or none.
    shuffle:    whether rows come in a new order each epoch; the order is a function of (seed, epoch) alone.
    transform:  applied to each batch after the gather.
    workers:    threads that prepare batches ahead of their use; order and bits are the same with any number.
    lengths:    (N,) how long each row is; while shuffling, rows of about the same length share a batch.
    trim:       applied to each batch after the gather, before `transform`.
    rows:       how many there are, for a subclass without tensors.

    The last batch of an epoch may be smaller. A batch of a single row would leave batch normalisation
    without a variance, so while shuffling a last batch of one row is joined to the one before it.
    Unshuffled batches are views of the tensors: read them, do not write to them.

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
        workers: int = 0,
        lengths: Tensor | None = None,
        trim: Trim | None = None,
        rows: int | None = None,
    ) -> None:
        self.inputs, self.target, self.weight = tuple(inputs), target, weight
        self.seed, self.shuffle, self.transform, self.workers = seed, shuffle, transform, workers
        self.lengths, self.trim = None if lengths is None else lengths.cpu().numpy(), trim
        self.rows = len(self.inputs[0]) if rows is None else rows
        self.share = (0, 1)
        counts = {len(tensor) for tensor in (*self.inputs, target, weight, lengths) if tensor is not None}
        if counts - {self.rows}:
            raise ValueError(f"inputs, target and weight have different numbers of rows: {sorted(counts)}")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give 1 or more")
        self.batch_size = min(batch_size, max(self.rows, 1))

    def shared(self, rank: int, world: int) -> Self:
        """The same steps, of each batch only those rows that are the share of one of several processes.

        rank, world: this process, from 0, and how many there are.

        Batches and their order are those of a single process, whatever the world; shares follow each other within
        a batch and differ by one row at most. A share is empty where a batch has fewer rows than there are
        processes. A transform sees the whole batch and its result is cut, so that it draws what it would draw alone.

        >>> batches = Batches((torch.arange(5.0),), batch_size=3)
        >>> [[b.inputs[0].tolist() for b in batches.shared(rank, 2).epoch(0)] for rank in (0, 1)]
        [[[0.0], [3.0]], [[1.0, 2.0], [4.0]]]
        """
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not in [0, {world})")
        batches = copy.copy(self)
        batches.share = (rank, world)
        return batches

    def __len__(self) -> int:
        """Steps in an epoch."""
        steps = -(-self.rows // self.batch_size)
        alone = self.shuffle and steps > 1 and self.rows - (steps - 1) * self.batch_size == 1
        return steps - alone

    def rows_in(self, step: int) -> int:
        """The rows of the batch of a step, those of all shares together."""
        last = step == len(self) - 1
        return self.rows - step * self.batch_size if last else self.batch_size

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from a step on."""
        order = self._order(epoch)
        steps = len(self)

        def prepare(step: int) -> Batch:
            low = step * self.batch_size
            high = self.rows if step == steps - 1 else low + self.batch_size
            return self._prepare(order, low, high, epoch, step)

        return in_order(prepare, range(start_step, steps), self.workers)

    def gather(self, rows: Tensor) -> Batch:
        """The batch of some rows, untransformed."""
        batch = Batch(
            tuple([tensor.index_select(0, rows) for tensor in self.inputs]),
            None if self.target is None else self.target.index_select(0, rows),
            None if self.weight is None else self.weight.index_select(0, rows),
            rows,
        )
        return batch if self.trim is None else self.trim(batch)

    def _order(self, epoch: int) -> Tensor:
        """(N,) int64: the rows in the order in which they come."""
        device = self.inputs[0].device
        if not self.shuffle:
            return torch.arange(self.rows, device=device)
        order = generator(self.seed, epoch, "order").permutation(self.rows)
        if self.lengths is not None:
            order = self._by_length(order, epoch)
        return torch.from_numpy(order).to(device)

    def _by_length(self, order: np.ndarray, epoch: int) -> np.ndarray:
        """Sorted within pools of batches; then the batches are shuffled, but for the last one, which may be smaller."""
        assert self.lengths is not None
        steps = len(self) - 1
        end, pool = steps * self.batch_size, POOL * self.batch_size
        pools = [order[low : min(low + pool, end)] for low in range(0, end, pool)]
        sorted_pools = [rows[np.argsort(self.lengths[rows], kind="stable")] for rows in pools]
        batches = np.concatenate([*sorted_pools, order[:0]]).reshape(max(steps, 0), self.batch_size)
        return np.concatenate([generator(self.seed, epoch, "batches").permutation(batches).ravel(), order[end:]])

    def _prepare(self, order: Tensor, low: int, high: int, epoch: int, step: int) -> Batch:
        """The share of the batch of order[low:high]."""
        if self.transform is None:
            low, high = part(low, high, self.share)
        rows = order[low:high]
        batch = self.gather(rows) if self.shuffle else self._slice(low, high, rows)
        return batch if self.transform is None else transformed(batch, self.transform, epoch, step, self.share)

    def _slice(self, low: int, high: int, rows: Tensor) -> Batch:
        batch = Batch(
            tuple([tensor[low:high] for tensor in self.inputs]),
            None if self.target is None else self.target[low:high],
            None if self.weight is None else self.weight[low:high],
            rows,
        )
        return batch if self.trim is None else self.trim(batch)


def part(low: int, high: int, share: tuple[int, int]) -> tuple[int, int]:
    """The stretch of [low, high) that belongs to one of several processes.

    >>> [part(10, 15, (rank, 2)) for rank in (0, 1)]
    [(10, 12), (12, 15)]
    """
    rank, world = share
    rows = high - low
    return low + rows * rank // world, low + rows * (rank + 1) // world


def transformed(batch: Batch, transform: Transform, epoch: int, step: int, share: tuple[int, int]) -> Batch:
    """The share of a transformed batch.

    Raises:
        Exception: whatever the transform raised, with a note that names epoch and step.
    """
    try:
        batch = transform(batch, epoch, step)
    except BaseException as error:
        error.add_note(f"raised while preparing the batch of epoch {epoch + 1}, step {step + 1}")
        raise
    if share == (0, 1):
        return batch
    low, high = part(0, len(batch.rows), share)
    return Batch(
        tuple([tensor[low:high] for tensor in batch.inputs]),
        None if batch.target is None else batch.target[low:high],
        None if batch.weight is None else batch.weight[low:high],
        batch.rows[low:high],
    )


def in_order(
    work: Callable[[Work], Done], todo: Iterable[Work], workers: int, ahead: int | None = None
) -> Iterator[Done]:
    """What the work makes of each thing to do, in order; with workers, so many threads work ahead.

    ahead: things that are begun before they are asked for; twice the number of workers when left out.

    Whoever stops before the end leaves no thread behind: closing the iterator waits for what is being worked on.
    """
    if workers < 1:
        yield from map(work, todo)
        return
    ahead = 2 * workers if ahead is None else ahead
    waiting: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")
    try:
        for one in todo:
            waiting.append(pool.submit(work, one))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
