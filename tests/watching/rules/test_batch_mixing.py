"""Examples that reach into one another, and those that only seem to."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

RULE = "batch_mixing"


class Changed(nn.Module):
    """Does something between two layers."""

    def __init__(self, change) -> None:
        super().__init__()
        self.first, self.second, self.change = nn.Linear(8, 8), nn.Linear(8, 3), change

    def forward(self, x):
        return self.second(self.change(self.first(x)).relu())


class Recurrent(nn.Module):
    """Reads eight numbers one after the other."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.layer, self.head = nn.GRU(1, 8, batch_first=batch_first), nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.layer(x[:, :, None])[0][:, -1])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.t().reshape(x.shape),
        lambda x: x.softmax(0),
        lambda x: x - x.mean(0),
    ],
    ids=["reshape", "softmax", "mean"],
)
def test_axes_mixed_up(change):
    w = train(Changed(change), blobs(), epochs=1)
    assert alarms(w)[0] == RULE


def test_a_recurrent_layer_that_takes_the_batch_for_time():
    assert alarms(train(Recurrent(batch_first=False), blobs(), epochs=1))[0] == RULE
    assert RULE not in alarms(train(Recurrent(batch_first=True), blobs(), epochs=1))


class Attention(nn.Module):
    """Within an example."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(1, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x[:, :, None])
        return self.head(self.attend(x, x, x)[0].mean(1))


class Neighbours(nn.Module):
    """Nodes of a graph, all of them in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 3)
        self.register_buffer("links", torch.ones(64, 64) / 64 + torch.eye(64))

    def forward(self, x):
        return self.second(self.links @ self.first(x).relu())


@pytest.mark.parametrize(
    "model",
    [
        lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3)),
        lambda: nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, 3)),
        Attention,
    ],
)
def test_networks_that_keep_examples_apart(model):
    assert RULE not in alarms(train(model(), blobs(), epochs=2))


def test_nodes_of_a_graph():
    assert RULE not in alarms(train(Neighbours(), blobs(64), batch_size=64, epochs=4, shuffle=False))


def test_a_loss_that_compares_examples():
    def contrastive(features, y):
        features = F.normalize(features, dim=1)
        alike = (features @ features.T - 10 * torch.eye(len(y))) / 0.5
        return F.cross_entropy(alike, (torch.arange(len(y)) + 1) % len(y))

    assert RULE not in alarms(train(perceptron(8, 16, 4), blobs(), loss=contrastive, epochs=2))
