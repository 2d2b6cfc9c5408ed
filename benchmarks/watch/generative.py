"""Programs that train without labels: GANs, autoencoders, variational autoencoders."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from benchmarks.watch import data, networks
from benchmarks.watch.programs import Outcome, Watched, explained

# Points in the plane, in clouds.

RING = torch.tensor([[math.cos(a * math.pi / 4), math.sin(a * math.pi / 4)] for a in range(8)]) * 2
SQUARE = torch.tensor([[a, b] for a in (-1.5, 1.5) for b in (-1.5, 1.5)])


def drawn(centres: Tensor, count: int, deviation: float = 0.1) -> Tensor:
    """Points about the centres."""
    return centres[torch.randint(len(centres), (count,))] + deviation * torch.randn(count, 2)


def covered(points: Tensor, centres: Tensor) -> float:
    """The share of clouds that get a third of the points they should: of those that lie near enough."""
    distance, nearest = torch.cdist(points, centres).min(1)
    counts = torch.bincount(nearest[distance < 0.5], minlength=len(centres))
    return float((counts > len(points) / len(centres) / 3).float().mean())


@dataclass(frozen=True, kw_only=True)
class Gan:
    """A generator against a discriminator (Goodfellow et al. 2014, with the loss that does not saturate)."""

    centres: Tensor
    steps: int = 1200
    rates: tuple[float, float] = (2e-3, 2e-3)
    """Of the generator and the discriminator."""
    latent: int = 8
    width: int = 64
    discriminator_width: int = 64
    discriminator_steps: int = 1
    generator_steps: int = 1
    saturates: bool = False
    """Whether the generator descends log(1 - D), as the first paper has it."""
    wasserstein: bool = False
    activation: Callable[[], nn.Module] = nn.ReLU
    betas: tuple[float, float] = (0.5, 0.9)
    smooth: float = 1.0
    """What the discriminator is told of real points."""
    batch: int = 128

    def __call__(self, watched: Watched, seed: int) -> Outcome:
        torch.manual_seed(seed)
        generator = networks.dense(self.latent, self.width, self.width, 2, activation=self.activation)
        judge = networks.dense(
            2, self.discriminator_width, self.discriminator_width, 1, activation=lambda: nn.LeakyReLU(0.2)
        )
        generator_optimizer = Adam(generator.parameters(), self.rates[0], self.betas)
        judge_optimizer = Adam(judge.parameters(), self.rates[1], self.betas)
        with watched(
            {"generator": generator, "discriminator": judge},
            {"generator": generator_optimizer, "discriminator": judge_optimizer},
        ):
            for _ in range(self.steps):
                for _ in range(self.discriminator_steps):
                    real, fake = (
                        drawn(self.centres, self.batch),
                        generator(torch.randn(self.batch, self.latent)).detach(),
                    )
                    loss = self.judged(judge(real), judge(fake), judge, real, fake)
                    judge_optimizer.zero_grad()
                    loss.backward()
                    judge_optimizer.step()
                for _ in range(self.generator_steps):
                    loss = self.deceived(judge(generator(torch.randn(self.batch, self.latent))))
                    generator_optimizer.zero_grad()
                    loss.backward()
                    generator_optimizer.step()
        with torch.no_grad():
            points = generator(torch.randn(2000, self.latent))
        return Outcome(covered(points, self.centres))

    def judged(self, of_real: Tensor, of_fake: Tensor, judge: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        if not self.wasserstein:
            return F.binary_cross_entropy_with_logits(
                of_real, torch.full_like(of_real, self.smooth)
            ) + F.binary_cross_entropy_with_logits(of_fake, torch.zeros_like(of_fake))
        share = torch.rand(len(real), 1)
        between = (share * real + (1 - share) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(judge(between).sum(), between, create_graph=True)
        return of_fake.mean() - of_real.mean() + (slope.norm(dim=1) - 1).square().mean()

    def deceived(self, of_fake: Tensor) -> Tensor:
        if self.wasserstein:
            return -of_fake.mean()
        if self.saturates:
            return -F.binary_cross_entropy_with_logits(of_fake, torch.zeros_like(of_fake))
        return F.binary_cross_entropy_with_logits(of_fake, torch.ones_like(of_fake))


class Variational(nn.Module):
    """Kingma and Welling 2014: a mean and a log-variance for each latent, and a decoder for a draw from them."""

    def __init__(self, inputs: int, width: int, latent: int, *, logarithm: bool = True) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(inputs, width), nn.ReLU())
        self.mean, self.spread = nn.Linear(width, latent), nn.Linear(width, latent)
        self.decoder = networks.dense(latent, width, inputs)
        self.logarithm = logarithm

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        state = self.encoder(x)
        mean, spread = self.mean(state), self.spread(state)
        deviation = (spread / 2).exp() if self.logarithm else spread
        return self.decoder(mean + deviation * torch.randn_like(mean)), mean, spread


@dataclass(frozen=True, kw_only=True)
class Vae:
    """A variational autoencoder of digits."""

    weight: float = 1.0
    """Of the divergence from the prior."""
    warm_epochs: int = 0
    """Over which that weight rises from 0."""
    latent: int = 8
    logarithm: bool = True
    lr: float = 3e-3
    epochs: int = 12
    gaussian: bool = False
    """Squared error rather than cross-entropy of points."""
    scale: float = 1.0
    """Of what comes in and is to come out."""

    def __call__(self, watched: Watched, seed: int) -> Outcome:
        torch.manual_seed(seed)
        rows = data.flat_digits(seed).with_inputs(lambda x: x * self.scale)
        model = Variational(64, 96, self.latent, logarithm=self.logarithm)
        optimizer = Adam(model.parameters(), self.lr)
        with watched(model, optimizer):
            for epoch in range(self.epochs):
                model.train()
                weight = self.weight * min(1.0, (epoch + 1) / max(self.warm_epochs, 1))
                for x in rows.x[torch.randperm(len(rows.x))].split(64):
                    optimizer.zero_grad()
                    self.loss(*model(x), x, weight).backward()
                    optimizer.step()
                model.eval()
                with torch.no_grad():
                    self.loss(*model(rows.held_x), rows.held_x, weight)
        with torch.no_grad():
            outputs = model.decoder(model.mean(model.encoder(rows.held_x)))
            outputs = outputs if self.gaussian else outputs.sigmoid()
            centre = rows.x.mean(0)
            return Outcome(explained(outputs - centre, rows.held_x - centre))

    def loss(self, outputs: Tensor, mean: Tensor, spread: Tensor, x: Tensor, weight: float) -> Tensor:
        divergence = -0.5 * (1 + spread - mean.square() - spread.exp()).sum(1).mean()
        if self.gaussian:
            rest = F.mse_loss(outputs, x, reduction="sum") / len(x) / 0.1
        else:
            rest = F.binary_cross_entropy_with_logits(outputs, x, reduction="sum") / len(x)
        return rest + weight * divergence


@dataclass(frozen=True, kw_only=True)
class Autoencoder:
    """Through a bottleneck and back."""

    network: Callable[[], nn.Module]
    source: data.Source = data.flat_digits
    noise: float = 0.0
    """Added to what comes in, not to what is to come out."""
    lr: float = 3e-3
    epochs: int = 12
    loss: Callable[[Tensor, Tensor], Tensor] = F.mse_loss

    def __call__(self, watched: Watched, seed: int) -> Outcome:
        torch.manual_seed(seed)
        rows = self.source(seed)
        model = self.network()
        optimizer = torch.optim.AdamW(model.parameters(), self.lr)
        with watched(model, optimizer):
            for _ in range(self.epochs):
                model.train()
                for x in rows.x[torch.randperm(len(rows.x))].split(32):
                    loss = self.loss(model(x + self.noise * torch.randn_like(x)), x)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                model.eval()
                with torch.no_grad():
                    outputs = model(rows.held_x)
                    self.loss(outputs, rows.held_x)
        if self.loss is not F.mse_loss:
            outputs = outputs.sigmoid()
        centre = rows.x.mean(0)
        return Outcome(explained(outputs - centre, rows.held_x - centre))
