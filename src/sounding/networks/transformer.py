"""Networks whose words look at each other.

Sources: Vaswani et al. 2017, arXiv:1706.03762; normalization before each part: Xiong et al. 2020, arXiv:2002.04745;
rotary positions: Su et al. 2021, arXiv:2104.09864; stochastic depth: Huang et al. 2016, arXiv:1603.09382.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._choice import choose
from sounding.networks._padding import real_places, words_of
from sounding.networks.activations import build_activation
from sounding.networks.initialization import initialize
from sounding.networks.stochastic_depth import StochasticDepth, linear_decay

POSITIONS = {name: name for name in ("learned", "sinusoidal", "rotary", "none")}


class TransformerNetwork(nn.Module):
    """Reads a text by letting each word attend to all others, and answers from the mean over its words.

    Padding never changes the result: no word attends to it, and the mean leaves it out.

    Args:
        vocabulary_size: how many codes there are, with that of padding.
        out_features: outputs for a text, before any softmax.
        hidden_size: numbers that stand for a word, in every layer.
        depth: layers.
        heads: ways of attending in each layer; `hidden_size` is a multiple of it.
        feed_forward_size: hidden outputs of the feed-forward part of each layer; four times `hidden_size` if 0.
        positions: how a word knows its place: `learned` or `sinusoidal` (added to its embedding), `rotary` (what
            attends is turned by its place) or `none`.
        longest: words in the longest text, for `learned` positions.
        activation: a name from `ACTIVATIONS`.
        dropout: probability in [0, 1) that an entry is blanked while training: of embeddings, of attention, of what
            each part adds, and of the features.
        stochastic_depth: probability in [0, 1) that each part of the last layer is left out for a text while training;
            it falls evenly towards the first layer.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = TransformerNetwork(1000, 2, hidden_size=32, heads=4)
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 0, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        hidden_size: int = 128,
        depth: int = 2,
        heads: int = 4,
        feed_forward_size: int = 0,
        positions: str = "rotary",
        longest: int = 512,
        activation: str = "gelu",
        dropout: float = 0.1,
        stochastic_depth: float = 0.0,
        initialization: str = "xavier",
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, hidden_size, padding_idx=0)
        self.encoder = TransformerEncoder(
            hidden_size,
            depth=depth,
            heads=heads,
            feed_forward_size=feed_forward_size,
            positions=positions,
            longest=longest,
            activation=activation,
            dropout=dropout,
            stochastic_depth=stochastic_depth,
        )
        self.dropout = nn.Dropout(dropout)
        self.num_features = hidden_size
        self.head = nn.Linear(hidden_size, out_features)
        initialize(self, initialization)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) codes to (B, num_features)."""
        codes = words_of(tokens)
        real = real_places(codes)
        words = self.encoder(self.embedding(codes), real)  # (B, L, hidden_size)
        weights = real.to(words)[..., None]  # (B, L, 1)
        features: Tensor = self.dropout((words * weights).sum(1) / weights.sum(1))
        return features

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) codes in [0, vocabulary_size), 0 for padding at the end, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits


class TransformerEncoder(nn.Module):
    """Layers of attention and feed-forward parts over sequences of rows of numbers.

    See `TransformerNetwork` for the options.

    Raises:
        ValueError: when a sequence is longer than `longest` and positions are learned.

    >>> encoder = TransformerEncoder(32)
    >>> encoder(torch.zeros(2, 5, 32), torch.ones(2, 5, dtype=torch.bool)).shape
    torch.Size([2, 5, 32])
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        depth: int = 2,
        heads: int = 4,
        feed_forward_size: int = 0,
        positions: str = "rotary",
        longest: int = 512,
        activation: str = "gelu",
        dropout: float = 0.1,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        if hidden_size % (2 * heads):
            raise ValueError(f"hidden_size is {hidden_size}; give a multiple of twice the {heads} heads")
        choose("positions", positions, POSITIONS)
        self.positions, self.heads = positions, heads
        if positions == "learned":
            self.places = nn.Parameter(torch.empty(longest, hidden_size))
            nn.init.normal_(self.places, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(hidden_size, heads, feed_forward_size or 4 * hidden_size, activation, dropout, drop)
            for drop in linear_decay(stochastic_depth, depth)
        )
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, values: Tensor, real: Tensor) -> Tensor:
        """Values (B, L, hidden_size), and which of them are no padding (B, L) bool, to (B, L, hidden_size)."""
        length, size = values.shape[1:]
        turns = None
        if self.positions == "learned":
            if length > len(self.places):
                raise ValueError(f"a sequence has {length} steps and `longest` is {len(self.places)}; cut or raise it")
            values = values + self.places[:length]
        elif self.positions == "sinusoidal":
            values = values + sinusoidal_positions(length, size).to(values)
        elif self.positions == "rotary":
            turns = rotary_turns(length, size // self.heads).to(values)
        values = self.dropout(values)
        mask = real[:, None, None, :]  # (B, heads, from, to): nobody attends to padding
        for layer in self.layers:
            values = layer(values, mask, turns)
        normed: Tensor = self.norm(values)
        return normed


class TransformerLayer(nn.Module):
    """Attention, then a feed-forward part; each reads normalized values and adds to them."""

    def __init__(
        self,
        hidden_size: int,
        heads: int,
        feed_forward_size: int,
        activation: str,
        dropout: float,
        stochastic_depth: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.attention = Attention(hidden_size, heads, dropout)
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, feed_forward_size),
            build_activation(activation),
            nn.Dropout(dropout),
            nn.Linear(feed_forward_size, hidden_size),
        )
        self.dropout = nn.Dropout(dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, values: Tensor, mask: Tensor, turns: Tensor | None) -> Tensor:
        """(B, L, hidden_size) to the same; see `Attention` for mask and turns."""
        attended = self.attention(self.attention_norm(values), mask, turns)
        values = values + self.stochastic_depth(self.dropout(attended))
        changed = self.feed_forward(self.feed_forward_norm(values))
        after: Tensor = values + self.stochastic_depth(self.dropout(changed))
        return after


