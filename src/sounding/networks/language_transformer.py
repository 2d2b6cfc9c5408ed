"""A network that reads a text from its beginning and says at each place what comes next: a decoder of the GPT kind.

Sources: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3; rotary positions: Su
et al. 2021, arXiv:2104.09864, section 3.4; RMS norm: Zhang and Sennrich 2019, arXiv:1910.07467; normalized queries and
keys: Henry et al. 2020, arXiv:2010.04245; squared ReLU: So et al. 2021, arXiv:2109.08668, section 4.1.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.activations import build_activation
from sounding.networks.transformer import rotary_turns, turn


class Cache(NamedTuple):
    """What a decoder keeps of the tokens that it has read."""

    keys: tuple[Tensor, ...]
    """For each layer (B, heads, L, size of a head), turned by their places already."""
    values: tuple[Tensor, ...]

    @property
    def length(self) -> int:
        """How many tokens were read."""
        return self.keys[0].shape[2]


class LanguageTransformer(nn.Module):
    """Reads tokens from the first to the last; each attends to itself and to those before it, and foretells the next.

    Args:
        vocabulary_size: how many codes there are, with that of padding.
        out_features: how many codes are foretold: mostly the same number.
        hidden_size: numbers that stand for a token, in every layer.
        depth: layers.
        heads: ways of attending in each layer; `hidden_size` is a multiple of twice their number.
        feed_forward_size: hidden outputs of the feed-forward part of each layer; four times `hidden_size` if 0.
        activation: a name from `ACTIVATIONS`, or `squared_relu`.
        normalized_queries: whether queries and keys have length 1 in each head before they meet, times a learned scale.
        dropout: probability in [0, 1) that an entry is blanked while training: of embeddings, of attention, and of what
            each part adds.

    >>> network = LanguageTransformer(50, 50, hidden_size=32, depth=2)
    >>> network(torch.tensor([[5, 7, 2, 9]])).shape
    torch.Size([1, 4, 50])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        hidden_size: int = 128,
        depth: int = 4,
        heads: int = 4,
        feed_forward_size: int = 0,
        activation: str = "squared_relu",
        normalized_queries: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if hidden_size % (2 * heads):
            raise ValueError(f"hidden_size is {hidden_size}; give a multiple of twice the {heads} heads")
        self.head_size = hidden_size // heads
        self.embedding = nn.Embedding(vocabulary_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        inner = feed_forward_size or 4 * hidden_size
        self.layers = nn.ModuleList(
            DecoderLayer(hidden_size, heads, inner, activation, normalized_queries, dropout) for _ in range(depth)
        )
        self.norm = nn.RMSNorm(hidden_size)
        self.num_features = hidden_size
        self.head = nn.Linear(hidden_size, out_features, bias=False)
        self._initialize(depth)

    def _initialize(self, depth: int) -> None:
        """As GPT-2: normal; what each part adds is smaller the more parts there are, so that the sum is not larger."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                small = name.endswith("outward.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if small else 0.02)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) codes to (B, L, num_features); no later token changes an earlier feature."""
        return self._read(tokens, None)[0]

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) codes in [0, vocabulary_size) to logits (B, L, out_features) of the token behind each."""
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits

    def step(self, tokens: Tensor, memory: Cache | None = None) -> tuple[Tensor, Cache]:
        """Read on: the logits (B, out_features) of what follows the last of (B, L) tokens, and what to remember.

        memory: what an earlier step gave, for the tokens before these; none at the beginning.

        >>> network = LanguageTransformer(50, 50, hidden_size=32, depth=2).eval()
        >>> _, memory = network.step(torch.tensor([[5, 7]]))
        >>> logits, _ = network.step(torch.tensor([[2]]), memory)
        >>> torch.allclose(logits, network(torch.tensor([[5, 7, 2]]))[:, -1], atol=1e-5)
        True
        """
        features, cache = self._read(tokens, memory)
        logits: Tensor = self.head(features[:, -1])
        return logits, cache

    def _read(self, tokens: Tensor, memory: Cache | None) -> tuple[Tensor, Cache]:
        start, length = 0 if memory is None else memory.length, tokens.shape[1]
        turns = rotary_turns(start + length, self.head_size)[start:].to(self.embedding.weight)
        values: Tensor = self.dropout(self.embedding(tokens))
        kept = []
        for number, layer in enumerate(self.layers):
            earlier = None if memory is None else (memory.keys[number], memory.values[number])
            values, own = layer(values, turns, earlier)
            kept.append(own)
        return self.norm(values), Cache(*(tuple(part) for part in zip(*kept, strict=True)))


class DecoderLayer(nn.Module):
    """Attention to what came before, then a feed-forward part; each reads normalized values and adds to them."""

    def __init__(
        self, hidden_size: int, heads: int, inner: int, activation: str, normalized_queries: bool, dropout: float
    ) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(hidden_size)
        self.attention = CausalAttention(hidden_size, heads, normalized_queries, dropout)
        self.feed_forward_norm = nn.RMSNorm(hidden_size)
        self.inward = nn.Linear(hidden_size, inner, bias=False)
        self.activation = SquaredReLU() if activation == "squared_relu" else build_activation(activation)
        self.outward = nn.Linear(inner, hidden_size, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, values: Tensor, turns: Tensor, earlier: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(B, L, hidden_size) to the same, and the keys and values of all tokens so far."""
        attended, kept = self.attention(self.attention_norm(values), turns, earlier)
        values = values + self.dropout(attended)
        changed = self.outward(self.activation(self.inward(self.feed_forward_norm(values))))
        after: Tensor = values + self.dropout(changed)
        return after, kept


