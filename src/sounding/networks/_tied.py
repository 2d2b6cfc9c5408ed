"""Outputs by the matrix of an embedding."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class TiedHead(nn.Module):
    """Logits of codes from features, by the embeddings of these codes; it has a bias of its own, but no matrix.

    Source: Press and Wolf 2017, arXiv:1608.05859. The embedding stays where it is, so that the state of a network holds
    its matrix once.
    """

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self._embedding = (embedding,)  # in a tuple it is no part of this module
        self.bias = nn.Parameter(embedding.weight.new_zeros(embedding.num_embeddings))

    def forward(self, features: Tensor) -> Tensor:
        """(..., size of an embedding) to (..., codes)."""
        return F.linear(features, self._embedding[0].weight, self.bias)
