"""Networks that say how much a user likes an item, from who and what they are.

Sources: factors and biases: Koren, Bell and Volinsky 2009, "Matrix factorization techniques for recommender systems";
columns beside them: Rendle 2010, "Factorization machines"; neural factorisation: He et al. 2017, arXiv:1708.05031; two
towers: Covington et al. 2016, "Deep neural networks for YouTube recommendations"; users and items that are left out
while training, so that columns alone can answer: Volkovs et al. 2017, "DropoutNet".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sounding.networks.feedforward import hidden_layers

Columns = tuple[int, Sequence[int]]
"""Of a user or an item: columns of numbers, and the codes of each column of categories, of which the first is its own.

Code 0 is a user or an item that training did not meet."""


class Factors(nn.Module):
    """A vector for each user, or item, that is the sum of one of its own and of what its columns say.

    Args:
        columns: see `Columns`.
        members: so many vectors, each from parameters of its own.
        size: of a vector.
        unknown: while training, the share of rows whose own vector is left out.
        scale: standard deviation of a first vector's length.
        own: whether users, or items, have a vector of their own, beside their columns.

    The vectors are no `nn.Embedding`, whose weights do not decay: here it is decay that keeps rare users near the mean.

    >>> Factors((2, [10, 3]), members=4, size=8)(torch.zeros(5, 2), torch.ones(5, 2, dtype=torch.int32)).shape
    torch.Size([5, 4, 8])
    """

    def __init__(
        self,
        columns: Columns,
        *,
        members: int,
        size: int,
        unknown: float = 0.1,
        scale: float = 0.1,
        own: bool = True,
    ) -> None:
        super().__init__()
        numbers, cardinalities = columns
        self.shape, self.unknown = (members, size), unknown
        first = torch.randn(cardinalities[0], members * size) * scale / size**0.5 if own else None
        self.own = None if first is None else nn.Parameter(first)
        self.numbers = nn.Linear(numbers, members * size, bias=False) if numbers else None
        self.categories = nn.ParameterList(
            torch.randn(count, members * size) * 0.1 * scale / size**0.5 for count in cardinalities[1:]
        )
        if self.numbers is not None:
            nn.init.normal_(self.numbers.weight, std=0.1 * scale / size**0.5)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., columns of numbers) and (..., columns of categories) to (..., members, size)."""
        codes = categories.long().unbind(-1)
        vectors = self._own(codes[0])
        if self.numbers is not None:
            vectors = vectors + self.numbers(numbers)
        for weight, code in zip(self.categories, codes[1:], strict=True):
            vectors = vectors + weight[code]
        return vectors.reshape(*vectors.shape[:-1], *self.shape)

    def _own(self, codes: Tensor) -> Tensor:
        """(..., members * size): 0 where there is none."""
        if self.own is None:
            return torch.zeros(*codes.shape, math.prod(self.shape), device=codes.device)
        known = codes > 0
        if self.training and self.unknown > 0:
            known = known & (torch.rand(known.shape, device=known.device) >= self.unknown)
        return self.own[codes] * known[..., None]


