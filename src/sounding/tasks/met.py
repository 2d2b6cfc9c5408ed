"""What users met, in order of time, and batches in which rows of the same users stand together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from sounding.batches import POOL, Batches
from sounding.networks.histories import HistoryNetwork
from sounding.randomness import generator
from sounding.tasks.ranking import Answer, Recommender

Codes = TypeVar("Codes", Tensor, np.ndarray)


class Met(nn.Module):
    """The items that each user met, the earliest first: those of users 0, 1, ... one after the other.

    users: codes are in [0, users).
    count: interactions, of which no two are of the same user and item.

    >>> met = Met(3, 3)
    >>> met.set(np.array([2, 1, 2]), np.array([5, 4, 3]), np.array([8.0, 7.0, 6.0]))
    >>> met.items.tolist(), met.starts.tolist()
    ([4, 3, 5], [0, 0, 1, 3])
    >>> met.before(torch.tensor([2, 2, 2]), torch.tensor([5, 9, 9]), torch.tensor([8.0, 6.0, 1.0])).tolist()
    [1, 1, 0]
    """

    starts: Tensor
    items: Tensor
    times: Tensor
    pairs: Tensor
    places: Tensor

    def __init__(self, users: int, count: int) -> None:
        super().__init__()
        self.register_buffer("starts", torch.zeros(users + 1, dtype=torch.int64))
        for name in ("items", "pairs", "places"):
            self.register_buffer(name, torch.zeros(count, dtype=torch.int64))
        self.register_buffer("times", torch.zeros(count, dtype=torch.float64))

    def set(self, users: np.ndarray, items: np.ndarray, times: np.ndarray) -> None:
        """Take interactions in, of any number; all that was there is forgotten. At equal times rows keep their order.

        users, items: (N,) int64 codes.
        times:        (N,) float64.
        """
        device = self.starts.device
        order = np.lexsort((times, users))
        users, items, times = users[order], items[order], times[order]
        ends = np.cumsum(np.bincount(users, minlength=len(self.starts) - 1))
        starts = np.concatenate([[0], ends]).astype(np.int64)
        pairs = _pair(users, items)
        by_pair = np.argsort(pairs, kind="stable")
        places = np.arange(len(users)) - starts[users]
        for name, values in (
            ("starts", starts),
            ("items", items),
            ("times", times),
            ("pairs", pairs[by_pair]),
            ("places", places[by_pair]),
        ):
            setattr(self, name, torch.from_numpy(np.ascontiguousarray(values)).to(device))

    def lengths(self, users: Tensor) -> Tensor:
        """(B,) how many items each user met."""
        return self.starts[users + 1] - self.starts[users]

    def before(self, users: Tensor, items: Tensor, times: Tensor) -> Tensor:
        """(B,) how many items a user met before this one: until this time, or until the user met this very item."""
        low, high = self.starts[users].clone(), self.starts[users + 1].clone()
        while bool((low < high).any()):  # a binary search for all rows at once
            middle = (low + high) // 2
            earlier = self.times[middle.clamp(max=max(len(self.times) - 1, 0))] <= times if len(self.times) else low < 0
            searched = low < high
            low = torch.where(searched & earlier, middle + 1, low)
            high = torch.where(searched & ~earlier, middle, high)
        until = low - self.starts[users]
        if not len(self.pairs):
            return until
        wanted = _pair(users, items)
        at = torch.searchsorted(self.pairs, wanted).clamp(max=len(self.pairs) - 1)
        return torch.where(self.pairs[at] == wanted, self.places[at], until)


def _pair(users: Codes, items: Codes) -> Codes:
    """One number for both."""
    both: Codes = users * (1 << 31) + items
    return both


def stretch_of(places: Codes, longest: int) -> Codes:
    """Which stretch of a history a place in it is read with; stretch s begins with item s * (longest // 2).

    Behind place `longest` there are always half as many items before it, at least.

    >>> stretch_of(np.array([0, 4, 5, 6, 7]), 4)
    array([0, 0, 1, 1, 2])
    """
    half = longest // 2
    stretch: Codes = ((places - longest).clip(min=0) + half - 1) // half
    return stretch


class HistoryRecommender(Recommender):
    """A `Recommender` whose users are what they met: see `HistoryNetwork`.

    Each history is read once for all rows of a batch that stand in it; longer ones in stretches that overlap.
    """

    def __init__(
        self, network: nn.Module, ranks: bool, columns: Sequence[tuple[Tensor, Tensor]], learned: int, held: int
    ) -> None:
        super().__init__(network, ranks, columns, learned, held)
        self.met = Met(len(columns[0][0]), learned + held)

    def tell(self, truth: np.ndarray) -> None:
        """What users met: (N, 4) user, item, 1, and the time."""
        self.met.set(truth[:, 0].astype(np.int64), truth[:, 1].astype(np.int64), truth[:, 3])

    @property
    def reader(self) -> HistoryNetwork:
        """The network, as what reads histories."""
        return cast("HistoryNetwork", self.network)

    def forward(  # type: ignore[override]
        self,
        user_numbers: Tensor,
        user_categories: Tensor,
        item_numbers: Tensor,
        item_categories: Tensor,
        times: Tensor,
        negatives: Tensor | None = None,
    ) -> Answer:
        """An `Answer`; see `Recommender`.

        times: (B,) float64, when users met the items.
        """
        codes = user_categories[:, 0].long()
        places = self.met.before(codes, item_categories[:, 0].long(), times)
        users = self.read(user_numbers, user_categories, places)
        return self.answer(users, user_categories, item_numbers, item_categories, negatives)

    def known_users(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """Users by all that they met."""
        return self.read(numbers, categories, self.met.lengths(categories[:, 0].long()))

    def read(self, numbers: Tensor, categories: Tensor, places: Tensor) -> Tensor:
        """(B, 1, size): users as they are known by so many first items, places (B,)."""
        longest, rows = self.reader.longest, torch.arange(len(places), device=places.device)
        codes, stretches = categories[:, 0].long(), stretch_of(places, longest)
        begins = stretches * (longest // 2)
        # users that are new are no two the same, whatever their code
        keys = torch.where(codes > 0, _pair(codes, stretches), -1 - rows)
        _, group = torch.unique(keys, return_inverse=True)
        groups = int(group.max()) + 1 if len(group) else 0
        first = rows.new_full((groups,), len(rows)).scatter_reduce(0, group, rows, "amin")
        many = rows.new_zeros(groups).scatter_reduce(0, group, places - begins, "amax")
        steps = torch.arange(int(many.max()) if groups else 0, device=rows.device)
        at = (self.met.starts[codes[first]] + begins[first])[:, None] + steps
        met = self.met.items[at.clamp(max=max(len(self.met.items) - 1, 0))]
        met = met.masked_fill(steps >= many[:, None], 1)  # behind all that counts, where nothing looks
        vectors = self.reader.encode_items(self.item_numbers[met], self.item_categories[met])
        states = self.reader.encode_histories(numbers[first], categories[first], vectors)
        return states[group, places - begins]


class HistoryBatches(Batches):
    """Shuffled batches in which the rows of a stretch of a history follow each other, with others of about its length.

    stretches: (N,) the same number for rows that are read together.
    """

    stretches: np.ndarray

    def _order(self, epoch: int) -> Tensor:
        if not self.shuffle:
            return super()._order(epoch)
        draw = generator(self.seed, epoch, "order")
        stretches, counts = np.unique(self.stretches, return_inverse=True, return_counts=True)[1:]
        place = draw.permutation(len(counts))
        ends = np.empty(len(counts), dtype=np.int64)
        ends[np.argsort(place)] = np.cumsum(counts[np.argsort(place)])
        pool = ends // (POOL * self.batch_size)
        rows = np.lexsort((place[stretches], counts[stretches], pool[stretches]))
        end = (len(self) - 1) * self.batch_size
        batches = rows[:end].reshape(-1, self.batch_size)
        order = np.concatenate([draw.permutation(batches).ravel(), rows[end:]])
        return torch.from_numpy(order).to(self.inputs[0].device)
