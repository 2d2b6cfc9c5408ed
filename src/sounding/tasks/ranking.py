"""All items in the order in which a network would recommend them, and how good that order is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.networks import MatrixFactorization

CELLS = 1 << 22
"""Scores that are computed at once."""
DEPTHS = (1, 5, 10, 20, 50)
"""Lengths of lists of which the recall is told."""


class Answer(NamedTuple):
    """What a network says of interactions, whose item is one of all items."""

    loss: Tensor
    """(B, members) the cross-entropy of the softmax over items, in nats."""
    rank: Tensor
    """(B,) how many items stand before the one that was chosen; NaN while training, infinite where it is unknown."""


class Seen(nn.Module):
    """Which items each user has met: those of users 0, 1, ... one after the other.

    users: codes are in [0, users).
    count: interactions.

    >>> seen = Seen(3, 2)
    >>> seen.set(np.array([2, 1]), np.array([5, 4]))
    >>> seen.mask(torch.tensor([2, 0]), 6).nonzero()
    tensor([[0, 5]])
    """

    starts: Tensor
    items: Tensor

    def __init__(self, users: int, count: int) -> None:
        super().__init__()
        self.register_buffer("starts", torch.zeros(users + 1, dtype=torch.int64))
        self.register_buffer("items", torch.zeros(count, dtype=torch.int64))

    def set(self, users: np.ndarray, items: np.ndarray) -> None:
        """Take interactions in, of any number; all that was there is forgotten."""
        order = np.argsort(users, kind="stable")
        ends = np.cumsum(np.bincount(users, minlength=len(self.starts) - 1))
        device = self.starts.device
        self.starts = torch.from_numpy(np.concatenate([[0], ends]).astype(np.int64)).to(device)
        self.items = torch.from_numpy(items[order].astype(np.int64)).to(device)

    def mask(self, users: Tensor, count: int) -> Tensor:
        """(B, count) bool, true where a user has met an item."""
        low, many = self.starts[users], self.starts[users + 1] - self.starts[users]
        rows = torch.arange(len(users), device=users.device).repeat_interleave(many)
        within = torch.arange(len(rows), device=users.device) - (many.cumsum(0) - many).repeat_interleave(many)
        mask = torch.zeros(len(users), count, dtype=torch.bool, device=users.device)
        mask[rows, self.items[low.repeat_interleave(many) + within]] = True
        return mask


class Recommender(nn.Module):
    """A network with what it chooses from: all items with their columns, and what each user has met.

    network:    says how well users and items match.
    ranks:      whether it answers with ranks, as for implicit feedback, instead of scores.
    columns:    for users, then items, (codes, numbers) and (codes, categories) that are kept of each, by its code.
    learned, held: interactions of the training and the validation rows.
    """

    item_numbers: Tensor
    item_categories: Tensor

    def __init__(
        self, network: nn.Module, ranks: bool, columns: Sequence[tuple[Tensor, Tensor]], learned: int, held: int
    ) -> None:
        super().__init__()
        self.network, self.ranks = network, ranks
        for side, (numbers, categories) in zip(("user", "item"), columns, strict=True):
            self.register_buffer(f"{side}_numbers", numbers)
            self.register_buffer(f"{side}_categories", categories)
        users = len(columns[0][0])
        self.learned, self.held = Seen(users, learned), Seen(users, held)

    @property
    def matcher(self) -> MatrixFactorization:
        """The network, as what encodes and matches."""
        return cast("MatrixFactorization", self.network)

    def columns(self, side: str) -> tuple[Tensor, Tensor]:
        """Numbers and categories of a side by code, as kept."""
        return getattr(self, f"{side}_numbers"), getattr(self, f"{side}_categories")

    def forward(
        self,
        user_numbers: Tensor,
        user_categories: Tensor,
        item_numbers: Tensor,
        item_categories: Tensor,
        negatives: Tensor | None = None,
    ) -> Any:
        """Scores (B, members), or an `Answer`.

        negatives: (B, n) codes of items that the chosen one is to outdo; all items where left out.
        """
        users = self.matcher.encode_users(user_numbers, user_categories)
        if not self.ranks:
            return self.matcher.match(users, self.matcher.encode_items(item_numbers, item_categories))
        return self.answer(users, user_categories, item_numbers, item_categories, negatives)

    def answer(
        self,
        users: Tensor,
        user_categories: Tensor,
        item_numbers: Tensor,
        item_categories: Tensor,
        negatives: Tensor | None,
    ) -> Answer:
        """How encoded users (B, members, size) rank what they met."""
        if negatives is not None:
            return self._against(users, item_numbers, item_categories, negatives)
        catalogue = self.catalogue()
        if self.training:
            return self._among_all(users, item_categories[:, 0].long(), catalogue)
        parts = [
            self._ranked(catalogue, *some)
            for some in _in_parts(catalogue, users, user_categories, item_numbers, item_categories)
        ]
        return Answer(torch.cat([part.loss for part in parts]), torch.cat([part.rank for part in parts]))

    def catalogue(self) -> Tensor:
        """(items, members, size): every item, encoded; code c is in row c - 1."""
        return self.matcher.encode_items(self.item_numbers[1:], self.item_categories[1:])

    def _against(self, users: Tensor, numbers: Tensor, categories: Tensor, negatives: Tensor) -> Answer:
        chosen = self.matcher.match(users, self.matcher.encode_items(numbers, categories))
        kept_numbers, kept_categories = self.columns("item")
        others = self.matcher.encode_items(kept_numbers[negatives], kept_categories[negatives])
        scores = self.matcher.match(users[:, None], others)
        same = negatives == categories[:, :1]  # an item does not have to outdo itself
        scores = scores.masked_fill(same[..., None], float("-inf"))
        loss = torch.cat([chosen[:, None], scores], 1).logsumexp(1) - chosen
        return Answer(loss, torch.full_like(loss[:, 0], float("nan")))

    def _among_all(self, users: Tensor, codes: Tensor, catalogue: Tensor) -> Answer:
        scores = self.matcher.match_all(users, catalogue)
        chosen = scores[torch.arange(len(codes), device=codes.device), codes - 1]
        loss = scores.logsumexp(1) - chosen
        return Answer(loss, torch.full_like(loss[:, 0], float("nan")))

    def _ranked(
        self, catalogue: Tensor, users: Tensor, user_categories: Tensor, numbers: Tensor, categories: Tensor
    ) -> Answer:
        scores = self.matcher.match_all(users, catalogue)
        chosen = self.matcher.match(users, self.matcher.encode_items(numbers, categories))
        codes = categories[:, 0].long()
        loss = scores.logsumexp(1) - chosen
        rank = ranks_of(scores.mean(2), codes, self.left_out(user_categories[:, 0].long(), codes))
        return Answer(loss, rank)

    def left_out(self, users: Tensor, codes: Tensor | None = None) -> Tensor:
        """(B, items) bool: what is not recommended to users again.

        codes: items that are asked about. What a user met in the validation rows is left out as well, but where it is
               these rows that are asked about.
        """
        count = len(self.item_numbers)
        held = self.held.mask(users, count)
        if codes is not None:
            held &= ~held.gather(1, codes[:, None])
        return (self.learned.mask(users, count) | held)[:, 1:]

    def known_users(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, members, size): users by all that is known of them."""
        return self.matcher.encode_users(numbers, categories)

    def recommend(self, numbers: Tensor, categories: Tensor, top: int) -> tuple[Tensor, Tensor]:
        """Codes of items and their scores, (B, top) each, the best first; -infinity where there are no more items."""
        users, catalogue = self.known_users(numbers, categories), self.catalogue()
        codes, best = [], []
        for some, known in _in_parts(catalogue, users, categories):
            scores = self.matcher.match_all(some, catalogue).mean(2)
            scores = scores.masked_fill(self.left_out(known[:, 0].long()), float("-inf"))
            order = torch.argsort(scores, dim=1, descending=True, stable=True)[:, :top]
            codes.append(order + 1)
            best.append(scores.gather(1, order))
        return torch.cat(codes), torch.cat(best)


