"""A network that is too narrow is found by one that is not; what nobody could learn is no fault of the network."""

from __future__ import annotations

import torch
from programs import alarms, blobs, perceptron, train


def test_one_hidden_unit_for_ten_classes():
    torch.manual_seed(0)
    w = train(perceptron(16, 1, 10), blobs(1024, classes=10, features=16), epochs=12)
    assert alarms(w)[0] == "underfit"
    assert w.findings[0].evidence["widths"] == [1]
    assert w.findings[0].evidence["loss_of_wider"] < 0.8 * w.findings[0].evidence["loss_held_out"]


def test_a_network_that_is_wide_enough_is_silent():
    torch.manual_seed(0)
    w = train(perceptron(16, 32, 10), blobs(1024, classes=10, features=16), epochs=12)
    assert "underfit" not in [finding.rule for finding in w.findings]


def test_classes_that_overlap_are_silent():
    torch.manual_seed(0)
    w = train(perceptron(8, 8, 3), blobs(1024, spread=8.0), epochs=12)
    assert "underfit" not in [finding.rule for finding in w.findings]


def test_a_linear_model_is_silent():
    torch.manual_seed(0)
    w = train(torch.nn.Linear(8, 3), blobs(1024, spread=4.0), epochs=12)
    assert "underfit" not in [finding.rule for finding in w.findings]
