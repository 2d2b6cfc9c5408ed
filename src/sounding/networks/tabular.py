"""Networks for tables: numbers and categories side by side.

Sources: embedded categories: Guo and Berkhahn 2016, arXiv:1604.06737; piecewise-linear embeddings of numbers:
Gorishniy et al. 2022, arXiv:2203.05556; ensembles that share their weights: TabM, Gorishniy et al. 2025,
arXiv:2410.24210, after BatchEnsemble, Wen et al. 2020, arXiv:2002.06715.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise

import torch
from rtdl_num_embeddings import PiecewiseLinearEmbeddings
from tabm import LinearBatchEnsemble, LinearEnsemble
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.activations import build_activation
from sounding.networks.feedforward import hidden_layers
from sounding.networks.initialization import initialize


class TabularFeedForward(nn.Module):
    """Embeds the categories, puts the numbers beside them, and goes on as a feed-forward network.

    Args:
        number_features: columns of numbers; may be 0.
        cardinalities: for each column of categories, how many codes it has.
        out_features: outputs for a row, before any softmax.
        bins: for each column of numbers the edges of its bins, ascending, from `quantile_bins`; numbers then get
            piecewise-linear embeddings. Without them they enter as they are.
        number_embedding_size: numbers that stand for one number, where there are `bins`; 0 leaves it as it is.
        one_hot_limit: categories with more codes than this are embedded, the others are one-hot.
        hidden_sizes: see `FeedForward`, as all further options.

    >>> network = TabularFeedForward(2, [3, 500], 1)
    >>> network(torch.zeros(5, 2), torch.zeros(5, 2, dtype=torch.int64)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        number_features: int,
        cardinalities: Sequence[int],
        out_features: int,
        *,
        bins: Sequence[Tensor] | None = None,
        number_embedding_size: int = 16,
        one_hot_limit: int = 2,
        hidden_sizes: Sequence[int] = (256, 256),
        activation: str = "relu",
        normalization: str = "none",
        dropout: float = 0.1,
        skip_connections: bool = False,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        self.columns = TableColumns(number_features, cardinalities, bins, number_embedding_size, one_hot_limit)
        sizes = [sum(self.columns.sizes), *hidden_sizes]
        self.layers = hidden_layers(sizes, activation, normalization, dropout, skip_connections)
        self.num_features = sizes[-1]
        self.head = nn.Linear(self.num_features, out_features)
        initialize(self, initialization)

    def forward_features(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, number_features) and (B, len(cardinalities)) to (B, num_features)."""
        features: Tensor = self.layers(self.columns(numbers, categories))
        return features

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, number_features) float and (B, len(cardinalities)) codes to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(numbers, categories))
        return logits


class TabularEnsemble(nn.Module):
    """Many feed-forward networks that share their weight matrices, and still err differently: TabM.

    Member k reads its input through a scaling of its own, r_k, which is drawn at random for the first layer, one
    value for each column of the table: `((x * r_k) @ W.T) * s_k + b_k`. Only r, s, b and the last layer are a
    member's own. Train each member with its own loss (the mean over members of the loss, not the loss of their mean)
    and average the members' probabilities to predict.

    Args:
        number_features: columns of numbers; may be 0.
        cardinalities: for each column of categories, how many codes it has.
        out_features: outputs for a row, before any softmax.
        bins: as for `TabularFeedForward`.
        number_embedding_size: as for `TabularFeedForward`.
        one_hot_limit: as for `TabularFeedForward`.
        members: how many networks share their weights.
        hidden_sizes: outputs of each hidden layer.
        activation: a name from `ACTIVATIONS`.
        dropout: probability in [0, 1) that a hidden output is blanked while training.

    >>> network = TabularEnsemble(2, [3], 1, members=4, hidden_sizes=[16])
    >>> network(torch.zeros(5, 2), torch.zeros(5, 1, dtype=torch.int64)).shape
    torch.Size([5, 4, 1])
    """

    def __init__(
        self,
        number_features: int,
        cardinalities: Sequence[int],
        out_features: int,
        *,
        bins: Sequence[Tensor] | None = None,
        number_embedding_size: int = 16,
        one_hot_limit: int = 100,
        members: int = 8,
        hidden_sizes: Sequence[int] = (192, 192),
        activation: str = "relu",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not hidden_sizes:
            raise ValueError("an ensemble that shares its hidden layers needs one; give hidden_sizes, such as [256]")
        self.members = members
        self.columns = TableColumns(number_features, cardinalities, bins, number_embedding_size, one_hot_limit)
        # TabM, section 3.3: random scalings in the first layer alone; with embedded numbers normal ones do better
        first = "random-signs" if self.columns.numbers is None else "normal"
        layers: list[nn.Module] = []
        sizes = [sum(self.columns.sizes), *hidden_sizes]
        for depth, (before, after) in enumerate(pairwise(sizes)):
            layers += [
                LinearBatchEnsemble(
                    before,
                    after,
                    k=members,
                    scaling_init=("ones" if depth else first, "ones"),
                    first_scaling_init_chunks=None if depth else self.columns.sizes,
                ),
                build_activation(activation),
                nn.Dropout(dropout),
            ]
        self.layers = nn.Sequential(*layers)
        self.num_features = sizes[-1]
        self.head = LinearEnsemble(self.num_features, out_features, k=members)

    def forward_features(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, number_features) and (B, len(cardinalities)) to (B, members, num_features)."""
        row = self.columns(numbers, categories)  # (B, sum of sizes)
        features: Tensor = self.layers(row[:, None].expand(-1, self.members, -1))
        return features

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, number_features) float and (B, len(cardinalities)) codes to logits (B, members, out_features)."""
        logits: Tensor = self.head(self.forward_features(numbers, categories))
        return logits


class TableColumns(nn.Module):
    """The columns of a table as one row of numbers: numbers first, then categories.

    `sizes` says how many numbers stand for each column. The edges of the bins are kept in the state, so a network
    that is built with as many bins for each column (whatever their edges) can load it.
    """

    def __init__(
        self,
        number_features: int,
        cardinalities: Sequence[int],
        bins: Sequence[Tensor] | None,
        number_embedding_size: int,
        one_hot_limit: int,
    ) -> None:
        super().__init__()
        if number_embedding_size == 0:
            bins = None
        if bins and len(bins) != number_features:
            raise ValueError(f"there are bins for {len(bins)} columns and {number_features} columns of numbers")
        self.numbers: nn.Module | None = None
        if bins:
            with warnings.catch_warnings():  # a column with two values has one bin, and that is well
                warnings.filterwarnings("ignore", message=".*just two bin edges")
                self.numbers = PiecewiseLinearEmbeddings(
                    list(bins), number_embedding_size, activation=False, version="B"
                )
        categories = [
            OneHot(count) if count <= one_hot_limit else nn.Embedding(count, embedding_size(count))
            for count in cardinalities
        ]
        self.categories = nn.ModuleList(categories)
        self.sizes = [number_embedding_size if bins else 1] * number_features
        self.sizes += [column.embedding_dim for column in categories]

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, columns of numbers) and (B, columns of categories) to (B, sum of sizes)."""
        if self.numbers is not None:
            numbers = self.numbers(numbers).flatten(1)
        codes = categories.unbind(1)
        return torch.cat([numbers, *(column(c) for column, c in zip(self.categories, codes, strict=True))], 1)


