from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sounding.training.speed import Speed, count_operations, matrix_peak


def test_a_linear_layer_forward_and_backward_by_hand():
    layer, x = nn.Linear(7, 5), torch.ones(3, 7, requires_grad=True)
    forward = 2 * 3 * 7 * 5
    assert count_operations(lambda: layer(x)) == forward
    assert count_operations(lambda: layer(x).sum().backward()) == 3 * forward


def test_a_convolution_by_hand():
    layer = nn.Conv2d(2, 4, 3, padding=1)
    assert count_operations(lambda: layer(torch.ones(5, 2, 8, 8))) == 2 * 5 * 8 * 8 * 4 * 2 * 9


@pytest.mark.parametrize("training", [False, True])
def test_an_lstm_by_hand(training):
    layer, x = nn.LSTM(6, 8, batch_first=True), torch.ones(3, 10, 6)
    forward = 10 * 2 * 3 * 4 * 8 * (6 + 8)
    with torch.set_grad_enabled(training):
        assert count_operations(lambda: layer(x)) == forward


def test_attention_by_hand():
    q = torch.ones(2, 4, 16, 8)
    counted = count_operations(lambda: F.scaled_dot_product_attention(q, q, q))
    assert counted == 2 * (2 * 2 * 4 * 16 * 16 * 8)


def test_the_peak_is_the_fastest_of_the_products(monkeypatch):
    now, marks = (
        0.0,
        [0.0, 0.0, 0.5, 0.5, 0.5, 0.75, 9.0],
    )  # the limit, then begin and end of two products of 0.5 and 0.25 s
    ticks = iter(marks)
    monkeypatch.setattr("sounding.training.speed.time.perf_counter", lambda: next(ticks))
    assert matrix_peak(torch.float32, seconds=now + 0.6) == 2 * 1024**3 / 0.25


def test_fraction():
    speed = Speed(operations=300, seconds=2.0, peak=600.0)
    assert (speed.reached, speed.fraction) == (150.0, 0.25)
