"""Rows that stay on disk: arrays that are read a stretch at a time, and batches of them in bounded memory."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sounding.batches import Batch, Batches, Transform, in_order, part, transformed
from sounding.errors import DamagedError
from sounding.randomness import generator

WINDOW_BYTES = 1 << 25
"""Of rows that are in memory at a time and are mixed with each other; two or three windows are held."""
BLOCK_BYTES = 1 << 18
"""Of rows that follow each other on disk and are read together."""
FEWEST_STEPS = 4
"""A window holds the batches of so many steps at least, however large they are."""
STRIPES = 8
"""Parts of a window of which each feeds its own places of every batch; a process reads those of its share only."""


class StoredArray:
    """The rows of an array in a `.npy` file, read where they are asked for; never mapped into memory.

    The file is kept open, so that rows can be read although somebody removes it.

    Raises:
        DamagedError: if the file holds no such array, or fewer rows than it says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                if version != (1, 0):
                    raise ValueError(f"version {version} of the format is not read")
                self.shape, fortran, self.dtype = np.lib.format.read_array_header_1_0(file)
                if fortran or self.dtype.hasobject or not self.shape:
                    raise ValueError("it holds no rows of numbers")
            except ValueError as error:
                raise DamagedError(f"this is no stored array: {error}", file=path) from None
            self.offset = file.tell()
        self.row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        if os.fstat(self._file).st_size != self.offset + len(self) * self.row_bytes:
            raise DamagedError(f"the file does not hold {len(self):,} rows of {self.row_bytes} bytes", file=path)

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, stretches: Sequence[tuple[int, int]]) -> Tensor:
        """The rows of some stretches [low, high), one after the other."""
        rows = sum(high - low for low, high in stretches)
        array = np.empty((rows, *self.shape[1:]), self.dtype)
        view, at = array.reshape(-1).view(np.uint8).data, 0
        for low, high in stretches:
            size = (high - low) * self.row_bytes
            self._fill(view[at : at + size], self.offset + low * self.row_bytes)
            at += size
        return torch.from_numpy(array)

    def _fill(self, view: memoryview, offset: int) -> None:
        while len(view):  # the system may give less than was asked for
            got = os.preadv(self._file, [view], offset)
            if not got:
                raise DamagedError("the file has become shorter", "run again; it is then made anew", file=self.path)
            view, offset = view[got:], offset + got


class Window(NamedTuple):
    """Rows in memory, and where the rows of its steps are among them."""

    steps: range
    inputs: tuple[Tensor, ...]
    target: Tensor | None
    weight: Tensor | None
    rows: Tensor
    """(rows,) int64: the number of each row in the files."""
    order: Tensor | None
    """(places,) int64: for each place in the batches of this window the row that takes it; none for rows in order."""


