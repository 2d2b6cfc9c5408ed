"""Layers without an activation between them."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

RULE = "missing_nonlinearity"


def rings(rows=256):
    """Two classes, one around the other: no line parts them. (N, 2) and (N,)."""
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 2, generator=draws)
    return x, (x.square().sum(1) > 1.4).long()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("between", [nn.Identity(), nn.Dropout(0.1), nn.BatchNorm1d(32), nn.LeakyReLU(1.0)])
def test_a_network_without_activations(between):
    model = nn.Sequential(nn.Linear(2, 32), between, nn.Linear(32, 2))
    w = train(model, rings(), epochs=6)
    assert alarms(w)[0] == RULE
    found = next(finding for finding in w.findings if finding.rule == RULE)
    assert found.evidence["layers"] == [["0", "2"]]


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_where_a_line_is_all_it_takes_it_is_a_note(noise):
    x = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
    y = x[:, :1] - x[:, 1:2] + noise * torch.randn(256, 1)
    w = train(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 1)), (x, y), loss=F.mse_loss, epochs=6)
    assert RULE not in alarms(w)
    assert RULE in [finding.rule for finding in w.findings]


class Separable(nn.Module):
    """Convolution by channel, then over channels, as in MobileNet."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Unflatten(1, (4, 2)), nn.Conv1d(4, 8, 1), nn.ReLU(),
            nn.Conv1d(8, 8, 1, groups=8), nn.Conv1d(8, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize(
    "model",
    [
        lambda: perceptron(8, 16, 16, 3),
        lambda: nn.Sequential(nn.Linear(8, 2), nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 3)),  # low rank
        Separable,
    ],
)
def test_what_is_meant_so_is_no_fault(model):
    w = train(model(), blobs(), epochs=6)
    assert RULE not in [finding.rule for finding in w.findings]
