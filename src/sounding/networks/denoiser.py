"""A denoiser of rows at many strengths of noise, which tells where rows are usual: how far it would move a clean one.

What the best denoiser changes is the gradient of the logarithm of the density of the noisy rows, times the variance of
the noise: nothing on a peak, much beside it. Weak noise sees how columns hang together, strong noise how far out each
of them is. The mean over strengths sees both, for what each would change is told in units of what it changes about
standard normal numbers.

Sources: Vincent 2011 (denoising and the gradient of the density); Mahmood et al. 2021, arXiv:2010.13132 (its norms at
many strengths as a sign of strangeness); Karras et al. 2022, arXiv:2206.00364, table 1 (inputs and targets scaled).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.networks.feedforward import hidden_layers
from sounding.networks.initialization import initialize


class TableDenoiser(nn.Module):
    """How strange each column of a row is, by what denoisers of many strengths would change about it.

    Numbers should have a variance of about 1. While training, each row meets noise of one random strength, and its
    distances are errors of denoising, from 0 to about 1; in evaluation there is no noise, and they are means over all
    strengths, about 1 for standard normal numbers that have nothing to do with each other.

    Args:
        number_features: columns of numbers; may be 0.
        cardinalities: for each column of categories, how many codes it has.
        out_features: not used; all families are built alike.
        hidden_sizes: outputs of each hidden layer.
        activation: a name from `ACTIVATIONS`.
        weakest: standard deviation of the weakest noise. Stronger, it sees less of how columns hang together, and
            groups of strange rows among the training rows are less learned by heart.
        strongest: that of the strongest.
        strengths: from weakest to strongest, evenly in their logarithms, those that evaluation takes.
        initialization: a name from `INITIALIZATIONS`.

    >>> network = TableDenoiser(2, [3], 1).eval()
    >>> network(torch.zeros(5, 2), torch.zeros(5, 1, dtype=torch.int64)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        number_features: int,
        cardinalities: Sequence[int],
        out_features: int,
        *,
        bins: Sequence[Tensor] | None = None,
        hidden_sizes: Sequence[int] = (128, 128),
        activation: str = "silu",
        weakest: float = 0.4,
        strongest: float = 10.0,
        strengths: int = 8,
        initialization: str = "default",
    ) -> None:
        super().__init__()
        if not 0 < weakest <= strongest:
            raise ValueError(
                f"noise from {weakest} to {strongest}; the weakest must be above 0, the strongest no weaker"
            )
        self.number_features, self.cardinalities = number_features, tuple(cardinalities)
        self.weakest, self.strongest, self.strengths = weakest, strongest, strengths
        values = number_features + sum(cardinalities)
        sizes = [values + 1, *hidden_sizes]
        self.layers = nn.Sequential(hidden_layers(sizes, activation, "none", 0.0, False), nn.Linear(sizes[-1], values))
        self.num_features = strengths * (number_features + len(cardinalities))
        self.head = MeanOverStrengths(strengths)
        initialize(self, initialization)

    def forward_features(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """The distances of clean rows at each strength, (B, strengths * columns)."""
        steps = torch.linspace(math.log(self.weakest), math.log(self.strongest), self.strengths, device=numbers.device)
        found = [self._distances(numbers, categories, step.exp().expand(numbers.shape[0], 1), 0.0) for step in steps]
        return torch.cat(found, 1)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        """(B, number_features) float and (B, len(cardinalities)) codes to distances (B, columns), numbers first.

        Squared for numbers, in nats for categories.
        """
        if not self.training:
            distances: Tensor = self.head(self.forward_features(numbers, categories))
            return distances
        drawn = torch.rand(len(numbers), 1, device=numbers.device)
        strength = self.weakest * (drawn * math.log(self.strongest / self.weakest)).exp()
        return self._distances(numbers, categories, strength, 1.0)

    def _distances(self, numbers: Tensor, categories: Tensor, strength: Tensor, noise: float) -> Tensor:
        """(B, columns) at a strength (B, 1) for each row, of rows with noise, or with 0.0 without."""
        codes = categories.long().unbind(1)
        clean = torch.cat([numbers, *map(_spread, codes, self.cardinalities)], 1)
        rows = clean + noise * strength * torch.randn_like(clean) if noise else clean
        total = (1 + strength.square()).sqrt()  # of the noisy rows, which are scaled to a variance of 1
        given = self.layers(torch.cat([rows / total, strength.log() / 2], 1))
        # what is left of the noise and not told by the noisy row itself, scaled to a variance of 1 as well
        goal = (numbers - rows[:, : self.number_features] / total.square()) * total / strength
        guessed, *logits = given.split([self.number_features, *self.cardinalities], 1)
        wrong = [
            F.cross_entropy(each, code, reduction="none")[:, None] for each, code in zip(logits, codes, strict=True)
        ]
        unit = 1.0 if noise else strength.square() / total.square()
        return torch.cat([(guessed - goal).square() / unit, *wrong], 1)


class MeanOverStrengths(nn.Module):
    """(B, strengths * columns) to (B, columns)."""

    def __init__(self, strengths: int) -> None:
        super().__init__()
        self.strengths = strengths

    def forward(self, distances: Tensor) -> Tensor:
        """The mean for each column."""
        return distances.reshape(distances.shape[0], self.strengths, -1).mean(1)


def _spread(codes: Tensor, count: int) -> Tensor:
    """Codes (B,) to (B, count) with a variance of about 1 in each entry, were all codes as frequent."""
    return math.sqrt(count) * F.one_hot(codes, count).float()
