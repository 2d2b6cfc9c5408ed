"""Texts varied while training: whole batches at once, every draw a function of (seed, epoch, step, purpose)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sounding.batches import Batch
from sounding.randomness import generator

TEXT_POLICIES = {"light": 0.05, "default": 0.1, "strong": 0.2}
"""The share of tokens that are left out."""


class TextAugmentation:
    """Leaves tokens of the texts of a batch out; a transform for `Batches`.

    share:  of its tokens, the probability with which each is left out; one always stays.
    places: which of the inputs are texts: (B, L) or (B, L, 1 + pieces), 0 behind the last token of each.

    An example's draws depend on seed, epoch, step and its place in the batch alone.

    >>> batch = Batch((torch.arange(1, 9)[None],), None, None, torch.arange(1))
    >>> varied = TextAugmentation(0.5, [0], seed=1)(batch, 0, 0).inputs[0]
    >>> varied.shape, int(varied[0].count_nonzero()) < 8
    (torch.Size([1, 8]), True)

    Source: Iyyer et al. 2015, "Deep unordered composition rivals syntactic methods", section 2.2 (word dropout).
    """

    def __init__(self, share: float, places: Sequence[int], *, seed: int = 0) -> None:
        self.share, self.places, self.seed = share, frozenset(places), seed

    def __call__(self, batch: Batch, epoch: int, step: int) -> Batch:
        """The batch, varied."""
        inputs = tuple(
            self._vary(x, place, epoch, step) if place in self.places else x for place, x in enumerate(batch.inputs)
        )
        return batch._replace(inputs=inputs)

    def _vary(self, tokens: Tensor, place: int, epoch: int, step: int) -> Tensor:
        codes = tokens if tokens.ndim == 2 else tokens[..., 0]
        draws = generator(self.seed, epoch, step, f"tokens {place}").random(tuple(codes.shape))
        drawn = torch.from_numpy(draws).to(tokens.device)
        there = codes != 0
        drawn = drawn.masked_fill(~there, -1.0)
        # The token with the largest draw stays, whatever the share.
        kept = there & ((drawn >= self.share) | (drawn == drawn.amax(1, keepdim=True)))
        order = (~kept).byte().sort(dim=1, stable=True).indices
        order, kept = (x if tokens.ndim == 2 else x[..., None].expand_as(tokens) for x in (order, kept))
        varied = tokens.gather(1, order)
        return varied.masked_fill(~kept.gather(1, order), 0)