class CausalAttention(nn.Module):
    """Each token gathers from itself and those before it: softmax(Q Kᵀ / √size) V, in several heads."""

    def __init__(self, hidden_size: int, heads: int, normalized_queries: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inward = nn.Linear(hidden_size, 3 * hidden_size, bias=False)  # queries, keys and values
        self.outward = nn.Linear(hidden_size, hidden_size, bias=False)
        head_size = hidden_size // heads
        # cosines alone are too flat: the usual softmax sees differences of the order of the square root of the size
        self.sharpness = nn.Parameter(torch.full((heads, 1, 1), math.sqrt(head_size))) if normalized_queries else None

    def forward(
        self, values: Tensor, turns: Tensor, earlier: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Attend.

        values:   (B, L, hidden_size).
        turns:    (L, size of a head / 2, 2) from `rotary_turns`, for the places of these tokens.
        earlier:  keys and values (B, heads, E, size of a head) of the tokens before these.
        Returns:  (B, L, hidden_size), and keys and values of all E + L tokens.
        """
        batch, length, size = values.shape
        split = self.inward(values).view(batch, length, 3, self.heads, size // self.heads)
        queries, keys, answers = split.permute(2, 0, 3, 1, 4)  # each (B, heads, L, size of a head)
        queries, keys = turn(queries, turns), turn(keys, turns)
        if self.sharpness is not None:
            queries = F.normalize(queries, dim=-1) * self.sharpness
            keys = F.normalize(keys, dim=-1)
        scale = None if self.sharpness is None else 1.0
        if earlier is not None:
            keys, answers = torch.cat([earlier[0], keys], 2), torch.cat([earlier[1], answers], 2)
        before = keys.shape[2] - length
        # the i-th of these tokens sees all earlier ones and the first i + 1 of these
        mask = (
            torch.ones(length, before + length, dtype=torch.bool, device=keys.device).tril(before) if before else None
        )
        gathered = F.scaled_dot_product_attention(
            queries,
            keys,
            answers,
            attn_mask=mask,
            is_causal=mask is None,
            dropout_p=self.dropout if self.training else 0.0,
            scale=scale,
        )
        mixed: Tensor = self.outward(gathered.transpose(1, 2).flatten(2))
        return mixed, (keys, answers)


class SquaredReLU(nn.Module):
    """max(0, x)²."""

    def forward(self, values: Tensor) -> Tensor:
        """Any shape."""
        return F.relu(values).square()