class OneHot(nn.Module):
    """Codes (B,) to (B, count): 1 at the code, 0 elsewhere."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.embedding_dim = count

    def forward(self, codes: Tensor) -> Tensor:
        """Codes (B,) in [0, count) to float (B, count)."""
        return F.one_hot(codes.long(), self.embedding_dim).float()


def embedding_size(count: int) -> int:
    """How many numbers stand for a category of a column with so many codes: the rule of thumb of fastai.

    >>> [embedding_size(count) for count in (2, 10, 1000, 100_000)]
    [2, 6, 77, 600]
    """
    return min(count, 600, round(1.6 * math.pow(count, 0.56)))


def quantile_bins(numbers: Tensor, count: int) -> list[Tensor]:
    """For each column the edges of bins: quantiles of its rows, and quantiles of its distinct values.

    There are at most 2 * `count` bins. The quantiles of the distinct values give the tail of a column that is nearly
    always the same a resolution of its own. Columns with few distinct values get an edge at each, and a constant
    column a single bin around its value.

    numbers: (N, columns) float, all finite, N at least 1.
    Source:  Gorishniy et al. 2022, arXiv:2203.05556, section 3.2.1, for the quantiles of the rows.

    >>> quantile_bins(torch.tensor([[0.0, 7.0], [0.0, 7.0], [0.0, 7.0], [2.0, 7.0], [4.0, 7.0]]), 2)
    [tensor([0., 2., 4.]), tensor([ 3.5000, 10.5000])]
    """
    if len(numbers) > 2**24:  # what torch.quantile takes; so many rows place the edges as well as all
        numbers = numbers[:: -(-len(numbers) // 2**24)]
    at = torch.linspace(0.0, 1.0, count + 1, dtype=numbers.dtype, device=numbers.device)
    quantiles = [
        torch.cat([torch.quantile(column, at), torch.quantile(torch.unique(column), at)])
        for column in numbers.unbind(1)
    ]
    bins = [torch.unique(edges) for edges in quantiles]
    return [edges if len(edges) > 1 else _around(edges) for edges in bins]


def _around(value: Tensor) -> Tensor:
    """Two edges with a value (1,) in their middle, far enough apart for its precision."""
    half = value.abs().clamp(min=1.0) / 2
    return torch.cat([value - half, value + half])
