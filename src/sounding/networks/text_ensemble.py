"""Several readers of text that share their embeddings, of words and of pieces of words.

Sources: the readers: Kim 2014, arXiv:1408.5882; pieces of words: Bojanowski et al. 2017, arXiv:1607.04606; readers that
share most of their weights, each trained with its own loss: TabM, Gorishniy et al. 2025, arXiv:2410.24210; words that
are dropped: Iyyer et al. 2015.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tabm import LinearEnsemble
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks._padding import trimmed

UNKNOWN = 1
"""The code of words that training rows hold rarely or never."""


class TextEnsemble(nn.Module):
    """Members that each look for phrases of their own in a text, and see the mean over its words.

    A word is its own embedding plus the mean of those of its pieces (hashed character n-grams), by which a word that is
    rare, unknown or misspelt is still understood. While training some words are made unknown, so that their pieces
    learn to stand for them. Train each member with its own loss and average the members' probabilities to predict.

    Padding never changes the result: it sounds like the silence that is around every text.

    Args:
        vocabulary_size: how many codes words have, with those of padding (0) and of unknown words (1).
        out_features: outputs for a text, before any softmax.
        piece_buckets: how many codes pieces have, with that of padding (0); 0 if the tokens have no pieces.
        members: how many readers there are.
        embedding_size: numbers that stand for a word.
        windows: lengths of the phrases, in words.
        hidden_size: filters of each member for each length.
        word_dropout: probability in [0, 1) that a word is made unknown while training.
        piece_dropout: probability in [0, 1) that a word loses its pieces while training.
        embedding_dropout: probability in [0, 1) that an entry of what stands for a word is blanked while training.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    >>> network = TextEnsemble(1000, 2)
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 0, 0, 0]])).shape
    torch.Size([2, 4, 2])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        piece_buckets: int = 0,
        members: int = 4,
        embedding_size: int = 128,
        windows: Sequence[int] = (1, 2, 3),
        hidden_size: int = 64,
        word_dropout: float = 0.3,
        piece_dropout: float = 0.3,
        embedding_dropout: float = 0.4,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.members, self.windows = members, tuple(windows)
        self.word_dropout, self.piece_dropout = word_dropout, piece_dropout
        self.words = nn.Embedding(vocabulary_size, embedding_size, padding_idx=0)
        self.pieces: nn.EmbeddingBag | None = None
        if piece_buckets:
            self.pieces = nn.EmbeddingBag(piece_buckets, embedding_size, mode="mean", padding_idx=0)
        for table in (self.words, self.pieces):
            if table is not None:
                nn.init.normal_(table.weight, std=0.1)
                nn.init.zeros_(table.weight.detach()[0])
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embedding_size, members * hidden_size, window) for window in windows
        )
        self.embedding_dropout, self.dropout = nn.Dropout(embedding_dropout), nn.Dropout(dropout)
        self.num_features = hidden_size * len(self.windows) + embedding_size
        self.head = LinearEnsemble(self.num_features, out_features, k=members)
        nn.init.zeros_(self.head.bias)

    def embed(self, tokens: Tensor) -> Tensor:
        """(B, L) or (B, L, 1 + pieces) to (B, L, embedding_size); zero where a text has no word."""
        words = tokens if tokens.ndim == 2 else tokens[..., 0]
        if self.training:
            words = words.masked_fill((words != 0) & self._drawn(words, self.word_dropout), UNKNOWN)
        values = self.words(words)
        if self.pieces is not None:
            if tokens.ndim == 2:
                raise ValueError("the network reads pieces of words and the tokens have none; give (B, L, 1 + pieces)")
            parts = self.pieces(tokens[..., 1:].flatten(0, 1)).view_as(values)
            if self.training:
                parts = parts.masked_fill(self._drawn(words, self.piece_dropout)[..., None], 0.0)
            values = values + parts
        embedded: Tensor = self.embedding_dropout(values)
        return embedded

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) or (B, L, 1 + pieces) to (B, members, num_features)."""
        tokens = trimmed(tokens)
        values = self.embed(tokens)
        # silence on both sides: phrases may begin before the first word and end after the last; one phrase of silence
        # alone is always there, so that more of them, in padding, change nothing
        widest = max(self.windows)
        wide = F.pad(values.mT, (widest, widest - 1))  # (B, embedding_size, silence + L + silence)
        features = []
        for convolution in self.convolutions:
            strongest = convolution(wide).amax(2)  # (B, members * hidden_size)
            features.append(F.relu(strongest).view(strongest.shape[0], self.members, -1))
        # by the root of the length: the mean of many independent words would be smaller than that of few
        words = tokens if tokens.ndim == 2 else tokens[..., 0]
        mean = values.sum(1) / (words != 0).sum(1, keepdim=True).clamp(min=1).sqrt()
        features.append(mean[:, None].expand(-1, self.members, -1))
        joined: Tensor = self.dropout(torch.cat(features, 2))
        return joined

    def forward(self, tokens: Tensor) -> Tensor:
        """Codes of words, 0 for padding at the end, to logits (B, members, out_features).

        tokens: (B, L) codes of words, or (B, L, 1 + pieces): of each word its code, then those of its pieces, 0 after
            the last.
        """
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits

    @staticmethod
    def _drawn(like: Tensor, probability: float) -> Tensor:
        return torch.rand(like.shape, device=like.device) < probability
