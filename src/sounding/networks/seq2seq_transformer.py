"""A transformer that reads a sequence with its encoder and writes another with its decoder.

Sources: Vaswani et al. 2017, arXiv:1706.03762; normalization before each part: Xiong et al. 2020, arXiv:2002.04745;
rotary positions: Su et al. 2021, arXiv:2104.09864; one matrix for embeddings and outputs: Press and Wolf 2017,
arXiv:1608.05859.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._padding import real_places, trimmed
from sounding.networks._tied import TiedHead
from sounding.networks.activations import build_activation
from sounding.networks.decoding import State
from sounding.networks.transformer import rotary_turns, turn

KeysAndAnswers = tuple[Tensor, Tensor]
"""Of a sequence by which it is found and what is then said, each (B, heads, L, size of a head)."""


class Seq2SeqTransformer(nn.Module):
    """Reads a sequence, and says of each place of another what comes next there.

    Padding never changes the result. Embeddings of what is read, of what is written, and the outputs are one matrix, so
    both have one vocabulary.

    Args:
        vocabulary_size: how many codes there are, with those of padding, begin and end.
        out_features: the same number.
        hidden_size: numbers that stand for a token, in every layer; a multiple of twice `heads`.
        encoder_depth: layers that read.
        decoder_depth: layers that write.
        heads: ways of attending in each layer.
        feed_forward_size: hidden outputs of the feed-forward part of each layer; four times `hidden_size` if 0.
        activation: a name from `ACTIVATIONS`.
        dropout: probability in [0, 1) that an entry is blanked while training: of embeddings, and of what each part
            adds.

    >>> network = Seq2SeqTransformer(50, 50, hidden_size=32, heads=4)
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 2, 0, 0]]), torch.tensor([[1, 8, 6], [1, 4, 0]])).shape
    torch.Size([2, 3, 50])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        hidden_size: int = 128,
        encoder_depth: int = 3,
        decoder_depth: int = 3,
        heads: int = 4,
        feed_forward_size: int = 0,
        activation: str = "relu",
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if out_features != vocabulary_size:
            raise ValueError(f"out_features is {out_features}; give that of the vocabulary, {vocabulary_size}")
        if hidden_size % (2 * heads):
            raise ValueError(f"hidden_size is {hidden_size}; give a multiple of twice the {heads} heads")
        sizes = (hidden_size, heads, feed_forward_size or 4 * hidden_size, activation, dropout)
        self.heads = heads
        self.embedding = nn.Embedding(vocabulary_size, hidden_size, padding_idx=0)
        self.encoder = nn.ModuleList(Layer(*sizes) for _ in range(encoder_depth))
        self.encoder_norm = nn.LayerNorm(hidden_size)
        self.decoder = nn.ModuleList(WritingLayer(*sizes) for _ in range(decoder_depth))
        self.decoder_norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.num_features = hidden_size
        self.head = TiedHead(self.embedding)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.xavier_uniform_(parameter)
        nn.init.normal_(self.embedding.weight, std=hidden_size**-0.5)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) codes to (B, L', hidden_size) and whether these are no padding, (B, L') bool; L' is the longest."""
        source = trimmed(source)
        real = real_places(source)
        values = self._embedded(source)
        turns = self._turns(0, source.shape[1], values)
        for layer in self.encoder:
            values = layer(values, turns, real[:, None, None, :])
        return self.encoder_norm(values), real

    def forward_features(self, source: Tensor, written: Tensor) -> Tensor:
        """(B, L) codes that are read and (B, T) codes that were written before each place, to (B, T, num_features)."""
        read, real = self.encode(source)
        values = self._embedded(written)
        turns = self._turns(0, written.shape[1], values)
        for layer in self._writing():
            values = layer.attended(values, turns, causal=True)
            values = layer.written(values, layer.across.keys(read), real[:, None, None, :])
        features: Tensor = self.decoder_norm(values)
        return features

    def forward(self, source: Tensor, written: Tensor) -> Tensor:
        """Logits of what comes next.

        source:   (B, L) codes in [0, vocabulary_size), 0 for padding at the end.
        written:  (B, T) codes: the mark of the beginning, then what was written before each place.
        Returns:  (B, T, vocabulary_size).
        """
        logits: Tensor = self.head(self.forward_features(source, written))
        return logits

    def begin(self, source: Tensor) -> State:
        """Where the source is no padding, and for each layer keys and values of the source and of nothing written."""
        read, real = self.encode(source)
        size = self.num_features // self.heads
        nothing = read.new_zeros(len(read), self.heads, 0, size)
        layers = ((*layer.across.keys(read), nothing, nothing) for layer in self._writing())
        return (real, *(tensor for parts in layers for tensor in parts))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (B, codes) after (B,) codes, and the state with what is now written."""
        real, *caches = state
        values = self._embedded(tokens[:, None])
        place = caches[2].shape[2]
        turns = self._turns(place, place + 1, values)
        kept = [real]
        for number, layer in enumerate(self._writing()):
            keys, answers, own_keys, own_answers = caches[4 * number : 4 * number + 4]
            new_keys, new_answers = layer.within.keys(layer.within_norm(values), turns)
            own = (torch.cat([own_keys, new_keys], 2), torch.cat([own_answers, new_answers], 2))
            values = layer.attended(values, turns, own=own)
            values = layer.written(values, (keys, answers), real[:, None, None, :])
            kept += [keys, answers, *own]
        logits: Tensor = self.head(self.decoder_norm(values))[:, 0]
        return logits, tuple(kept)

    def attention(self, source: Tensor, written: Tensor) -> Tensor:
        """(B, T, L') where in the source the last layer but one looks, the mean of its heads; rows sum to 1."""
        read, real = self.encode(source)
        values = self._embedded(written)
        turns = self._turns(0, written.shape[1], values)
        mask = real[:, None, None, :]
        shown = max(len(self.decoder) - 2, 0)
        for layer in self._writing()[:shown]:
            values = layer.written(layer.attended(values, turns, causal=True), layer.across.keys(read), mask)
        layer = self._writing()[shown]
        values = layer.across_norm(layer.attended(values, turns, causal=True))
        return layer.across.weights(values, layer.across.keys(read)[0], mask).mean(1)

    def _writing(self) -> list[WritingLayer]:
        return cast("list[WritingLayer]", list(self.decoder))

    def _embedded(self, codes: Tensor) -> Tensor:
        embedded: Tensor = self.dropout(self.embedding(codes) * math.sqrt(self.num_features))
        return embedded

    def _turns(self, low: int, high: int, like: Tensor) -> Tensor:
        return rotary_turns(high, self.num_features // self.heads)[low:].to(like)


class Layer(nn.Module):
    """Attention to its own sequence and a feed-forward part; each reads normalized values and adds to them."""

    def __init__(self, hidden_size: int, heads: int, feed_forward_size: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.within_norm, self.within = nn.LayerNorm(hidden_size), HeadedAttention(hidden_size, heads)
        self.feed_forward_norm = nn.LayerNorm(hidden_size)
        self.feed_forward = nn.Sequential(
            nn.Linear(hidden_size, feed_forward_size),
            build_activation(activation),
            nn.Linear(feed_forward_size, hidden_size),
        )
        self.dropout = nn.Dropout(dropout)

    def attended(
        self,
        values: Tensor,
        turns: Tensor,
        *,
        mask: Tensor | None = None,
        own: KeysAndAnswers | None = None,
        causal: bool = False,
    ) -> Tensor:
        """Values (B, T, hidden_size) with what they gather from their own sequence.

        turns:   see `rotary_turns`, for these places.
        mask:    bool, broadcast to (B, heads, T, places): may this place attend to that.
        own:     of the places of the sequence that came before and of these, where they are known.
        causal:  whether each place attends to those before it and to itself alone.
        """
        normed = self.within_norm(values)
        keys = self.within.keys(normed, turns) if own is None else own
        added: Tensor = values + self.dropout(self.within(normed, keys, turns, mask=mask, causal=causal))
        return added

    def thought(self, values: Tensor) -> Tensor:
        """Values with what the feed-forward part makes of them."""
        after: Tensor = values + self.dropout(self.feed_forward(self.feed_forward_norm(values)))
        return after

    def forward(self, values: Tensor, turns: Tensor, mask: Tensor) -> Tensor:
        """(B, L, hidden_size) to the same."""
        return self.thought(self.attended(values, turns, mask=mask))


class WritingLayer(Layer):
    """The same, with attention to the sequence that was read between the two."""

    def __init__(self, hidden_size: int, heads: int, feed_forward_size: int, activation: str, dropout: float) -> None:
        super().__init__(hidden_size, heads, feed_forward_size, activation, dropout)
        self.across_norm, self.across = nn.LayerNorm(hidden_size), HeadedAttention(hidden_size, heads)

    def written(self, values: Tensor, other: KeysAndAnswers, mask: Tensor) -> Tensor:
        """What `attended` gives, with what is gathered from the sequence that was read and thought about it."""
        return self.thought(values + self.dropout(self.across(self.across_norm(values), other, mask=mask)))


class HeadedAttention(nn.Module):
    """Attention in several heads, softmax(Q Kᵀ / √size) V, to keys and answers that may be of another sequence."""

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.question = nn.Linear(hidden_size, hidden_size)
        self.key, self.answer = nn.Linear(hidden_size, hidden_size), nn.Linear(hidden_size, hidden_size)
        self.outward = nn.Linear(hidden_size, hidden_size)

    def keys(self, values: Tensor, turns: Tensor | None = None) -> KeysAndAnswers:
        """Keys and answers of (B, L, hidden_size), each (B, heads, L, size of a head)."""
        keys, answers = self._split(self.key(values)), self._split(self.answer(values))
        return (keys if turns is None else turn(keys, turns)), answers

    def forward(
        self,
        values: Tensor,
        keys: KeysAndAnswers,
        turns: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
    ) -> Tensor:
        """(B, T, hidden_size) to the same."""
        questions = self._split(self.question(values))
        questions = questions if turns is None else turn(questions, turns)
        gathered = F.scaled_dot_product_attention(questions, *keys, attn_mask=mask, is_causal=causal)
        mixed: Tensor = self.outward(gathered.transpose(1, 2).flatten(2))
        return mixed

    def weights(self, values: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """(B, heads, T, L): how much each place takes from where."""
        questions = self._split(self.question(values))
        scores = questions @ keys.transpose(2, 3) / math.sqrt(questions.shape[3])
        return scores.masked_fill(~mask, -torch.inf).softmax(3)

    def _split(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], self.heads, -1).transpose(1, 2)