def _in_parts(catalogue: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """So many rows at a time that `CELLS` scores of (items, members, size) are held at once; one part without rows."""
    step = max(CELLS // max(catalogue.shape[0] * catalogue.shape[1], 1), 1)
    return zip(*(torch.split(tensor, step) for tensor in tensors), strict=True)


def ranks_of(scores: Tensor, codes: Tensor, left_out: Tensor) -> Tensor:
    """(B,) float: how many items stand before the one with a code from 1 on; of equal scores the first stands first.

    scores, left_out: (B, items). Infinite for code 0, and for an item that is left out. A score that is no number
    stands behind all others.

    >>> ranks_of(torch.tensor([[0.1, 0.9, 0.5]]), torch.tensor([3]), torch.zeros(1, 3, dtype=torch.bool))
    tensor([1.])
    """
    places = torch.arange(scores.shape[1], device=scores.device)
    at = (codes - 1).clamp(min=0)[:, None]
    scores = torch.where(scores.isnan(), -torch.inf, scores)
    own = scores.gather(1, at)
    before = ((scores > own) | ((scores == own) & (places < at))) & ~left_out
    rank = before.sum(1).to(scores.dtype)
    gone = (codes == 0) | left_out.gather(1, at)[:, 0]
    return rank.masked_fill(gone, float("inf"))


def by_user(ranks: np.ndarray, users: np.ndarray, top: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The metrics of each user's list, each (U,), and of each row which of these users it is.

    recall_at_k:    the share of a user's items that are among the first k.
    ndcg_at_top:    Jarvelin and Kekalainen 2002: the discounted gain, of 1 for each of these items, relative to the
                    best order.
    missed_at_top:  1 - recall_at_top.

    >>> by_user(np.array([0.0, 3.0]), np.array([7, 7]), 2)[0]["recall_at_2"]
    array([0.5])
    """
    _, user = np.unique(users, return_inverse=True)
    count = np.bincount(user)
    depths = sorted({*DEPTHS, top})
    found = {f"recall_at_{depth}": np.bincount(user, ranks < depth, len(count)) / count for depth in depths}
    gains = np.where(ranks < top, 1 / np.log2(np.where(np.isfinite(ranks), ranks, 0) + 2), 0.0)
    best = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(top) + 2))])
    found[f"ndcg_at_{top}"] = np.bincount(user, gains, len(count)) / best[np.minimum(count, top)]
    found[f"missed_at_{top}"] = 1 - found[f"recall_at_{top}"]
    return found, user
