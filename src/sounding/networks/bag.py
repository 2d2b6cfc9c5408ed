"""Text as a bag of words and short phrases: quick to train, and hard to beat on small data.

Sources: Joulin et al. 2016, arXiv:1607.01759 (fastText); hashed features: Weinberger et al. 2009, arXiv:0902.2206.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sounding.networks._padding import words_of


class BagOfPhrases(nn.Module):
    """Averages the embeddings of all words and of all phrases of neighbouring words; their order is lost.

    There are too many phrases for a table, so each is hashed to one of `buckets` embeddings, which unrelated phrases
    may share.

    Args:
        vocabulary_size: how many codes there are, with that of padding.
        out_features: outputs for a text, before any softmax.
        embedding_size: numbers that stand for a word or a phrase.
        phrases: words in the longest phrase; 1 for words alone.
        buckets: embeddings that phrases share.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    >>> network = BagOfPhrases(1000, 2)
    >>> network(torch.tensor([[5, 7, 2, 0], [9, 0, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        vocabulary_size: int,
        out_features: int,
        *,
        embedding_size: int = 100,
        phrases: int = 2,
        buckets: int = 100_003,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.vocabulary_size, self.phrases, self.buckets = vocabulary_size, phrases, buckets
        rows = vocabulary_size + (buckets if phrases > 1 else 0)
        self.embedding = nn.EmbeddingBag(rows, embedding_size, mode="mean", padding_idx=0)
        nn.init.uniform_(self.embedding.weight, -1 / embedding_size, 1 / embedding_size)
        with torch.no_grad():
            self.embedding.weight[0] = 0.0
        self.dropout = nn.Dropout(dropout)
        self.num_features = embedding_size
        self.head = nn.Linear(self.num_features, out_features)

    def forward_features(self, tokens: Tensor) -> Tensor:
        """(B, L) codes to (B, num_features)."""
        words = words_of(tokens)
        phrases = [
            hash_phrases(words, length, self.buckets, first=self.vocabulary_size)
            for length in range(2, self.phrases + 1)
        ]
        features: Tensor = self.dropout(self.embedding(torch.cat([words, *phrases], 1)))
        return features

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L) codes in [0, vocabulary_size), 0 for padding at the end, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(tokens))
        return logits


def hash_phrases(tokens: Tensor, length: int, buckets: int, *, first: int = 0) -> Tensor:
    """The bucket of every phrase of so many words: (w1 * m + w2) * m + ... modulo `buckets`, as in fastText.

    tokens:   (B, L) codes, 0 for padding.
    buckets:  at most 2³⁵, so that no product overflows.
    first:    added to each bucket.
    Returns:  (B, max(L - length + 1, 0)) int64; 0 for phrases that hold padding.

    >>> hash_phrases(torch.tensor([[1, 2, 3, 0]]), 2, 1000)
    tensor([[373, 745,   0]])
    """
    places = max(tokens.shape[1] - length + 1, 0)
    words = [tokens[:, at : at + places].long() for at in range(length)]
    code = torch.zeros_like(words[0])
    for word in words:
        # reduced at every step, which gives the same bucket as one reduction at the end
        code = (code * 116_049_371 + word) % buckets
    return torch.where(torch.stack(words).all(0), code + first, 0)