class Attention(nn.Module):
    """Each step gathers from the others what answers its question: softmax(Q Kᵀ / √size) V, in several heads."""

    def __init__(self, hidden_size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inward = nn.Linear(hidden_size, 3 * hidden_size)  # questions, keys and values
        self.outward = nn.Linear(hidden_size, hidden_size)

    def forward(self, values: Tensor, mask: Tensor, turns: Tensor | None = None) -> Tensor:
        """Attend.

        values:   (B, L, hidden_size).
        mask:     bool, broadcast to (B, heads, L, L): may this step attend to that.
        turns:    (L, size of a head / 2, 2) from `rotary_turns`, or none.
        Returns:  (B, L, hidden_size).
        """
        batch, length, size = values.shape
        split = self.inward(values).view(batch, length, 3, self.heads, size // self.heads)
        questions, keys, answers = split.permute(2, 0, 3, 1, 4)  # each (B, heads, L, size of a head)
        if turns is not None:
            questions, keys = turn(questions, turns), turn(keys, turns)
        dropout = self.dropout if self.training else 0.0
        gathered = F.scaled_dot_product_attention(questions, keys, answers, attn_mask=mask, dropout_p=dropout)
        mixed: Tensor = self.outward(gathered.transpose(1, 2).flatten(2))
        return mixed


def _angles(length: int, size: int) -> Tensor:
    """(L, size / 2): place times a frequency that falls from 1 to 1/10000."""
    frequencies = 10_000.0 ** -(torch.arange(0, size, 2) / size)
    return torch.arange(length)[:, None] * frequencies


def sinusoidal_positions(length: int, size: int) -> Tensor:
    """(L, size): sines and cosines of each place, by turns (Vaswani et al. 2017, section 3.5).

    >>> sinusoidal_positions(2, 2)
    tensor([[0.0000, 1.0000],
            [0.8415, 0.5403]])
    """
    angles = _angles(length, size)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)


def rotary_turns(length: int, size: int) -> Tensor:
    """(L, size / 2, 2): cosine and sine of the angle by which each pair of numbers is turned at each place."""
    angles = _angles(length, size)
    return torch.stack([angles.cos(), angles.sin()], -1)


def turn(values: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair of numbers; what two steps then have in common depends on their distance alone.

    values: (..., L, size). turns: (L, size / 2, 2). Returns (..., L, size).
    """
    x, y = values.view(*values.shape[:-1], -1, 2).unbind(-1)
    cosine, sine = turns.unbind(-1)
    return torch.stack([x * cosine - y * sine, x * sine + y * cosine], -1).flatten(-2)
