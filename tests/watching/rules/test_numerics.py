"""Numbers that are lost, and where that begins."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

from sounding.watching import watch

RULE = "numerics"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def found(w):
    return next(finding for finding in w.findings if finding.rule == RULE)


def test_the_logarithm_of_zero():
    x, y = blobs(32)

    def by_hand(out, y):
        return -(F.one_hot(y, 3) * (sure[:, None] * out).softmax(1).log()).sum(1).mean()

    sure = torch.ones(32)
    sure[5] = 1e4  # so sure that other classes have a probability of zero
    w = train(perceptron(8, 16, 3), (x, y), loss=by_hand, epochs=1, shuffle=False)
    assert alarms(w)[0] == RULE
    assert found(w).evidence["operation"] == "the logarithm of zero"
    assert found(w).evidence["rows"] == [5]
    assert "log_softmax" in found(w).remedy.text


def test_a_division_by_zero_in_the_loss():
    w = train(perceptron(8, 16, 3), blobs(), loss=lambda out, y: (out / (out * 0)).mean(), epochs=1)
    assert alarms(w)[0] == RULE
    assert found(w).evidence["operation"] == "a division by zero"


def test_a_layer_that_overflows():
    class Exponential(nn.Module):
        def forward(self, x):
            return (100 * x).exp()

    w = train(nn.Sequential(nn.Linear(8, 8), Exponential(), nn.Linear(8, 3)), blobs(), epochs=1)
    assert RULE in alarms(w)
    assert found(w).evidence["layer"] == "1"


def test_all_targets_ignored():
    x, y = blobs(32)
    w = train(perceptron(8, 16, 3), (x, torch.full_like(y, -100)), epochs=1)
    assert "all of them are ignored" in found(w).title


def test_weights_that_explode_are_said_to():
    x, y = blobs()
    w = train(perceptron(8, 1), (x, y.float()[:, None]), loss=F.mse_loss, optimizer=torch.optim.SGD, rate=1e9, epochs=3)
    assert RULE in alarms(w)
    assert found(w).evidence["where"] in {"weights", "the output of Linear", "the loss"}
    assert found(w).evidence["last_losses"][-1] > 1e9


def test_the_root_of_zero_has_no_slope():
    x, y = blobs(64)
    w = train(perceptron(8, 16, 3), (x, y), loss=lambda out, y: ((out - out.detach()).square()).sum().sqrt(), epochs=1)
    assert alarms(w)[0] == RULE
    assert "Sqrt" in found(w).evidence["operations"]


def in_half(scale):
    model, (x, y) = perceptron(8, 16, 3), blobs()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, say=None) as w:
        for rows in torch.arange(256).split(32):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.float16):
                outputs = model(x[rows])
            (F.cross_entropy(outputs.float(), y[rows]) * scale).backward()
            for parameter in model.parameters():
                parameter.grad = parameter.grad.half().float() / scale
            optimizer.step()
    return w


def test_gradients_that_are_zero_in_half_precision():
    assert alarms(in_half(1e-7))[0] == RULE
    assert min(found(in_half(1e-7)).evidence["zeros"].values()) > 0.5


def test_gradients_that_are_kept_by_a_scale():
    assert RULE not in alarms(in_half(1024.0))


def test_a_loss_without_a_bottom():
    w = train(perceptron(8, 16, 3), blobs(), loss=lambda out, y: -out[torch.arange(len(y)), y].mean(), epochs=5)
    assert alarms(w)[0] == RULE
    w = train(
        perceptron(8, 16, 3), blobs(), loss=lambda out, y: -out.log_softmax(1)[torch.arange(len(y)), y].mean(), epochs=5
    )
    assert RULE not in alarms(w)


@pytest.mark.parametrize("loss", [F.cross_entropy, lambda out, y: (out - F.one_hot(y, 3)).square().mean()])
def test_finite_runs(loss):
    assert RULE not in alarms(train(perceptron(8, 16, 3), blobs(), loss=loss))
