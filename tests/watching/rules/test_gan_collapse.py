"""A generator that makes one thing only, or is beaten, is found; losses that go up and down are not enough."""

from __future__ import annotations

import math

import pytest
import torch
from programs import alarms
from torch import Tensor, nn
from torch.nn import functional as F

from sounding.watching import Watch, watch


def ring(rows: int, draws: torch.Generator) -> Tensor:
    """Eight narrow modes around zero."""
    angles = 2 * math.pi * torch.randint(0, 8, (rows,), generator=draws) / 8
    return 2 * torch.stack([angles.cos(), angles.sin()], 1) + 0.05 * torch.randn(rows, 2, generator=draws)


def play(
    steps: int,
    *,
    generator_rate: float = 1e-3,
    discriminator_rate: float = 1e-3,
    generator_steps: int = 1,
    offset: float = 0.0,
    swapped: bool = False,
) -> Watch:
    """A game of two small networks, under names that say nothing of their parts."""
    torch.manual_seed(0)
    draws = torch.Generator().manual_seed(1)
    makes = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
    tells = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    rates = {"one": (makes, generator_rate), "other": (tells, discriminator_rate)}
    made = {
        name: torch.optim.Adam(net.parameters(), lr=rate, betas=(0.5, 0.999)) for name, (net, rate) in rates.items()
    }
    order = ["other", "one"] if swapped else ["one", "other"]
    loss = F.binary_cross_entropy_with_logits
    with watch({name: rates[name][0] for name in order}, {name: made[name] for name in order}, say=None) as w:
        for _ in range(steps):
            real = ring(64, draws) + offset
            made["other"].zero_grad()
            fake = makes(torch.randn(64, 4, generator=draws)).detach()
            (loss(tells(real), torch.ones(64, 1)) + loss(tells(fake), torch.zeros(64, 1))).backward()
            made["other"].step()
            for _ in range(generator_steps):
                made["one"].zero_grad()
                loss(tells(makes(torch.randn(64, 4, generator=draws))), torch.ones(64, 1)).backward()
                made["one"].step()
    return w


@pytest.mark.parametrize("swapped", [False, True])
def test_a_generator_that_makes_one_thing_only(swapped):
    w = play(400, generator_rate=5e-3, discriminator_rate=1e-4, generator_steps=3, swapped=swapped)
    assert "gan_collapse" in alarms(w)
    evidence = next(one for one in w.findings if one.rule == "gan_collapse").evidence
    assert evidence["player"] == "one"
    assert max(evidence["diversity"]) < 0.3


def test_a_discriminator_that_wins():
    w = play(400, generator_rate=1e-5, discriminator_rate=1e-2, offset=10.0)
    assert "gan_collapse" in alarms(w)
    evidence = next(one for one in w.findings if one.rule == "gan_collapse").evidence
    assert evidence["player"] == "one"
    assert evidence["discriminator_loss"] < 0.02


@pytest.mark.parametrize("steps", [60, 200, 400])
def test_a_healthy_game_is_silent(steps):
    w = play(steps)
    assert "gan_collapse" not in [finding.rule for finding in w.findings]
