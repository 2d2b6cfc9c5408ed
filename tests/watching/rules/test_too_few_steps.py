"""A run that ends while its loss falls steeply is found; one that has arrived is not."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train

from sounding.watching.rules import too_few_steps
from sounding.watching.rules.too_few_steps import _late_share


def test_one_epoch_is_not_enough():
    torch.manual_seed(0)
    data = blobs(640, classes=10, features=16, spread=2.0)
    w = train(perceptron(16, 64, 10), data, rate=1e-3, epochs=1)
    assert "too_few_steps" in alarms(w)


@pytest.mark.parametrize("epochs", [20, 60])
def test_a_run_that_has_arrived_is_silent(epochs):
    torch.manual_seed(0)
    w = train(perceptron(8, 32, 3), blobs(), rate=1e-2, epochs=epochs)
    assert "too_few_steps" not in [finding.rule for finding in w.findings]


def test_a_short_run_that_learns_is_silent():
    torch.manual_seed(0)
    w = train(perceptron(8, 32, 3), blobs(), rate=1e-2, epochs=5)
    assert "too_few_steps" not in alarms(w)


def test_validation_that_has_arrived_is_silent():
    torch.manual_seed(0)
    x, y = blobs(96 + 256, classes=10, features=16, spread=6.0)
    w = train(perceptron(16, 64, 10), (x[:96], y[:96]), validation=(x[96:], y[96:]), rate=1e-2, epochs=12)
    assert "too_few_steps" not in alarms(w)


def test_one_epoch_is_a_note_where_rows_held_out_gain_by_more_steps(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(too_few_steps, "_late_share", lambda losses: 0.0)

    def told(rows: int, epochs: int, *, validated: bool = True, rate: float = 1e-3) -> list[tuple[str, str, object]]:
        torch.manual_seed(0)
        x, y = blobs(rows + 200, classes=10, features=16, spread=2.0)
        validation = (x[rows:], y[rows:]) if validated else None
        w = train(perceptron(16, 64, 10), (x[:rows], y[:rows]), validation=validation, rate=rate, epochs=epochs)
        found = [one for one in w.findings if one.rule == "too_few_steps"]
        return [(one.rule, one.severity, one.remedy and one.remedy.set) for one in found]

    assert told(640, 1) == [("too_few_steps", "info", {"training.epochs": 3})]
    assert told(640, 1, validated=False) == []  # so nobody knows how many epochs these were
    assert told(640, 3) == []
    assert told(640, 1, rate=1e-4)[0][1] == "warning"  # after which there is next to nothing to see yet


def test_the_share_of_the_last_fifth():
    line = [100.0 - step for step in range(50)]  # fifths have means 95.5, ..., 65.5, 55.5; the first two steps 99.5
    assert _late_share(line) == pytest.approx(10 / (99.5 - 55.5))
    assert _late_share([2.0, *[1.0] * 49]) == 0.0
