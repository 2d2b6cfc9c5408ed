"""Several inputs of different kinds in one row: a picture and its caption, a text and some numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn


class CompositeNetwork(nn.Module):
    """One network for each input, and one head over the features of all.

    The parts lose their own heads: this network takes them over.

    Args:
        parts: networks with `num_features` and `forward_features`, each with the number of inputs it takes.
        out_features: outputs for a row, before any softmax.
        dropout: probability in [0, 1) that a feature is blanked before the head while training.

    The features of a part that is an ensemble (it has `members`) are averaged over its members.

    >>> from sounding.networks import PictureFeedForward, TabularFeedForward
    >>> table, picture = TabularFeedForward(2, [3], 1), PictureFeedForward(1, 1, picture_size=(8, 8))
    >>> network = CompositeNetwork([(table, 2), (picture, 1)], 5)
    >>> network.eval()(torch.zeros(4, 2), torch.zeros(4, 1, dtype=torch.int64), torch.zeros(4, 1, 8, 8)).shape
    torch.Size([4, 5])
    """

    def __init__(self, parts: Sequence[tuple[nn.Module, int]], out_features: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        for part, _ in parts:
            part.head = nn.Identity()
        self.parts = nn.ModuleList(part for part, _ in parts)
        self.inputs = [inputs for _, inputs in parts]
        self.dropout = nn.Dropout(dropout)
        self.num_features = sum(cast("int", part.num_features) for part in self.parts)
        self.head = nn.Linear(self.num_features, out_features)

    def forward_features(self, *inputs: Tensor) -> Tensor:
        """The inputs of all parts, in order, to (B, num_features)."""
        if len(inputs) != sum(self.inputs):
            raise ValueError(f"there are {len(inputs)} inputs, and the parts take {self.inputs}")
        features, rest = [], list(inputs)
        for part, count in zip(self.parts, self.inputs, strict=True):
            own, rest = rest[:count], rest[count:]
            found = cast("Callable[..., Tensor]", part.forward_features)(*own)
            features.append(found.mean(1) if hasattr(part, "members") else found)
        joined: Tensor = self.dropout(torch.cat(features, 1))
        return joined

    def forward(self, *inputs: Tensor) -> Tensor:
        """The inputs of all parts, in order, to logits (B, out_features)."""
        logits: Tensor = self.head(self.forward_features(*inputs))
        return logits
