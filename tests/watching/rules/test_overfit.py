"""Overfitting is found where the answers for validation rows get worse, not where they are worse than others."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn

from sounding import Trainer
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


def run(
    validation_losses: list[float],
    training_loss: float,
    scores: list[float] | None = None,
    *,
    higher_is_better: bool = True,
) -> list[tuple[str, str]]:
    """A run of ten steps an epoch whose losses are told, and scores if there are any."""
    layer = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.0)
    with watch(layer, optimizer, say=None) as w:
        for epoch, value in enumerate(validation_losses):
            for _ in range(10):
                w.loss(1.0 + (training_loss - 1.0) * epoch / len(validation_losses))
                optimizer.step()
            w.validation(value, score=scores and scores[epoch], higher_is_better=higher_is_better)
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


TURNING = [1.0, 0.8, 0.7, 0.75, 0.9, 1.1, 1.2, 1.3]
RISING = [0.1, 0.3, 0.5, 0.6, 0.65, 0.68, 0.71, 0.72]


def test_a_score_that_rises_or_holds_is_silent_whatever_the_loss_does():
    assert run(TURNING, training_loss=0.1) == [("overfit", "warning")]
    assert run(TURNING, training_loss=0.1, scores=RISING) == []
    assert run(TURNING, training_loss=0.1, scores=[0.1, 0.3, 0.7, 0.71, 0.69, 0.71, 0.70, 0.69]) == []
    errors = [1 - score for score in RISING]
    assert run(TURNING, training_loss=0.1, scores=errors, higher_is_better=False) == []


def test_a_score_that_gets_worse_with_the_loss_is_harm():
    falling = [0.1, 0.3, 0.7, 0.68, 0.62, 0.6, 0.58, 0.55]
    assert run(TURNING, training_loss=0.1, scores=falling) == [("overfit", "warning")]
    errors = [1 - score for score in falling]
    assert run(TURNING, training_loss=0.1, scores=errors, higher_is_better=False) == [("overfit", "warning")]
    small = [0.30, 0.11, 0.10, 0.101, 0.114, 0.116, 0.118]  # which without a score is a note at the end
    assert run(small, training_loss=0.1, scores=falling[:7]) == [("overfit", "warning")]


def test_one_lucky_score_is_no_peak():
    assert run(TURNING, training_loss=0.1, scores=[0.1, 0.3, 0.5, 0.9, 0.55, 0.56, 0.54, 0.55]) == []


def test_the_trainer_tells_the_headline():
    torch.manual_seed(0)
    data, validation = halves(64, spread=3.0)

    def found(measured: list[float], **named: object) -> list[str]:
        """What is found where so much is measured after the epochs."""
        left = iter(measured)
        trainer = Trainer(
            perceptron(8, 128, 3),
            **{"lr": 1e-2, "epochs": 60, "batch_size": 32, "progress": False, "plan": "given", "patience": 0, **named},
            metrics=lambda outputs, target: {"map50": next(left)},
        )
        trainer.fit(data, validation)
        return [finding.rule for finding in trainer.findings if finding.severity == "warning"]

    rising, falling = [epoch / 60 for epoch in range(60)], [1 - epoch / 60 for epoch in range(60)]
    assert "overfit" in found(rising)  # the loss alone
    assert "overfit" not in found(rising, headline="map50")
    assert "overfit" not in found(falling, headline="map50", higher_is_better=False)
    assert "overfit" in found(falling, headline="map50")
    assert "overfit" not in found(rising, monitor="map50", maximize=True)
