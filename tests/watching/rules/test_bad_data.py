"""Batches from which nothing can be learned."""

from __future__ import annotations

import math

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch.nn import functional as F

from sounding import watch

RULE = "bad_data"


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def found(w):
    return next(finding for finding in w.findings if finding.rule == RULE)


def test_a_gap_in_the_inputs_is_the_cause_of_a_loss_that_is_lost():
    x, y = blobs()
    x[40, 2] = math.nan
    w = train(perceptron(8, 16, 3), (x, y), shuffle=False)
    assert alarms(w)[0] == RULE
    assert found(w).evidence["rows"] == [8]  # of the second batch of 32
    assert "numerics" in alarms(w)


def test_a_gap_in_the_targets():
    x, _ = blobs()
    y = x[:, :1].clone()
    y[3] = math.nan
    w = train(perceptron(8, 16, 1), (x, y), loss=F.mse_loss, shuffle=False)
    assert alarms(w)[0] == RULE
    assert found(w).evidence["where"] == "targets"


def test_all_rows_are_the_same():
    x, y = blobs()
    assert alarms(train(perceptron(8, 16, 3), (x[:1].expand_as(x).clone(), y)))[0] == RULE
    w = train(perceptron(8, 16, 1), (x[:1].expand_as(x).clone(), x[:, :1]), loss=F.mse_loss)
    assert alarms(w)[0] == RULE


def test_equal_numbers_beside_codes_that_differ_are_no_repeated_rows():
    class Beside(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = torch.nn.Embedding(400, 8), torch.nn.Linear(10, 1)

        def forward(self, numbers, codes):
            return self.head(torch.cat([numbers, self.embed(codes[:, 0])], 1))

    numbers, codes = torch.randn(4, 2).repeat(100, 1), torch.arange(400)[:, None]
    y = torch.randn(400, 1)
    for told, alarm in ((codes, False), (torch.zeros_like(codes), True)):
        model = Beside()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        with watch(model, optimizer, say=None) as w:
            for rows in torch.arange(400).repeat(3).split(50):
                optimizer.zero_grad()
                F.mse_loss(model(numbers[rows], told[rows]), y[rows]).backward()
                optimizer.step()
        assert (RULE in alarms(w)) == alarm


def test_targets_of_a_binary_loss_that_are_no_probabilities():
    x, y = blobs(classes=2)
    w = train(perceptron(8, 16, 1), (x, 2 * y.float()[:, None] - 1), loss=F.binary_cross_entropy_with_logits)
    assert alarms(w)[0] == RULE


def test_constant_columns_are_a_note():
    x, y = blobs()
    x[:, 3] = 7
    w = train(perceptron(8, 16, 3), (x, y))
    assert RULE not in alarms(w)
    assert found(w).evidence["columns"] == [3]


def test_few_different_rows_that_agree_with_one_another():
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(64, 1)
    either = (corners[:, 0] != corners[:, 1]).long()
    assert RULE not in [f.rule for f in train(perceptron(2, 16, 2), (corners, either)).findings]


def test_data_without_fault():
    assert RULE not in [f.rule for f in train(perceptron(8, 16, 3), blobs()).findings]


def test_a_few_targets_that_lie_far_out():
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(512, 8, generator=draws)
    y = x[:, :1] + 0.1 * torch.randn(512, 1, generator=draws)
    far = y.clone()
    far[::128] = 300.0
    w = train(perceptron(8, 16, 1), (x, far), loss=F.mse_loss, rate=1e-3)
    (finding,) = [finding for finding in w.findings if finding.rule == "bad_data"]
    assert finding.severity == "warning"
    assert finding.evidence["outliers"] / finding.evidence["targets"] == pytest.approx(4 / 512, abs=0.01)
    assert finding.evidence["share"] > 0.99
    heavy = y.sign() * y.abs().exp()  # skewed, as prices are
    for target in (y, heavy):
        assert "bad_data" not in alarms(train(perceptron(8, 16, 1), (x, target), loss=F.mse_loss, rate=1e-3))