class MatrixFactorization(nn.Module):
    """The product of a user's and an item's factors, and what both are worth by themselves, by several members.

    Args:
        users, items: see `Columns`.
        members: networks that learn beside each other; their mean is better than each.
        size: factors.
        unknown: see `Factors`.

    >>> network = MatrixFactorization((0, [10]), (2, [20, 5]), members=3)
    >>> user, item = torch.zeros(4, 1, dtype=torch.int32), torch.zeros(4, 2, dtype=torch.int32)
    >>> network(torch.zeros(4, 0), user, torch.zeros(4, 2), item).shape
    torch.Size([4, 3])
    """

    def __init__(
        self, users: Columns, items: Columns, *, members: int = 8, size: int = 16, unknown: float = 0.1
    ) -> None:
        super().__init__()
        self.members = members
        self.users = Factors(users, members=members, size=size + 1, unknown=unknown)
        self.items = Factors(items, members=members, size=size + 1, unknown=unknown)
        self.constant = nn.Parameter(torch.zeros(members))

    def encode_users(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., members, size + 2): factors, what the user is worth, and 1."""
        return _with_worth(self.users(numbers, categories), last=False)

    def encode_items(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., members, size + 2): factors, 1, and what the item is worth."""
        return _with_worth(self.items(numbers, categories), last=True)

    def match(self, users: Tensor, items: Tensor) -> Tensor:
        """(..., members) scores of encoded users and items of shapes that go together."""
        return (users * items).sum(-1) + self.constant

    def match_all(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, I, members) scores of B encoded users and I encoded items, all with all."""
        return torch.einsum("umk,imk->uim", users, items) + self.constant

    def forward(self, *inputs: Tensor) -> Tensor:
        """Numbers and categories of users (B, ...), then of items, to scores (B, members)."""
        return self.match(self.encode_users(*inputs[:2]), self.encode_items(*inputs[2:]))


class TwoTowers(MatrixFactorization):
    """The same, with hidden layers between the factors of each side and their product.

    Args:
        hidden_sizes: of each tower, before its `size` outputs.
        activation, dropout: of its hidden layers.
    """

    def __init__(
        self,
        users: Columns,
        items: Columns,
        *,
        size: int = 32,
        hidden_sizes: Sequence[int] = (64,),
        activation: str = "relu",
        dropout: float = 0.1,
        unknown: float = 0.1,
    ) -> None:
        nn.Module.__init__(self)
        self.members = 1
        width = hidden_sizes[0] if hidden_sizes else size
        self.users = Factors(users, members=1, size=width, unknown=unknown, scale=1.0)
        self.items = Factors(items, members=1, size=width, unknown=unknown, scale=1.0)
        self.user_tower, self.item_tower = (
            nn.Sequential(
                hidden_layers([width, *hidden_sizes], activation, "none", dropout, False),
                nn.Linear(hidden_sizes[-1] if hidden_sizes else width, size + 1),
            )
            for _ in range(2)
        )
        self.constant = nn.Parameter(torch.zeros(1))

    def encode_users(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., 1, size + 2)."""
        return _with_worth(self.user_tower(self.users(numbers, categories)), last=False)

    def encode_items(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., 1, size + 2)."""
        return _with_worth(self.item_tower(self.items(numbers, categories)), last=True)


class NeuralFactorization(MatrixFactorization):
    """The product of factors, and beside it hidden layers that read other factors of both: section 3.4 of the paper.

    Args:
        hidden_sizes: of the layers behind the first, which is a sum of what comes from the user and from the item.
    """

    def __init__(
        self,
        users: Columns,
        items: Columns,
        *,
        size: int = 16,
        hidden_sizes: Sequence[int] = (32, 16),
        activation: str = "relu",
        dropout: float = 0.1,
        unknown: float = 0.1,
    ) -> None:
        nn.Module.__init__(self)
        self.members, self.size = 1, size
        width = hidden_sizes[0]
        self.users = Factors(users, members=1, size=size + 1, unknown=unknown)
        self.items = Factors(items, members=1, size=size + 1, unknown=unknown)
        self.more_users = Factors(users, members=1, size=width, unknown=unknown, scale=1.0)
        self.more_items = Factors(items, members=1, size=width, unknown=unknown, scale=1.0)
        self.layers = nn.Sequential(
            nn.ReLU(), hidden_layers(hidden_sizes, activation, "none", dropout, False), nn.Linear(hidden_sizes[-1], 1)
        )
        self.constant = nn.Parameter(torch.zeros(1))

    def encode_users(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., 1, size + 2 + width)."""
        factors = _with_worth(self.users(numbers, categories), last=False)
        return torch.cat([factors, self.more_users(numbers, categories)], -1)

    def encode_items(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(..., 1, size + 2 + width)."""
        factors = _with_worth(self.items(numbers, categories), last=True)
        return torch.cat([factors, self.more_items(numbers, categories)], -1)

    def match(self, users: Tensor, items: Tensor) -> Tensor:
        """(..., 1)."""
        split = self.size + 2
        product = (users[..., :split] * items[..., :split]).sum(-1)
        read: Tensor = self.layers(users[..., split:] + items[..., split:])
        return product + read.squeeze(-1) + self.constant

    def match_all(self, users: Tensor, items: Tensor) -> Tensor:
        """(B, I, 1)."""
        return self.match(users[:, None], items[None])


def _with_worth(vectors: Tensor, *, last: bool) -> Tensor:
    """Factors whose last entry is what a user or item is worth by itself, with the 1 by which the other's is taken."""
    one = torch.ones_like(vectors[..., :1])
    return torch.cat([vectors, one] if not last else [vectors[..., :-1], one, vectors[..., -1:]], -1)
