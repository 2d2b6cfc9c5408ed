"""Labels that follow a fault are found: constant, moved, or unlike those of validation."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch.nn import functional as F


def network(classes: int = 5):
    torch.manual_seed(0)
    return perceptron(8, 64, classes)


def halves(classes: int = 5, spread: float = 1.0):
    x, y = blobs(1024, classes=classes, spread=spread)
    return (x[:512], y[:512]), (x[512:], y[512:])


@pytest.mark.parametrize("label", [0, 3])
def test_every_label_the_same(label):
    x, y = blobs(256, classes=5)
    w = train(network(), (x, torch.full_like(y, label)))
    assert alarms(w)[0] == "corrupt_labels"
    assert w.findings[0].severity == "error"
    assert w.findings[0].evidence["label"] == label
    assert w.findings[0].evidence["step"] == 40  # the end: rows sorted by class begin like this


def test_every_binary_label_the_same():
    x, _ = blobs(256)
    w = train(network(1), (x, torch.zeros(256)), loss=lambda o, t: F.binary_cross_entropy_with_logits(o.squeeze(1), t))
    assert alarms(w)[0] == "corrupt_labels"


def test_labels_shifted_by_one_in_training():
    (x, y), validation = halves()
    w = train(network(), (x, (y + 1) % 5), validation=validation, epochs=10)
    assert alarms(w)[0] == "corrupt_labels"
    taken = w.findings[0].evidence["taken_for"]
    assert taken == {str(one): (one + 1) % 5 for one in range(5)}


def test_one_class_under_the_name_of_another():
    (x, y), validation = halves()
    w = train(network(), (x, torch.where(y == 2, 4, y)), validation=validation, epochs=10)
    assert alarms(w)[0] == "corrupt_labels"
    assert w.findings[0].evidence["taken_for"] == {"2": 4}


def test_a_third_of_a_class_bears_the_name_of_another():
    (x, y), _ = halves()
    moved = (y == 2) & (torch.rand(512, generator=torch.Generator().manual_seed(3)) < 0.35)
    w = train(network(), (x, torch.where(moved, 4, y)), rate=3e-3, epochs=10)
    assert alarms(w)[0] == "corrupt_labels"
    assert (w.findings[0].evidence["label"], w.findings[0].evidence["taken_for"]) == (2, 4)


@pytest.mark.parametrize("spread", [1.0, 3.0, 6.0])
def test_clean_labels_are_silent(spread):
    data, validation = halves(spread=spread)
    w = train(network(), data, validation=validation, epochs=10)
    assert "corrupt_labels" not in [finding.rule for finding in w.findings]


def test_a_rare_class_that_is_missed_is_silent():
    (x, y), validation = halves(spread=4.0)
    kept = (y != 2) | (torch.arange(512) % 8 == 0)
    w = train(network(), (x[kept], y[kept]), validation=validation, epochs=10)
    assert "corrupt_labels" not in alarms(w)


def test_a_class_that_never_occurs_is_told():
    data, _ = halves()
    w = train(network(6), data, epochs=10)
    assert [(one.rule, one.severity) for one in w.findings] == [("corrupt_labels", "info")]
    assert w.findings[0].evidence["classes"] == [5]


def test_residuals_against_zero_are_silent():
    x, _ = blobs(256)
    w = train(network(1), (x, torch.zeros(256, 1)), loss=F.mse_loss)
    assert "corrupt_labels" not in alarms(w)
