"""Latent variables that are not used are found, those that are in use or about to be are not."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs
from torch import nn
from torch.nn import functional as F

from sounding.networks import Standardize, picture_variational_autoencoder, reconstruction_errors
from sounding.tasks.build import StandardizedAutoencoder
from sounding.watching import Watch, watch
from sounding.watching.rules.vae_collapse import DEAF, _is_asleep, _look


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU())
        self.mean, self.logarithm = nn.Linear(32, 4), nn.Linear(32, 4)
        self.decoder = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 16))

    def forward(self, x):
        hidden = self.encoder(x)
        mean, logarithm = self.mean(hidden), self.logarithm(hidden)
        return self.decoder(mean + (0.5 * logarithm).exp() * torch.randn_like(mean)), mean, logarithm


def learn(weight: float, *, steps: int = 400, reduction: str = "sum", rate: float = 3e-3) -> Watch:
    torch.manual_seed(0)
    model = Autoencoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    x, _ = blobs(512, classes=6, features=16)
    x = x / x.std()
    with watch(model, optimizer, say=None) as w:
        for _ in range(steps):
            batch = x[torch.randint(0, 512, (64,))]
            optimizer.zero_grad()
            rebuilt, mean, logarithm = model(batch)
            error = F.mse_loss(rebuilt, batch, reduction=reduction) / (len(batch) if reduction == "sum" else 1)
            divergence = -0.5 * (1 + logarithm - mean.square() - logarithm.exp()).sum(1).mean()
            (error + weight * divergence).backward()
            optimizer.step()
    return w


@pytest.mark.parametrize(("weight", "reduction"), [(20.0, "sum"), (1.0, "mean")])
def test_a_divergence_that_weighs_too_much(weight, reduction):
    w = learn(weight, reduction=reduction)
    assert alarms(w)[0] == "vae_collapse"
    assert w.findings[0].evidence["active"] == 0
    assert w.findings[0].evidence["divergence_per_variable"] < 0.05


@pytest.mark.parametrize(("weight", "rate"), [(1.0, 3e-3), (1.0, 3e-4), (4.0, 3e-3)])
def test_latent_variables_in_use_are_silent(weight, rate):
    w = learn(weight, rate=rate)
    assert "vae_collapse" not in [finding.rule for finding in w.findings]


def test_the_beginning_is_silent():
    w = learn(20.0, steps=60)
    assert "vae_collapse" not in [finding.rule for finding in w.findings]


def test_a_plain_autoencoder_is_silent():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, 16))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x, _ = blobs(512, classes=6, features=16)
    with watch(model, optimizer, say=None) as w:
        for _ in range(150):
            batch = x[torch.randint(0, 512, (64,))]
            optimizer.zero_grad()
            F.mse_loss(model(batch), batch).backward()
            optimizer.step()
    assert "vae_collapse" not in [finding.rule for finding in w.findings]


@pytest.mark.parametrize(("beta", "found"), [(100.0, True), (1.0, False)])
def test_a_module_that_tells_its_posterior_is_asked(beta, found):
    """In a model that takes bytes and standardises them first."""
    torch.manual_seed(0)
    inner = picture_variational_autoencoder(1, 4, picture_size=(4, 4), hidden_sizes=[32], beta=beta, warmup=0)
    model = StandardizedAutoencoder(Standardize([0.5], [0.2]), inner)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    x, _ = blobs(512, classes=6, features=16)
    x = (x / x.std() * 50 + 128).clamp(0, 255).to(torch.uint8).view(-1, 1, 4, 4)
    with watch(model, optimizer, say=None) as w:
        for _ in range(400):
            batch = x[torch.randint(0, 512, (64,))]
            optimizer.zero_grad()
            values, _, penalty = model(batch)
            (reconstruction_errors(values, (model.standardize(batch),)).mean() + penalty.mean()).backward()
            optimizer.step()
    assert ("vae_collapse" in [finding.rule for finding in w.findings]) is found


def test_a_decoder_that_listens_to_noise_alone_has_collapsed_as_well():
    w = learn(1.0, steps=20)
    (seen,) = w.players.values()
    used = _look(seen, seen.model)
    assert used.active == 1.0
    for head in (seen.model.mean, seen.model.logarithm):  # as the prior, whatever comes in
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    for layer in (seen.model.decoder[0], seen.model.decoder[2]):
        layer.weight.data *= 3
    look = _look(seen, seen.model)
    assert look.active == look.divergence == look.difference == 0
    assert look.change > DEAF
    assert _is_asleep(look)
