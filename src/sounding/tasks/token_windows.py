"""Windows of a stream of tokens as batches: cut by index as they are needed, so that no token is held twice."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sounding.batches import Batch, Batches
from sounding.kinds.passage import BETWEEN
from sounding.randomness import generator


def stream_of(rows: Tensor) -> Tensor:
    """Rows of tokens (N, L), padded with 0, one behind the other: (tokens,) int32.

    Where a row ends a document and the next begins one, there is one boundary between them.

    >>> stream_of(torch.tensor([[2, 5, 6], [7, 2, 0], [2, 8, 2]])).tolist()
    [2, 5, 6, 7, 2, 8, 2]
    """
    tokens = rows[rows != 0]
    is_boundary = tokens == BETWEEN
    twice = torch.zeros_like(is_boundary)
    twice[1:] = is_boundary[1:] & is_boundary[:-1]
    return tokens[~twice].int()


class TokenWindows(Batches):
    """Windows of `context` tokens of a stream, and as their target the same a token later.

    stream:       (tokens,) int32.
    context:      tokens of a window; fewer where the stream is shorter.
    pass_tokens:  the most tokens of an epoch, which has a window at least; a pass over a longer stream takes several.

    While shuffling the windows of a pass follow each other without overlap, but from a place below `context` on that
    differs from pass to pass, and in a new order: both are functions of (seed, pass). Else they begin with the stream.
    The last tokens, fewer than a window, are left out. The row of a window is the place where it begins.

    >>> windows = TokenWindows(torch.arange(10, dtype=torch.int32), 4, batch_size=2)
    >>> batch = next(windows.epoch(0))
    >>> batch.inputs[0].tolist(), batch.target.tolist()
    ([[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]])
    """

    def __init__(self, stream: Tensor, context: int, *, pass_tokens: int = 0, **options: Any) -> None:
        self.context = max(min(context, len(stream) - 1), 1)
        spare = self.context - 1 if options.get("shuffle") else 0  # for any place to begin
        self.windows = max((len(stream) - 1 - spare) // self.context, min(len(stream) - 1, 1))
        parts = -(-self.windows * self.context // pass_tokens) if pass_tokens and options.get("shuffle") else 1
        self.parts = max(min(parts, self.windows), 1)
        super().__init__((), rows=self.windows // self.parts, **options)
        self.inputs = (stream,)

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return torch.arange(self.rows, device=self.inputs[0].device) * self.context
        number, part = divmod(epoch, self.parts)
        spare = len(self.inputs[0]) - self.windows * self.context  # at least 1
        begin = int(generator(self.seed, number, "begin").integers(min(spare, self.context)))
        order = generator(self.seed, number, "order").permutation(self.windows)[part * self.rows :][: self.rows]
        return torch.from_numpy(begin + order * self.context).to(self.inputs[0].device)

    def gather(self, rows: Tensor) -> Batch:
        """The windows that begin at some places."""
        (stream,) = self.inputs
        places = rows[:, None] + torch.arange(self.context + 1, device=rows.device)
        tokens = stream[places]
        return Batch((tokens[:, :-1],), tokens[:, 1:].long(), None, rows)

    def _slice(self, low: int, high: int, rows: Tensor) -> Batch:
        return self.gather(rows)
