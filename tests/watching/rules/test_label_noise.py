"""Labels that are wrong at random are found; classes that overlap, or are hard, are not taken for it."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch.nn import functional as F

from sounding.watching.labels import next_asking


def noisy(share: float, classes: int = 5, spread: float = 1.0, rows: int = 512):
    """Blobs of which a share bears another label, and their true labels."""
    x, y = blobs(rows, classes=classes, spread=spread)
    draws = torch.Generator().manual_seed(2)
    wrong = torch.rand(rows, generator=draws) < share
    other = (y + torch.randint(1, classes, (rows,), generator=draws)) % classes
    return (x, torch.where(wrong, other, y)), y


@pytest.mark.parametrize("share", [0.25, 0.4])
def test_wrong_labels(share):
    torch.manual_seed(0)
    data, _ = noisy(share)
    w = train(perceptron(8, 64, 5), data, rate=3e-3, epochs=12)
    assert alarms(w)[0] == "label_noise"
    evidence = w.findings[0].evidence
    assert evidence["share"] == pytest.approx(share, abs=0.12)
    seen, example = w.players["model"], evidence["examples"][0]
    at = [step.number for step in seen.steps].index(example["step"])
    assert seen.targets[at][example["row"]] == example["label"]


def test_most_examples_listed_are_wrong_indeed():
    torch.manual_seed(0)
    (x, y), truth = noisy(0.25)
    w = train(perceptron(8, 64, 5), (x, y), rate=3e-3, epochs=12)
    finding = next(found for found in w.findings if found.rule == "label_noise")
    listed = [(one["label"], one["expected"]) for one in finding.evidence["examples"]]
    pairs = {(int(a), int(b)) for a, b in zip(y, truth, strict=True) if a != b}
    assert len(listed) >= 5
    assert set(listed) <= pairs


@pytest.mark.parametrize("spread", [1.0, 3.0, 6.0])
def test_clean_labels_of_classes_that_overlap_are_silent(spread):
    torch.manual_seed(0)
    w = train(perceptron(8, 64, 5), noisy(0.0, spread=spread)[0], rate=3e-3, epochs=12)
    assert "label_noise" not in [finding.rule for finding in w.findings]


def test_two_classes_with_a_gradual_border_are_silent():
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    y = (torch.rand(512) < (2 * x[:, 0] + x[:, 1]).sigmoid()).float()
    w = train(perceptron(8, 32, 1), (x, y), loss=lambda o, t: F.binary_cross_entropy_with_logits(o[:, 0], t), rate=3e-3)
    assert "label_noise" not in alarms(w)


def test_a_little_noise_is_no_alarm():
    torch.manual_seed(0)
    w = train(perceptron(8, 64, 5), noisy(0.05)[0], rate=3e-3, epochs=12)
    assert "label_noise" not in alarms(w)


def test_labels_are_looked_at_where_no_time_for_experiments_is_left(monkeypatch):
    monkeypatch.setattr("sounding.watching.watcher.CALM_ALLOWANCE", 0.0)
    monkeypatch.setattr("sounding.watching.watcher.CALM", 0.0)
    torch.manual_seed(0)
    w = train(perceptron(8, 64, 5), noisy(0.4)[0], rate=3e-3, epochs=12)
    assert "label_noise" in alarms(w)


def test_rules_look_at_labels_after_the_same_steps():
    assert [next_asking(done) for done in (0, 30, 44, 45, 68, 150)] == [30, 45, 45, 68, 102, 153]
    assert [next_asking(done) for done in (200, 300, 459, 460)] == [230, 460, 460, 920]
