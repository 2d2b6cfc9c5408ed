"""The networks of the workloads in PyTorch, from the same seed for every contender that uses PyTorch; and their losses.

What Sounding has is taken from there. No network knows who trains it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.speed.workloads import ADULT_COLUMNS, SEQUENCE, VOCABULARY, Array
from sounding.networks import FeedForward, ResNet, TabularEnsemble


class NumbersEnsemble(nn.Module):
    """The ensemble for a table without categories, with one input: not every contender can pass two."""

    def __init__(self) -> None:
        super().__init__()
        self.ensemble = TabularEnsemble(14, [], 2, members=8)

    def forward(self, numbers: Tensor) -> Tensor:
        """(B, 14) to (B, 8, 2)."""
        return self.ensemble(numbers, numbers.new_empty(len(numbers), 0, dtype=torch.int64))


class SmallConvolutional(nn.Sequential):
    """Two convolutions and a hidden layer; (B, 1, 28, 28) to (B, 10)."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
        )


class DigitsConvolutional(nn.Sequential):
    """Two convolutions and a hidden layer for small pictures; (B, 1, 8, 8) to (B, 10)."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10)),
        )


class RecurrentLanguageModel(nn.Module):
    """An LSTM of 256 over embeddings of 128; (B, T) to (B, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 128)
        self.lstm = nn.LSTM(128, 256, batch_first=True)
        self.head = nn.Linear(256, VOCABULARY)

    def forward(self, codes: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(codes))
        return self.head(states)


class CausalBlock(nn.Module):
    """Causal attention in 4 heads, then a feed-forward part; each adds to what it was given."""

    def __init__(self, size: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.inward, self.outward = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.feed_forward = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))

    def forward(self, values: Tensor) -> Tensor:
        """(B, T, size) to the same."""
        split = self.inward(self.attention_norm(values)).unflatten(2, (3, self.heads, -1))
        questions, keys, answers = split.permute(2, 0, 3, 1, 4)  # each (B, heads, T, size / heads)
        gathered = F.scaled_dot_product_attention(questions, keys, answers, is_causal=True)
        values = values + self.outward(gathered.transpose(1, 2).flatten(2))
        return values + self.feed_forward(self.feed_forward_norm(values))


class TransformerLanguageModel(nn.Module):
    """Three causal blocks of width 128 with learned positions; (B, T) to (B, T, V)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(VOCABULARY, 128), nn.Parameter(torch.randn(SEQUENCE, 128) * 0.02)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.blocks = nn.Sequential(*(CausalBlock(128) for _ in range(3)))
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, VOCABULARY)

    def forward(self, codes: Tensor) -> Tensor:
        return self.head(self.norm(self.blocks(self.embedding(codes) + self.positions)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fashion-mnist": SmallConvolutional,
    "digits": DigitsConvolutional,
    "adult": lambda: FeedForward(ADULT_COLUMNS, 2, hidden_sizes=(256, 256)),
    "table-small": lambda: FeedForward(14, 2, hidden_sizes=(256, 256)),
    "table-wide": lambda: FeedForward(14, 2, hidden_sizes=(1024, 1024)),
    "table-ensemble": NumbersEnsemble,
    "conv-small": SmallConvolutional,
    "resnet": lambda: ResNet(3, 10, picture_size=(32, 32)),
    "lstm": RecurrentLanguageModel,
    "transformer": TransformerLanguageModel,
    "autoencoder": lambda: FeedForward(784, 784, hidden_sizes=(256, 32, 256)),
}


def build(name: str, seed: int) -> nn.Module:
    """The network of a workload, with the weights of a seed."""
    torch.manual_seed(seed)
    return NETWORKS[name]()


def members_cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """(B, members, C) and (B,): the mean of the members' losses."""
    return F.cross_entropy(outputs.flatten(0, 1), target.repeat_interleave(outputs.shape[1]))


def sequence_cross_entropy(outputs: Tensor, target: Tensor) -> Tensor:
    """(B, T, V) and (B, T): the mean over all characters."""
    return F.cross_entropy(outputs.flatten(0, 1), target.flatten())


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cross_entropy": F.cross_entropy,
    "members_cross_entropy": members_cross_entropy,
    "sequence_cross_entropy": sequence_cross_entropy,
    "mse": F.mse_loss,
}


def outputs_of(network: nn.Module, x: Array, batch_size: int = 1024) -> Array:
    """What a network says to rows in evaluation mode; the mode it was in is restored."""
    training = network.training
    network.eval()
    with torch.no_grad():
        outputs = torch.cat([network(rows).float() for rows in torch.from_numpy(x).split(batch_size)])
    network.train(training)
    return outputs.numpy()


def held_out_loss(network: nn.Module, loss: str, x: Tensor, y: Tensor, batch_size: int = 256) -> float:
    """The mean loss over rows that were not trained on."""
    network.eval()
    total = 0.0
    with torch.no_grad():
        for inputs, target in zip(x.split(batch_size), y.split(batch_size), strict=True):
            total += LOSSES[loss](network(inputs).float(), target).item() * len(inputs)
    return total / len(x)
