"""Answers that are known before they are asked for."""

from __future__ import annotations

import pytest
import torch
from programs import alarms, blobs, perceptron, train
from torch import nn
from torch.nn import functional as F

RULE = "leak"
LETTERS = 12


class Reader(nn.Module):
    """Predicts the next letter at each place: (N, T) to (N, T, V)."""

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(LETTERS, 16), nn.Linear(16, LETTERS)
        self.attend, self.causal = nn.MultiheadAttention(16, 2, batch_first=True), causal
        self.places = nn.Parameter(torch.randn(16, 16))

    def forward(self, x):
        states = self.embed(x) + self.places[: x.shape[1]]
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1]) if self.causal else None
        return self.head(states + self.attend(states, states, states, attn_mask=mask, is_causal=self.causal)[0])


def texts(rows=256):
    letters = torch.randint(0, LETTERS, (rows, 17), generator=torch.Generator().manual_seed(0))
    return letters[:, :-1], letters[:, 1:]


def by_place(outputs, y):
    return F.cross_entropy(outputs.flatten(0, 1), y.flatten())


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def found(w):
    return next(finding for finding in w.findings if finding.rule == RULE)


@pytest.mark.parametrize(
    "loss", [by_place, lambda out, y: F.cross_entropy(out.transpose(1, 2), y)], ids=["places in rows", "places last"]
)
def test_the_future_leaks_where_the_mask_is_missing(loss):
    assert alarms(train(Reader(causal=False), texts(), loss=loss, epochs=1))[0] == RULE
    assert RULE not in alarms(train(Reader(causal=True), texts(), loss=loss, epochs=1))


def test_seeing_all_is_no_leak_where_other_things_are_asked():
    x, _ = texts()
    assert RULE not in alarms(train(Reader(causal=False), (x, x.flip(1)), loss=by_place, epochs=1))


def test_a_column_made_from_the_target():
    x, y = blobs()
    told = y[:, None] + 0.01 * torch.randn(len(y), 1)
    w = train(perceptron(9, 16, 3), (torch.cat([x, told], 1), y))
    assert RULE in alarms(w)
    assert found(w).evidence["column"] == 8
    told = (3 * x[:, :1] + x[:, 1:2].square()).exp()
    w = train(perceptron(9, 16, 1), (torch.cat([x, told], 1), told.log()), loss=F.mse_loss)
    assert found(w).evidence["column"] == 8


def test_columns_that_all_tell_something():
    assert RULE not in alarms(train(perceptron(8, 16, 3), blobs(spread=0.1)))


def far(rows):
    x = torch.randn(rows, 8, generator=torch.Generator().manual_seed(rows))
    return x, (x[:, 0] + x[:, 1] > 0).long()


def test_validation_rows_that_were_trained_on():
    x, y = far(512)
    w = train(perceptron(8, 16, 2), (x, y), validation=(x[:128], y[:128]), epochs=8)
    assert RULE in alarms(w)
    assert found(w).evidence["rows"] == 128
    new = far(64)
    half = torch.cat([x[:64], new[0]])[(order := torch.randperm(128))], torch.cat([y[:64], new[1]])[order]
    assert RULE in alarms(train(perceptron(8, 16, 2), (x, y), validation=half, epochs=8))


def test_validation_rows_that_are_new_and_the_training_rows_themselves():
    assert RULE not in alarms(train(perceptron(8, 16, 2), far(512), validation=far(128), epochs=8))
    assert RULE not in alarms(train(perceptron(8, 16, 2), far(512), validation=far(512), epochs=8))


def test_rows_that_repeat_by_themselves():
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]).repeat(32, 1)
    either = (corners[:, 0] != corners[:, 1]).long()
    some = corners.sum(1) < 2
    w = train(perceptron(2, 16, 2), (corners, either), validation=(corners[some], either[some]))
    assert RULE not in alarms(w)
