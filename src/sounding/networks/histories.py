"""Networks that read what a user met, in order of time, and say what comes next.

Sources: causal self-attention: Kang and McAuley 2018, "Self-attentive sequential recommendation", arXiv:1808.09781;
recurrent: Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks", arXiv:1511.06939; trained
by the cross-entropy over all items, which such networks need: Klenitskiy and Vasilev 2023, arXiv:2309.07602.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sounding.networks.language_transformer import DecoderLayer
from sounding.networks.recommenders import Columns, Factors
from sounding.networks.transformer import rotary_turns


class HistoryNetwork(nn.Module):
    """A user is the sequence of items met, and columns; no user has parameters of its own.

    users, items:  see `recommenders.Columns`.
    size:          of the vector of an item, by which it is read and scored.
    longest:       items of a history that are read together at most.
    dropout:       probability that an entry of what is read is blanked while training.
    unknown:       see `recommenders.Factors`.

    A subclass says how a sequence is read, in `forward_features`.
    """

    members = 1

    def __init__(
        self, users: Columns, items: Columns, *, size: int, longest: int, dropout: float, unknown: float
    ) -> None:
        super().__init__()
        if longest < 2:
            raise ValueError(f"longest is {longest}; give 2 items or more")
        self.size, self.longest = size, longest
        self.beginning = nn.Parameter(torch.randn(size))
        self.users = Factors(users, members=1, size=size, scale=1.0, own=False)
        self.items = Factors(items, members=1, size=size, unknown=unknown, scale=1.0)
        self.worth = Factors(items, members=1, size=1, unknown=unknown, scale=0.1)
        self.dropout = nn.Dropout(dropout)

    def forward_features(self, values: Tensor) -> Tensor:
        """(B, T, size) to (B, T, size); nothing later changes an earlier one."""
        raise NotImplementedError

    def encode_histories(self, numbers: Tensor, categories: Tensor, met: Tensor) -> Tensor:
        """What is known of users before they met anything, and after each item.

        numbers, categories:  (B, columns) of users.
        met:                  (B, T, 1, size + 1) items as `encode_items` gives them, the earliest first.
        Returns:              (B, T + 1, 1, size + 1).
        """
        vectors = met[..., 0, : self.size] * math.sqrt(self.size)
        first = self.beginning + self.users(numbers, categories)[:, 0] * math.sqrt(self.size)
        states = self.forward_features(self.dropout(torch.cat([first[:, None], vectors], 1)))
        return torch.cat([states, torch.ones_like(states[..., :1])], -1)[:, :, None]

    def encode_users(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, 1, size + 1) of users who met nothing yet."""
        met = numbers.new_zeros(len(numbers), 0, 1, self.size + 1)
        return self.encode_histories(numbers, categories, met)[:, 0]

    def encode_items(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., 1, size + 1): the vector of each, and what it is worth to all users."""
        return torch.cat([self.items(numbers, categories), self.worth(numbers, categories)], -1)

    def match(self, users: Tensor, items: Tensor) -> Tensor:
        """(..., 1) scores of encoded users and items of shapes that go together."""
        return (users * items).sum(-1)

    def match_all(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, I, 1) scores of B encoded users and I encoded items, all with all."""
        return torch.einsum("umk,imk->uim", users, items)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Numbers and categories (B, ...) of users who met nothing yet, then of items, to scores (B, 1)."""
        return self.match(self.encode_users(*inputs[:2]), self.encode_items(*inputs[2:]))


class HistoryTransformer(HistoryNetwork):
    """Each item attends to itself and to those before it; what is read behind the last says what comes next.

    Args:
        users, items: see `recommenders.Columns`.
        size: of the vector of an item, and of every layer; a multiple of twice the `heads`.
        depth: layers.
        heads: ways of attending in each.
        longest: items of a history that are read together at most.
        dropout: probability in [0, 1) that an entry is blanked while training.
        unknown: while training, the share of items whose own vector is left out, so that columns alone can answer.

    Places are rotary, and the layers those of `LanguageTransformer`.

    >>> network = HistoryTransformer((0, [10]), (0, [20]), size=8).eval()
    >>> users, codes = torch.zeros(2, 1, dtype=torch.int32), torch.tensor([[[3], [7]], [[3], [9]]])
    >>> met = network.encode_items(torch.zeros(2, 2, 0), codes)
    >>> states = network.encode_histories(torch.zeros(2, 0), users, met)
    >>> states.shape, torch.equal(states[0, 1], states[1, 1])
    (torch.Size([2, 3, 1, 9]), True)
    """

    def __init__(
        self,
        users: Columns,
        items: Columns,
        *,
        size: int = 64,
        depth: int = 2,
        heads: int = 2,
        longest: int = 200,
        dropout: float = 0.2,
        unknown: float = 0.0,
    ) -> None:
        super().__init__(users, items, size=size, longest=longest, dropout=dropout, unknown=unknown)
        if size % (2 * heads):
            raise ValueError(f"size is {size}; give a multiple of twice the {heads} heads")
        self.head_size = size // heads
        self.layers = nn.ModuleList(
            DecoderLayer(size, heads, 4 * size, "gelu", normalized_queries=False, dropout=dropout) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(size)

    def forward_features(self, values: Tensor) -> Tensor:
        """(B, T, size) to (B, T, size); nothing later changes an earlier one."""
        turns = rotary_turns(values.shape[1], self.head_size).to(values)
        for layer in self.layers:
            values, _ = layer(values, turns)
        after: Tensor = self.norm(values)
        return after


class HistoryRecurrent(HistoryNetwork):
    """The same, read item by item by gated recurrent units.

    Args:
        depth: layers of units.

    >>> network = HistoryRecurrent((0, [10]), (0, [20]), size=8)
    >>> network(*(torch.zeros(4, columns, dtype=torch.int32) for columns in (0, 1, 0, 1))).shape
    torch.Size([4, 1])
    """

    def __init__(
        self,
        users: Columns,
        items: Columns,
        *,
        size: int = 64,
        depth: int = 1,
        longest: int = 200,
        dropout: float = 0.2,
        unknown: float = 0.0,
    ) -> None:
        super().__init__(users, items, size=size, longest=longest, dropout=dropout, unknown=unknown)
        self.units = nn.GRU(size, size, depth, batch_first=True, dropout=dropout if depth > 1 else 0.0)
        self.norm = nn.RMSNorm(size)

    def forward_features(self, values: Tensor) -> Tensor:
        """(B, T, size) to (B, T, size); nothing later changes an earlier one."""
        after: Tensor = self.norm(self.units(values)[0])
        return after
