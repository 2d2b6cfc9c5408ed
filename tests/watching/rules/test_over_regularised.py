"""Regularisation that keeps a network from learning is found, in each of its forms; the usual kind is not."""

from __future__ import annotations

import functools

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

from sounding.watching import watch


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return perceptron(8, 32, 3)


@pytest.mark.parametrize(
    "optimizer",
    [
        functools.partial(torch.optim.Adam, weight_decay=1.0),
        functools.partial(torch.optim.SGD, weight_decay=0.5),
        functools.partial(torch.optim.AdamW, weight_decay=50.0),
    ],
)
def test_weight_decay_that_outweighs_the_data(optimizer):
    w = train(network(), blobs(512, spread=2.0), optimizer=optimizer, rate=1e-2, epochs=12)
    assert alarms(w)[0] == "over_regularised"
    assert "weight decay" in w.findings[0].title


@pytest.mark.parametrize(
    "optimizer",
    [
        functools.partial(torch.optim.Adam, weight_decay=1e-3),
        functools.partial(torch.optim.AdamW, weight_decay=0.1),
        functools.partial(torch.optim.SGD, weight_decay=5e-4, momentum=0.9),
    ],
)
@pytest.mark.parametrize("spread", [2.0, 6.0])
def test_usual_weight_decay_is_silent(optimizer, spread):
    w = train(network(), blobs(512, spread=spread), optimizer=optimizer, rate=1e-2, epochs=12)
    assert "over_regularised" not in [finding.rule for finding in w.findings]


def penalised(model: nn.Module, strength: float):
    def loss(outputs, target):
        return F.cross_entropy(outputs, target) + strength * sum(p.abs().sum() for p in model.parameters())

    return loss


def test_a_penalty_that_outweighs_the_data():
    model = network()
    w = train(model, blobs(512, spread=2.0), loss=penalised(model, 0.3), epochs=12)
    assert alarms(w)[0] == "over_regularised"
    assert "penalty" in w.findings[0].title


def test_a_small_penalty_is_silent():
    model = network()
    w = train(model, blobs(512, spread=2.0), loss=penalised(model, 1e-4), epochs=12)
    assert "over_regularised" not in [finding.rule for finding in w.findings]


@pytest.mark.parametrize(("strength", "found"), [(0.3, True), (1e-4, False)])
def test_a_penalty_that_is_computed_before_the_forward_pass(strength, found):
    model, (x, y) = network(), blobs(512, spread=2.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with watch(model, optimizer, say=None) as w:
        for _ in range(12):
            for rows in torch.randperm(512).split(32):
                penalty = strength * sum(p.abs().sum() for p in model.parameters())
                optimizer.zero_grad()
                (F.cross_entropy(model(x[rows]), y[rows]) + penalty).backward()
                optimizer.step()
    assert ("over_regularised" in alarms(w)) is found


def dropping(share: float) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Dropout(share), nn.Linear(16, 64), nn.ReLU(), nn.Dropout(share), nn.Linear(64, 64), nn.ReLU()]
    return nn.Sequential(*layers, nn.Dropout(share), nn.Linear(64, 10))


def test_dropout_of_almost_everything():
    data = blobs(512, classes=10, features=16, spread=2.0)
    w = train(dropping(0.95), data, rate=3e-3, epochs=12)
    assert alarms(w)[0] == "over_regularised"
    assert "dropout" in w.findings[0].title


def test_usual_dropout_is_silent():
    data = blobs(512, classes=10, features=16, spread=2.0)
    w = train(dropping(0.3), data, rate=3e-3, epochs=12)
    assert "over_regularised" not in [finding.rule for finding in w.findings]
