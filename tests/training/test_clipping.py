from __future__ import annotations

import math

import pytest
import torch

from sounding.training.clipping import Clipping


def weight(*gradient: float) -> torch.nn.Parameter:
    parameter = torch.nn.Parameter(torch.zeros(len(gradient)))
    parameter.grad = torch.tensor(gradient)
    return parameter


@pytest.mark.parametrize(
    ("clipping", "expected"),
    [
        (Clipping(norm=1.0), [0.6, 0.8]),
        (Clipping(value=3.5), [3.0, 3.5]),
        (Clipping(percentile=50, recent=[1.0, 2.5]), [1.5, 2.0]),
        (Clipping(value=3.0, norm=math.sqrt(18) / 2), [1.5, 1.5]),
    ],
)
def test_cuts_by_hand(clipping, expected):
    parameter = weight(3.0, 4.0)
    before = clipping([parameter])
    assert before.item() == 5.0  # whatever is cut
    assert parameter.grad.tolist() == pytest.approx(expected, rel=1e-5)


def test_nothing_set_is_nothing_measured():
    parameter = weight(3.0, 4.0)
    assert Clipping()([parameter]) is None
    assert parameter.grad.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("clipping", [Clipping(norm=1.0), Clipping(value=1.0), Clipping(percentile=50)])
def test_what_is_not_finite_shows(clipping):
    assert not math.isfinite(clipping([weight(math.inf, 1.0)]).item())


def test_percentiles_remember_whole_norms_though_value_cuts_them():
    clipping = Clipping(value=0.1, percentile=50)
    for size in (3.0, 5.0):
        clipping([weight(size)])
    assert clipping.recent == [3.0, 5.0]
