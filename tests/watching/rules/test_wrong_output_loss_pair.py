"""Outputs and losses that do not fit, and those that do."""

from __future__ import annotations

import math

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

RULE = "wrong_output_loss_pair"


def binary(y):
    return (y > 0).float()[:, None]


def curve(rows=256):
    """One number from eight, with mean 0 and deviation 1; (N, 8) and (N, 1)."""
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(3))
    return x, x[:, :1].tanh() + x[:, 1:2] * 0.5


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def found(w):
    return next(finding for finding in w.findings if finding.rule == RULE)


@pytest.mark.parametrize(
    ("last", "floor"),
    [
        (nn.Softmax(1), math.log(1 + 2 / math.e)),  # the right one of three at 1, the others at 0
        (nn.Sigmoid(), math.log(1 + 2 / math.e)),
        (nn.Tanh(), math.log(1 + 2 / math.e**2)),  # at 1 and -1
    ],
)
def test_what_is_squeezed_goes_into_cross_entropy(last, floor):
    w = train(perceptron(8, 16, 3, last=(last,)), blobs(), epochs=1)
    assert alarms(w)[0] == RULE
    assert found(w).evidence["floor"] == pytest.approx(floor)
    assert found(w).evidence["step"] == 1


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.ReLU(), nn.LogSigmoid()])
def test_what_is_squeezed_goes_into_the_binary_loss(last):
    x, y = blobs()
    w = train(perceptron(8, 16, 1, last=(last,)), (x, binary(y)), loss=F.binary_cross_entropy_with_logits, epochs=1)
    assert alarms(w)[0] == RULE


@pytest.mark.parametrize("last", [(), (nn.Softmax(1),)])
def test_the_likelihood_of_no_logarithms(last):
    w = train(perceptron(8, 16, 3, last=last), blobs(), loss=F.nll_loss, epochs=1)
    assert alarms(w)[0] == RULE
    assert ("probabilities" in found(w).title.split("instead")[0]) == bool(last)


def test_logarithms_over_the_batch():
    w = train(perceptron(8, 16, 3), blobs(), loss=lambda out, y: F.nll_loss(out.log_softmax(0), y), epochs=1)
    assert alarms(w)[0] == RULE
    assert "over the batch" in found(w).title


def test_a_softmax_of_one_unit():
    x, y = blobs()
    w = train(perceptron(8, 16, 1, last=(nn.Softmax(1),)), (x, binary(y)), loss=F.binary_cross_entropy, epochs=1)
    assert alarms(w)[0] == RULE
    w = train(perceptron(8, 16, 1), (x, binary(y)), epochs=1)
    assert alarms(w)[0] == RULE


@pytest.mark.parametrize("last", [nn.Sigmoid(), nn.Tanh(), nn.ReLU()])
def test_targets_out_of_reach(last):
    w = train(perceptron(8, 16, 1, last=(last,)), curve(), loss=F.mse_loss, epochs=1)
    assert alarms(w)[0] == RULE


def test_targets_out_of_reach_of_a_loss_by_hand():
    w = train(perceptron(8, 16, 1, last=(nn.ReLU(),)), curve(), loss=lambda out, y: ((out - y) ** 2).mean(), epochs=1)
    assert alarms(w)[0] == RULE


def test_the_unavoidable_error_is_that_of_the_clamped_targets():
    x, y = curve(32)
    w = train(perceptron(8, 16, 1, last=(nn.ReLU(),)), (x, y), loss=F.mse_loss, epochs=1)
    assert found(w).evidence["floor"] == pytest.approx(y.clamp(max=0).square().mean().item(), rel=1e-5)


def test_raw_outputs_into_a_logarithm_and_a_loss_turned_round():
    x, y = blobs()

    def clamped(out, y):
        return -(F.one_hot(y, 3) * out.clamp(1e-7, 1).log()).sum(1).mean()

    assert alarms(train(perceptron(8, 16, 3), (x, y), loss=clamped, epochs=1))[0] == RULE
    w = train(perceptron(8, 16, 3), (x, y), loss=lambda out, y: -F.cross_entropy(out, y), epochs=1)
    assert alarms(w)[0] == RULE


def test_several_labels_at_once_into_cross_entropy():
    x, y = blobs()
    many = torch.stack([y == 0, y < 2, y > 0], 1).float()
    assert alarms(train(perceptron(8, 16, 3), (x, many), epochs=1))[0] == RULE


def test_relu_on_logits():
    w = train(perceptron(8, 16, 3, last=(nn.ReLU(),)), blobs(), epochs=2)
    assert alarms(w)[0] == RULE


def test_squares_of_classes_that_learn_slowly():
    x, y = blobs(classes=10, features=16, spread=2.0)
    w = train(
        perceptron(16, 32, 10, last=(nn.Sigmoid(),)), (x, F.one_hot(y, 10).float()), loss=F.mse_loss,
        optimizer=torch.optim.SGD, rate=0.1, epochs=6,
    )  # fmt: skip
    assert RULE in alarms(w)
    assert found(w).evidence["accuracy"] + 0.1 <= found(w).evidence["accuracy_with_cross_entropy"]


def pooled():
    """As in SqueezeNet: ReLU, then the mean over places; one class is silent at first."""
    layers = nn.Unflatten(1, (1, 8)), nn.Conv1d(1, 3, 3), nn.ReLU(), nn.AvgPool1d(6), nn.Flatten()
    nn.init.constant_(layers[1].bias[:1].data, -9.0)
    return nn.Sequential(*layers)


def healthy():
    x, y = blobs()
    smooth = F.one_hot(y, 3).float() * 0.9 + 0.1 / 3
    pictures = x.sigmoid()
    yield "raw", perceptron(8, 16, 3), (x, y), F.cross_entropy
    yield "log-softmax twice", perceptron(8, 16, 3, last=(nn.LogSoftmax(1),)), (x, y), F.cross_entropy
    yield "log-softmax", perceptron(8, 16, 3, last=(nn.LogSoftmax(1),)), (x, y), F.nll_loss
    yield "soft targets", perceptron(8, 16, 3), (x, smooth), F.cross_entropy
    yield "smoothed", perceptron(8, 16, 3), (x, y), lambda a, b: F.cross_entropy(a, b, label_smoothing=0.1)
    yield "sigmoid", perceptron(8, 16, 1, last=(nn.Sigmoid(),)), (x, binary(y)), F.binary_cross_entropy
    yield "logits", perceptron(8, 16, 1), (x, binary(y)), F.binary_cross_entropy_with_logits
    yield "pictures", perceptron(8, 4, 8, last=(nn.Sigmoid(),)), (x, pictures), F.mse_loss
    yield "numbers", perceptron(8, 16, 1), curve(), F.mse_loss
    yield "Brier", perceptron(8, 16, 3, last=(nn.Softmax(1),)), (x, F.one_hot(y, 3).float()), F.mse_loss
    yield "log of softmax", perceptron(8, 16, 3, last=(nn.Softmax(1),)), (x, y), lambda a, b: F.nll_loss(a.log(), b)
    yield "pooled", pooled(), (x, y), F.cross_entropy


@pytest.mark.parametrize("name", [
    "raw", "log-softmax twice", "log-softmax", "soft targets", "smoothed", "sigmoid", "logits", "pictures", "numbers",
    "Brier", "log of softmax", "pooled",
])  # fmt: skip
def test_pairs_that_fit(name):
    model, data, loss = next(rest for own, *rest in healthy() if own == name)
    w = train(model, data, loss=loss, epochs=4)
    assert RULE not in [finding.rule for finding in w.findings]