class StoredBatches(Batches):
    """Batches like those of `Batches`, of rows that stay on disk: memory does not depend on their number.

    inputs, target, weight: as in `Batches`, in files.
    window_bytes, block_bytes: see `WINDOW_BYTES` and `BLOCK_BYTES`.

    Shuffled, an epoch is a new random order of blocks of neighbouring rows. A window takes the next so many blocks
    and deals their rows out to its batches at random. So every row comes exactly once an epoch, each batch holds
    rows of many random blocks, and rows far apart in the order never meet in a batch, as they would in a full
    permutation. The order is a function of (seed, epoch) and of the sizes alone; any step is found by reading its
    window. A thread reads the window after the current one.
    """

    def __init__(
        self,
        inputs: Sequence[StoredArray],
        target: StoredArray | None = None,
        weight: StoredArray | None = None,
        *,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        transform: Transform | None = None,
        workers: int = 0,
        window_bytes: int = WINDOW_BYTES,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        # Nothing is resident: whoever moves the tensors of `Batches` elsewhere finds none here.
        super().__init__(
            (),
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            transform=transform,
            workers=workers,
            rows=len(inputs[0]),
        )
        self.stored = (tuple(inputs), target, weight)
        arrays = self._arrays
        if any(len(array) != self.rows for array in arrays):
            raise ValueError(f"the files have different numbers of rows: {sorted({len(array) for array in arrays})}")
        row_bytes = sum(array.row_bytes for array in arrays) + 16  # and its number and its place in the order
        self.steps_per_window = max(FEWEST_STEPS, window_bytes // (self.batch_size * row_bytes))
        self.block_rows = max(1, block_bytes // row_bytes)

    @property
    def _arrays(self) -> list[StoredArray]:
        inputs, target, weight = self.stored
        return [*inputs, *(array for array in (target, weight) if array is not None)]

    def epoch(self, epoch: int, *, start_step: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from a step on; only windows from that step on are read."""
        share = (0, 1) if self.transform is not None else self.share

        def prepare(item: tuple[Window, int]) -> Batch:
            window, step = item
            batch = self._cut(window, step, share)
            return batch if self.transform is None else transformed(batch, self.transform, epoch, step, self.share)

        return in_order(prepare, self._read_ahead(epoch, start_step, share), self.workers)

    def gather(self, rows: Tensor) -> Batch:
        """The batch of some rows, untransformed; a read for each row, so not for many."""
        return self._load([(row, row + 1) for row in rows.tolist()], rows)

    def _read_ahead(self, epoch: int, start_step: int, share: tuple[int, int]) -> Iterator[tuple[Window, int]]:
        """Each step with its window."""
        first = start_step // self.steps_per_window
        starts = self._block_starts(epoch)

        def read(number: int) -> Window:
            return self._window(epoch, number, starts, share)

        numbers = range(first, -(-len(self) // self.steps_per_window))
        for window in in_order(read, numbers, workers=1, ahead=1):
            for step in window.steps:
                if step >= start_step:
                    yield window, step

    def _block_starts(self, epoch: int) -> np.ndarray:
        """(blocks,) int64: the first row of each block, in the order in which the blocks come."""
        starts = np.arange(0, self.rows, self.block_rows)
        return generator(self.seed, epoch, "blocks").permutation(starts) if self.shuffle else starts

    def _window(self, epoch: int, number: int, starts: np.ndarray, share: tuple[int, int]) -> Window:
        """Read the rows of some steps, or of a share of them."""
        low = number * self.steps_per_window
        steps = range(low, min(low + self.steps_per_window, len(self)))
        sizes = np.array([self.rows_in(step) for step in steps])
        begin = low * self.batch_size
        if not self.shuffle:
            low, high = begin, begin + int(sizes.sum())
            return self._as_window(steps, [(low, high)], None)
        rank, world = share
        stripe_of, counts = _stripes(sizes)
        wanted = range(STRIPES * rank // world, -(-STRIPES * (rank + 1) // world))
        order = np.full(len(stripe_of), -1)
        filled = 0
        for stripe in wanted:
            draw = generator(self.seed, epoch, number, stripe, "window")
            order[stripe_of == stripe] = filled + draw.permutation(counts[stripe])
            filled += counts[stripe]
        begin += int(counts[: wanted.start].sum())
        return self._as_window(steps, self._stretches(starts, begin, begin + filled), torch.from_numpy(order))

    def _stretches(self, starts: np.ndarray, low: int, high: int) -> list[tuple[int, int]]:
        """The rows [low, high) of the blocks one after the other, as stretches of neighbours on disk."""
        ends = np.minimum(starts + self.block_rows, self.rows)
        after = np.cumsum(ends - starts)
        first, last = np.searchsorted(after, [low, high - 1], side="right") if high > low else (0, -1)
        stretches = []
        for block in range(int(first), int(last) + 1):
            before = int(after[block] - (ends[block] - starts[block]))
            begin = int(starts[block])
            stretches.append((begin + max(low - before, 0), begin + min(high - before, int(ends[block]) - begin)))
        return stretches

    def _as_window(self, steps: range, stretches: list[tuple[int, int]], order: Tensor | None) -> Window:
        rows = [torch.arange(low, high) for low, high in stretches]
        batch = self._load(stretches, torch.cat(rows) if rows else torch.arange(0))
        return Window(steps, batch.inputs, batch.target, batch.weight, batch.rows, order)

    def _load(self, stretches: list[tuple[int, int]], rows: Tensor) -> Batch:
        inputs, target, weight = self.stored
        return Batch(
            tuple([array.read(stretches) for array in inputs]),
            None if target is None else target.read(stretches),
            None if weight is None else weight.read(stretches),
            rows,
        )

    def _cut(self, window: Window, step: int, share: tuple[int, int]) -> Batch:
        """The share of the batch of a step, out of its window."""
        low = (step - window.steps.start) * self.batch_size
        low, high = part(low, low + self.rows_in(step), share)
        tensors = (*window.inputs, window.target, window.weight, window.rows)
        if window.order is None:
            *inputs, target, weight, rows = [None if one is None else one[low:high] for one in tensors]
        else:
            places = window.order[low:high]
            *inputs, target, weight, rows = [None if one is None else one.index_select(0, places) for one in tensors]
        return Batch(tuple(inputs), target, weight, rows)  # type: ignore[arg-type]


def _stripes(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray[Any, np.dtype[np.int64]]]:
    """The stripe of each place of batches of some sizes, and how many places each stripe has.

    >>> _stripes(np.array([10]))[0].tolist()
    [0, 1, 2, 3, 3, 4, 5, 6, 7, 7]
    """
    bounds = sizes[:, None] * np.arange(STRIPES + 1) // STRIPES  # as `part` cuts shares
    widths = np.diff(bounds, axis=1)
    stripe_of = np.repeat(np.tile(np.arange(STRIPES, dtype=np.uint8), len(sizes)), widths.ravel())
    return stripe_of, widths.sum(0)
