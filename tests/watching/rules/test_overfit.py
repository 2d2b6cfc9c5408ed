"""Overfitting is found where the answers for validation rows get worse, not where they are worse than others."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn

from sounding.watching import watch


def halves(rows: int, spread: float) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Training and validation rows of the same classes."""
    x, y = blobs(rows + 512, spread=spread)
    return (x[:rows], y[:rows]), (x[rows:], y[rows:])


@pytest.mark.parametrize("rate", [1e-2, 3e-3])
def test_few_rows_learned_by_heart(rate):
    torch.manual_seed(0)
    data, validation = halves(64, spread=3.0)
    w = train(perceptron(8, 128, 3), data, validation=validation, rate=rate, epochs=60)
    assert alarms(w)[0] == "overfit"
    evidence = w.findings[0].evidence
    losses = [one.loss for one in w.players["model"].validations]
    assert evidence["best_step"] == 2 * (losses.index(min(losses)) + 1)  # two steps an epoch
    assert evidence["training_losses"][1] < evidence["training_losses"][0]


def test_many_rows_are_silent():
    torch.manual_seed(0)
    data, validation = halves(1024, spread=2.0)
    w = train(perceptron(8, 16, 3), data, validation=validation, rate=3e-3, epochs=12)
    assert "overfit" not in [finding.rule for finding in w.findings]


def test_a_gap_under_dropout_is_silent():
    torch.manual_seed(0)
    data, validation = halves(128, spread=1.5)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 3))
    w = train(model, data, validation=validation, rate=3e-3, epochs=15)
    assert "overfit" not in alarms(w)


def run(validation_losses: list[float], training_loss: float) -> list[tuple[str, str]]:
    """A run of ten steps an epoch whose losses are told."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    with watch(layer, optimizer, say=None) as w:
        for epoch, value in enumerate(validation_losses):
            for _ in range(10):
                w.loss(1.0 + (training_loss - 1.0) * epoch / len(validation_losses))
                optimizer.step()
            w.validation(value)
    return [(one.rule, one.severity) for one in w.findings if one.rule == "overfit"]


def test_losses_that_are_told():
    turning = [1.0, 0.8, 0.7, 0.75, 0.9, 1.1, 1.2, 1.3]
    assert run(turning, training_loss=0.1) == [("overfit", "warning")]
    assert run(turning, training_loss=1.0) == []  # nothing is learned by heart: something else is wrong
    assert run([1.0, 0.8, 0.7, 0.71, 0.72, 0.71, 0.73, 0.72], training_loss=0.1) == []
    assert run([1.0, 0.8, 0.7, 0.75, 0.9, 1.1], training_loss=0.1) == []  # not yet three in a row


def test_a_rise_that_may_be_chance_is_told_at_the_end_only():
    assert run([1.0, 0.5, 0.5, 0.6, 0.6, 2.0], training_loss=0.1) == [("overfit", "info")]


def test_a_small_rise_is_told_at_the_end_only():
    assert run([0.30, 0.11, 0.10, 0.101, 0.114, 0.116, 0.118], training_loss=0.1) == [("overfit", "info")]
