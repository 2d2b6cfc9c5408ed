"""Rows in the order in which they were stored."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch.nn import functional as F

RULE = "order_bug"


def ordered(rows=512):
    x, y = blobs(rows, classes=4)
    order = y.argsort(stable=True)
    return x[order], y[order]


def numbers(rows=512):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(3))
    y = x[:, :1] + x[:, 1:2].square()
    order = y.flatten().argsort()
    return x[order], y[order]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_classes_in_order():
    w = train(
        perceptron(8, 16, 4), ordered(), shuffle=False, epochs=6, batch_size=64, optimizer=torch.optim.SGD, rate=0.3
    )
    assert alarms(w)[0] == RULE


def test_numbers_in_order():
    w = train(perceptron(8, 16, 1), numbers(), shuffle=False, epochs=5, loss=F.mse_loss, rate=0.03)
    assert RULE in alarms(w)


@pytest.mark.parametrize("data", [ordered, numbers])
def test_shuffled(data):
    x, y = data()
    loss = F.mse_loss if y.is_floating_point() else F.cross_entropy
    assert RULE not in alarms(train(perceptron(8, 16, 1 if loss is F.mse_loss else 4), (x, y), loss=loss))


def test_batches_of_two_rows():
    w = train(perceptron(8, 16, 4), blobs(64, classes=4), batch_size=2, epochs=2, rate=1e-3)
    assert RULE not in alarms(w)
