"""Rare classes."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from programs import alarms, perceptron, train
from torch.nn import functional as F

RULE = "class_imbalance"


def rare(ones: int, zeros: int, distance: float, seed: int = 0):
    """Two overlapping clouds, one of them small; (N, 2) and (N,)."""
    draws = torch.Generator().manual_seed(seed)
    y = torch.cat([torch.zeros(zeros), torch.ones(ones)]).long()
    return torch.randn(len(y), 2, generator=draws) + distance * y[:, None], y


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def found(w):
    return next(finding for finding in w.findings if finding.rule == RULE)


def test_a_rare_class_that_is_never_found():
    w = train(perceptron(2, 16, 2), rare(25, 600, 0.9), validation=rare(30, 290, 0.9, seed=1), epochs=8)
    assert RULE in alarms(w)
    assert found(w).evidence["classes"] == [1]
    assert found(w).evidence["rows"] == 30
    assert "validation" in found(w).confirmed


def test_with_the_binary_loss_too():
    x, y = rare(25, 600, 0.9)
    held, truth = rare(30, 290, 0.9, seed=1)
    w = train(
        perceptron(2, 16, 1), (x, y.float()[:, None]), loss=F.binary_cross_entropy_with_logits,
        validation=(held, truth.float()[:, None]), epochs=8,
    )  # fmt: skip
    assert RULE in alarms(w)


def test_without_validation_recorded_batches_tell():
    w = train(perceptron(2, 16, 2), rare(40, 600, 0.5), epochs=8, batch_size=64)
    assert RULE in alarms(w)
    assert "recorded" in found(w).confirmed


def test_weights_in_the_loss():
    loss = partial(F.cross_entropy, weight=torch.tensor([1.0, 1.5]))
    w = train(perceptron(2, 16, 2), rare(25, 600, 0.9), validation=rare(30, 290, 0.9, seed=1), loss=loss, epochs=8)
    assert RULE not in alarms(w)


def test_a_rare_class_that_is_found_and_one_that_is_not_rare():
    w = train(perceptron(2, 16, 2), rare(25, 600, 4.0), validation=rare(30, 290, 4.0, seed=1), epochs=8)
    assert RULE not in alarms(w)
    w = train(perceptron(2, 16, 2), rare(200, 600, 0.4), validation=rare(30, 290, 0.4, seed=1), epochs=8)
    assert RULE not in alarms(w)
